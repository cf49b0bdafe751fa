"""Names, keys and values of an attacker, through a real Postgres: they arrive exactly, or are refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from etl.errors import DataError
from etl.sqlserver import checks as sink_checks

from dev.sandbox.pipeline_fixture import PipelineFixture
from dev.sandbox.pipelines import window
from dev.sandbox.postgres import Postgres
from tests.harness.tables import quoted, table

NAMES = [
    "k'\"]; DROP TABLE x--",
    "ключ",
    "at[",
    "a?b",
    "%s %(x)s",
    "$1 $$",
    "/* */",
    "e\u0301",
    "漢🚚",
    "back\\slash",
    "=1+1",
]
TABLE = "t\"'];--"
VALUES = {
    "a formula": "=HYPERLINK(\"http://x\",\"y\")",
    "other formulas": "+1\t@SUM(A1)\t-2",
    "sql": "'; DROP TABLE orders; --",
    "a template": "{{ 7 * 7 }} {% raw %} {# #}",
    "controls": "".join(map(chr, range(1, 32))) + "\x7f\x80\x9f",
    "line ends": "a\r\nb\rc\nd\\\ne\u2028f\u2029g",
    "no characters": "x\ufffe\uffff\U0010ffff\ufeff",
    "lone accents": "\u0301\u0308",
    "directions": "\u202eabc\u202c\u200d\u200b",
    "spaces": " \xa0\u3000a \t",
    "a megabyte": "x\u00e9漢🚚'" * 100_000,
    "a backslash": "\\",
    "nothing": "",
}  # fmt: skip


def insert(made: PipelineFixture, *values: object) -> None:
    names = ", ".join([*list(made.pipeline.columns)[: len(values)], made.pipeline.version])
    markers = ", ".join(["%s"] * len(values))
    made.change(f"INSERT INTO t ({names}) VALUES ({markers}, '2026-01-01')", *values)


@pytest.fixture
def made(postgres: Postgres, sink_url: str, tmp_path: Path) -> Iterator[PipelineFixture]:
    with table(postgres, sink_url, tmp_path) as made:
        yield made


@pytest.mark.parametrize("steps", ["separate", "fused, with pushdown"])
def test_names_that_need_quoting_go_all_the_way(postgres: Postgres, sink_url: str, tmp_path: Path, steps: str) -> None:
    columns = dict.fromkeys(NAMES, "text null") | {NAMES[0]: "varchar(40)", NAMES[1]: "integer", "at[": "timestamptz"}
    pipeline: dict[str, Any] = {
        "source": {"schema_name": "public", "table": TABLE}, "columns": columns, "key": NAMES[:2], "version": "at[",
        "filter": f"{quoted(NAMES[-1])} <> 'no' AND {quoted('a?b')} LIKE '%?%' AND {quoted(NAMES[1])} > 0",
        "pushdown": steps != "separate",
    }  # fmt: skip
    with table(postgres, sink_url, tmp_path, **pipeline) as made:
        for number in (0, 1, 2):
            values = f"'key''\\', {number}, '2026-01-01', 'is ? it', {', '.join(['$$v$$'] * 7)}"
            made.change(f"INSERT INTO {quoted(TABLE)} VALUES ({values})")
        made.run("run", None, *([] if steps == "separate" else ["run"]))
        assert made.sink_rows() == made.source_rows(f"{quoted(NAMES[1])} > 0")
        assert made.query(sink_checks.count_breaches(made.pipeline, window(), [])) == [(0, 0)]
        assert made.query(sink_checks.count_duplicate_keys(made.pipeline, window())) == [(0,)]
        completed = made.cli("run", "$(touch /tmp/x) --help '; {{ run }}")
        assert completed.returncode == 0, completed.stderr
        assert made.audits()[0]["run_id"] == "$(touch /tmp/x) --help '; {{ run }}"


def test_a_table_of_the_longest_names_is_made(postgres: Postgres, sink_url: str, tmp_path: Path) -> None:
    columns = {"k": "integer", "é" * 31: "text null", "at": "timestamptz"}
    with table(postgres, sink_url, tmp_path, columns=columns) as made:
        insert(made, 1, "x")
        made.run()
        assert made.sink_rows() == made.source_rows()


@pytest.mark.parametrize("step", ["separate", "run"])
def test_values_arrive_exactly(made: PipelineFixture, step: str) -> None:
    for key, value in VALUES.items():
        insert(made, key, value)
    made.run("run", None, *([] if step == "separate" else [step]))
    found = {key: row[1] for (key,), row in made.sink_rows().items()}
    assert found == VALUES
    assert made.run("again")["load"].unchanged == len(VALUES)


def test_values_arrive_exactly_as_keys(made: PipelineFixture) -> None:
    keys = [value for value in VALUES.values() if len(value) <= 40 and not value.endswith(" ")]
    for key in keys:
        insert(made, key, "")
    made.run()
    assert sorted(key for (key,) in made.sink_rows()) == sorted(keys)
    assert made.run("again")["load"].unchanged == len(keys)


def test_keys_that_differ_in_case_or_form_only_stay_apart(made: PipelineFixture) -> None:
    keys = ["name", "NAME", "straße", "strasse", "é", "e\u0301", "\uff41", "a", "ﬁ", "fi", "İ", "i"]
    keys += ["a\u200b", "か", "カ"]
    for key in keys:
        insert(made, key, key)
    made.run()
    assert made.sink_rows() == made.source_rows()
    assert {key for (key,) in made.sink_rows()} == set(keys)


def test_a_key_with_a_space_at_its_end_names_row_key_and_column(made: PipelineFixture) -> None:
    insert(made, "a", "x")
    insert(made, "a ", "y")
    with pytest.raises(DataError, match=r"The first is k=a : k ends in a space"):
        made.run()
    assert not made.sink_exists() or made.sink_rows() == {}


def test_a_message_is_short_and_on_one_line_whatever_the_key(postgres: Postgres, sink_url: str, tmp_path: Path) -> None:
    columns = {"k": "varchar(4)", "v": "text null", "at": "timestamptz"}
    with table(postgres, sink_url, tmp_path, columns=columns) as made:
        made.change("ALTER TABLE t ALTER k TYPE text")
        insert(made, "\x1b[2J\n" * 500, "x")
        with pytest.raises(DataError) as caught:
            made.run()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 2000
    assert "k=\\x1b[2J\\n" in str(caught.value)


@pytest.mark.parametrize(("kept", "condition"), [(["a ", "b"], "v <> 'a'"), (["a ", "b"], "NOT v IN ('a', 'c')")])
def test_a_filter_takes_notice_of_spaces_at_the_end_in_the_sink_too(
    postgres: Postgres, sink_url: str, tmp_path: Path, kept: list[str], condition: str
) -> None:
    with table(postgres, sink_url, tmp_path, filter=condition) as made:
        for value in ("a", "a ", "b"):
            insert(made, f"key {value}!", value)
        made.run()
        assert sorted(row[1] for row in made.sink_rows().values()) == kept
        assert made.query(sink_checks.count_breaches(made.pipeline, window(), [])) == [(0, 0)]


def test_a_filter_takes_no_notice_of_what_pads_a_char(postgres: Postgres, sink_url: str, tmp_path: Path) -> None:
    columns = {"k": "varchar(40)", "v": "char(5)", "at": "timestamptz"}
    condition = "v LIKE '%R%' AND v = 'EUR' AND NOT v IN ('EU', 'USD')"
    with table(postgres, sink_url, tmp_path, columns=columns, filter=condition) as made:
        insert(made, "1", "EUR")
        made.run()
        assert len(made.sink_rows()) == 1
        assert made.query(sink_checks.count_breaches(made.pipeline, window(), [])) == [(0, 0)]


@pytest.mark.parametrize(("encoding", "text"), [("LATIN1", "café"), ("EUC_JP", "日本"), ("SQL_ASCII", "café")])
def test_text_arrives_exactly_from_a_database_of_another_encoding(
    postgres: Postgres, sink_url: str, tmp_path: Path, encoding: str, text: str
) -> None:
    columns = {"k": "varchar(40)", text: "text null", "at": "timestamptz"}
    with table(postgres, sink_url, tmp_path, encoding, columns=columns) as made:
        with psycopg.connect(made.source_url, client_encoding="UTF8", autocommit=True) as connection:
            connection.execute("INSERT INTO t VALUES (%s, %s, '2026-01-01')", (text, text))
        made.run()
        assert [row[:2] for row in made.sink_rows().values()] == [(text, text)]


@pytest.mark.parametrize("step", ["extract", "run"])
@pytest.mark.parametrize("broken", [b"caf\xe9", b"\xed\xa0\x80", b"\xc0\x80", b"\xf5\x80\x80\x80"])
def test_bytes_that_are_no_text_name_row_key_and_column(
    postgres: Postgres, sink_url: str, tmp_path: Path, step: str, broken: bytes
) -> None:
    with table(postgres, sink_url, tmp_path, "SQL_ASCII") as made:
        escaped = "".join(f"\\x{byte:02x}" for byte in broken)
        made.change(f"INSERT INTO t VALUES ('fine', 'x', '2026-01-01'), ('broken', E'{escaped}', '2026-01-01')")
        with pytest.raises(DataError, match=r"k=broken: v is not valid UTF-8 \(.*\\x.*\); correct it at the source"):
            made.run("run", None, step)
        assert not made.sink_exists() or made.sink_rows() == {}
        assert made.staging_tables() == []
