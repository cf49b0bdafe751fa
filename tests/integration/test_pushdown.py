"""A filter that runs at the source decides as it does without: the same counts, the same rows, the same rejects."""

import random
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from etl.errors import ConfigurationError
from etl.extract import reading
from etl.judge import Judge
from etl.progress import Progress
from etl.staging import Manifest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.pipelines import ORDERS, make
from tests.support.postgres import Postgres
from tests.support.site import Site, existing_site, site

COLUMNS = {
    "k": "integer", "version": "timestamptz", "flag": "boolean null", "small": "smallint null", "big": "bigint null",
    "price": "numeric(6,2) null", "note": "text null", "word": "varchar(4) null", "code": "char(3) null",
    "needed": "text", "id": "uuid null", "day": "date null", "clock": "time null", "local": "timestamp null",
    "moment": "timestamptz null", "ratio": "double precision null",
}  # fmt: skip
TABLE = """
CREATE TABLE edges (
    k integer PRIMARY KEY, version timestamptz NOT NULL DEFAULT '2026-01-01', flag boolean, small smallint,
    big bigint, price numeric, note text, word text, code char(5), needed text, id uuid, day date, clock time,
    local timestamp, moment timestamptz, ratio double precision
)
"""
TEXTS = [
    "",
    "a",
    "A",
    "á",
    "ab",
    "abcd",
    "abcde",
    "a ",
    " a",
    "%",
    "_",
    "ß",
    "ss",
    "🚚",
    "🚚🚚",
    "🚚🚚🚚",
    "e\u0301",
    "é",
]
TIMES = ["1970-01-01", "2026-03-29 01:30:00", "2026-03-29 02:30:00.000001", "9999-12-31 23:59:59.999999"]
BEYOND = ["infinity", "-infinity", "10000-01-01", "0044-03-15 BC"]
NUMBERS = ["0", "-1", "1", "5", "0.01", "-0.01", "9999.99", "-9999.99", "32767", "9223372036854775807"]
ID = str(uuid.UUID(int=7))
# What stands in the source, also what no sink can take; and what filters compare it with.
VALUES: dict[str, list[str]] = {
    "flag": ["true", "false"],
    "small": ["0", "-1", "1", "32767"],
    "big": ["0", "-1", "5", "9223372036854775807"],
    "price": [*NUMBERS, "0.001", "1.50", "1.5000", "10000", "NaN", "Infinity", "-Infinity"],
    "note": TEXTS,
    "word": TEXTS,
    "code": ["", "a", "A", "ab", "abc", "abcd", "🚚", "🚚🚚"],
    "needed": ["a", "b"],
    "id": [ID, str(uuid.UUID(int=2**128 - 1))],
    "day": ["1970-01-01", "2026-01-31", "0001-01-01", "9999-12-31", *BEYOND],
    "clock": ["00:00:00", "12:30:00.5", "24:00:00"],
    "local": [*TIMES, *BEYOND],
    "moment": [f"{time}+00" for time in TIMES] + BEYOND,
    "ratio": ["0", "NaN", "Infinity", "1.5"],
}
ORDERED = ("=", "<>", "<", "<=", ">", ">=")
EQUAL = ("=", "<>")
LITERALS: dict[str, tuple[tuple[str, ...], list[str]]] = {
    "small": (ORDERED, ["0", "-1", "1", "40000", "922337203685477580"]),
    "big": (ORDERED, ["0", "5", "-1", "999999999999999999"]),
    "price": (ORDERED, [*NUMBERS[:8], "1.5", "1.500", "0.001", "-0.0049", "123456789.123"]),
    "note": (EQUAL, TEXTS),
    "word": (EQUAL, TEXTS),
    "code": (EQUAL, VALUES["code"]),
    "needed": (EQUAL, ["a", "b"]),
    "id": (EQUAL, [ID, ID.upper()]),
    "day": (ORDERED, ["1970-01-01", "2026-01-31", "0001-01-01", "9999-12-31"]),
    "clock": (ORDERED, ["00:00:00", "12:30:00.5", "23:59:59.999999"]),
    "local": (ORDERED, TIMES),
    "moment": (ORDERED, TIMES),
}
PATTERNS = ["a%", "%a", "%", "", "a", "%a%", "%🚚", "é", "e%"]


def quoted(column: str, literal: str) -> str:
    return literal if column in ("small", "big", "price") else f"'{literal}'"


def comparisons(column: str) -> st.SearchStrategy[str]:
    operators, literals = LITERALS[column]
    # A text that ends in a space compares differently in SQL Server; no filter may have it.
    value = st.sampled_from([quoted(column, literal) for literal in literals if not literal.endswith(" ")])
    plain = st.builds("{} {} {}".format, st.just(column), st.sampled_from(operators), value)
    turned = st.builds("{} = {}".format, value, st.just(column))
    listed = st.lists(value, min_size=1, max_size=3).map(lambda values: f"{column} IN ({', '.join(values)})")
    between = st.builds(f"{column} BETWEEN {{}} AND {{}}".format, value, value)
    return st.one_of(plain, turned, listed, *([between] if operators == ORDERED else []))


conditions = st.one_of(
    *map(comparisons, LITERALS),
    st.sampled_from(["flag", "flag = true", "flag <> true", "true", "small = big", "note = word", "word = code"]),
    st.sampled_from([f"{name} IS NULL" for name in VALUES] + [f"{name} IS NOT NULL" for name in VALUES]),
    st.builds("{} LIKE '{}'".format, st.sampled_from(["note", "word", "code"]), st.sampled_from(PATTERNS)),
)
filters = st.recursive(
    conditions,
    lambda inner: st.one_of(
        st.builds("({} AND {})".format, inner, inner),
        st.builds("({} OR {})".format, inner, inner),
        st.builds("NOT ({})".format, inner),
    ),
    max_leaves=4,
)


@pytest.fixture(scope="module")
def edges(postgres: Postgres) -> Iterator[str]:
    """A database with a table of edge cases, alone and in all sorts of company."""
    name = f"edges_{uuid.uuid4().hex[:8]}"
    url = postgres.create_database(name)
    choice = random.Random(7)
    rows: list[dict[str, Any]] = [{column: value} for column, values in VALUES.items() for value in [*values, None]]
    rows += [{column: choice.choice([*values, None]) for column, values in VALUES.items()} for _ in range(300)]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(TABLE)
        with connection.cursor().copy(f"COPY edges (k, {', '.join(VALUES)}) FROM STDIN".encode()) as copy:
            for k, row in enumerate(rows):
                copy.write_row([k, *(({"needed": "a"} | row).get(column) for column in VALUES)])
    yield url
    postgres.drop_database(name)


def judged(made: Site) -> tuple[Manifest, set[str], set[str]]:
    """What became of the rows, the kept rows and the rejected ones."""
    work = made.work()
    folder = work.staging.new_folder("run")
    with reading(work) as source, Judge(work, source.schema, f"{folder}/rows.parquet", Progress("test")) as judge:
        kept = pa.Table.from_batches(judge.kept(source.batches()), judge.schema)
        manifest = judge.verdict(source.manifest())
    rejects = []
    if manifest.files:
        with work.staging.reading(manifest.files["rejects"]) as file:
            rejects = pq.read_table(file).to_pylist()
    return manifest.model_copy(update={"files": {}}), set(map(str, kept.to_pylist())), set(map(str, rejects))


@given(condition=filters)
@settings(max_examples=50)
def test_a_filter_decides_at_the_source_as_it_does_without(
    edges: str, tmp_path_factory: pytest.TempPathFactory, condition: str
) -> None:
    definition: dict[str, Any] = {
        "name": "edges", "source": "public.edges", "sink": "dbo.edges", "columns": COLUMNS, "key": ["k"],
        "version": "version", "filter": condition, "tolerated_rejects": 1000,
    }  # fmt: skip
    staging = tmp_path_factory.mktemp("staging")
    without, with_pushdown = (
        judged(existing_site(make(definition, pushdown=pushdown), edges, "mssql://u@none/none", staging))
        for pushdown in (False, True)
    )
    manifest, expected = with_pushdown[0], without[0]
    asked = {"fingerprint": expected.fingerprint, "row_bytes": expected.row_bytes}
    assert manifest.model_copy(update=asked) == expected
    assert with_pushdown[1:] == without[1:]


def test_what_the_filter_drops_is_not_sent(source_url: str, sink_url: str, tmp_path: Path) -> None:
    with site(ORDERS, source_url, sink_url, tmp_path, pushdown=True) as made:
        given = made.run()
        with made.work().staging.reading(given["extract"].files["rows"]) as file:
            assert pq.read_metadata(file).num_rows == 1600
        (audit,) = made.audits()
        assert (audit["extracted"], audit["kept"], audit["dropped"], audit["rejected"]) == (4000, 1600, 2400, 0)
        assert made.sink_rows() == made.source_rows("status = 'confirmed'")
        assert made.cli("run", "again").returncode == 0
        assert len({audit["checksum"] for audit in made.audits()}) == 1


@pytest.mark.parametrize("pushdown", [False, True])
@pytest.mark.parametrize("declared", ["varchar(3)", "text"])
def test_a_padded_column_under_another_name_is_refused(
    source_url: str, sink_url: str, tmp_path: Path, declared: str, pushdown: bool
) -> None:
    columns = {**ORDERS["columns"], "currency": declared}
    changes: dict[str, Any] = {"columns": columns, "filter": "currency = 'EUR'", "pushdown": pushdown}
    with (
        site(ORDERS, source_url, sink_url, tmp_path, **changes) as made,
        pytest.raises(ConfigurationError, match=r"currency of public\.orders is character, .*; declare it as it is, "),
    ):
        made.run()


@pytest.mark.parametrize("condition", ["status = 'confirmed'", "status = 'confirmed' AND currency IS NOT NULL"])
def test_a_padded_column_under_another_name_that_no_filter_compares_is_carried(
    source_url: str, sink_url: str, tmp_path: Path, condition: str
) -> None:
    columns = {**ORDERS["columns"], "currency": "varchar(3)"}
    with site(ORDERS, source_url, sink_url, tmp_path, columns=columns, filter=condition) as made:
        made.run()
        assert made.sink_rows() == made.source_rows("status = 'confirmed'")
