"""Every type arrives exactly as it was, in a second table with a composite key and names that need quoting."""

import json
import struct
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from etl.errors import DataError
from etl.model.window import Partition
from etl.sqlserver import checks as sink_checks
from etl.verify.command import compare

from dev.sandbox.pipeline_fixture import PipelineFixture, pipeline_fixture
from dev.sandbox.pipelines import EVERYTHING, window

TABLE = """
CREATE TABLE "Every Thing" (
    region varchar(8) NOT NULL, serial uuid NOT NULL,
    small smallint, medium integer, big bigint, money numeric(38,10), ratio real, precise double precision,
    active boolean NOT NULL, text text, short varchar(10), code char(4), day date, clock time,
    local timestamp NOT NULL, moment timestamptz, raw bytea, doc jsonb, plain_doc json, "naïve name" text,
    PRIMARY KEY (region, serial)
)
"""
EXTREMES: list[dict[str, Any]] = [
    {},
    {
        "small": -32768, "medium": -(2**31), "big": -(2**63), "money": "-9999999999999999999999999999.9999999999",
        "ratio": -3.4e38, "precise": -1.7e308, "text": "", "short": "", "code": "", "day": "0001-01-01",
        "clock": "00:00:00", "local": "0001-01-01 00:00:00", "moment": "0001-01-01 00:00:00+00", "raw": b"",
        "doc": "{}", "plain_doc": "[]", "naïve name": "'; DROP TABLE x --",
    },
    {
        "small": 32767, "medium": 2**31 - 1, "big": 2**63 - 1, "money": "9999999999999999999999999999.9999999999",
        "ratio": 3.4e38, "precise": 1.7e308, "text": "日本語 🚚 \u200d é\r\n\t", "short": "ten chars!", "code": "äöü",
        "day": "9999-12-31", "clock": "23:59:59.999999", "local": "2099-12-31 23:59:59.999999",
        "moment": "9999-12-31 23:59:59.999999+00", "raw": bytes(range(256)) * 50, "doc": '{"a": [1, null, "é"]}',
        "plain_doc": '{"b" :1,  "b":2}', "naïve name": "x" * 100_000,
    },
    {"moment": "2026-03-29 02:59:59.999999+05:30", "money": "0.0000000001", "ratio": 1.2e-38, "precise": 5e-324,
     "short": "🚚🚚🚚🚚🚚", "text": " "},
]  # fmt: skip


@pytest.fixture
def everything(empty: str, sink_url: str, tmp_path: Path) -> Iterator[PipelineFixture]:
    with pipeline_fixture(EVERYTHING, empty, sink_url, tmp_path) as made:
        made.change(TABLE)
        yield made


def insert(made: PipelineFixture, region: str, number: int, **values: Any) -> None:
    """Insert a row of the table."""
    row = {"region": region, "serial": uuid.UUID(int=number), "active": True, "local": "2026-01-01", **values}
    names = ", ".join(f'"{name}"' for name in row)
    made.change(f'INSERT INTO "Every Thing" ({names}) VALUES ({", ".join(["%s"] * len(row))})', *row.values())


def as_sink(made: PipelineFixture) -> dict[Any, tuple[Any, ...]]:
    """The rows of the source as the sink must show them: documents as text, char padded."""
    rows = {}
    with psycopg.connect(made.source_url, options="-c timezone=UTC") as connection:
        for loader in ("json", "jsonb"):
            connection.adapters.register_loader(loader, psycopg.types.string.TextLoader)
        names = ", ".join(f'"{name}"' for name in made.pipeline.columns)
        for row in connection.execute(f'SELECT {names} FROM "Every Thing" WHERE active'.encode()).fetchall():
            values = [value.replace(tzinfo=None) if hasattr(value, "tzinfo") else value for value in row]
            place = list(EVERYTHING["columns"]).index("ratio")
            if values[place] is not None:  # four bytes at the source, printed as short as tells them apart
                values[place] = struct.unpack("f", struct.pack("f", values[place]))[0]
            rows[values[0], values[1]] = tuple(values)
    return rows


def test_a_verification_finds_every_type_equal_and_each_changed_value(everything: PipelineFixture) -> None:
    for number, values in enumerate(EXTREMES):
        insert(everything, "eu", number, **values)
    everything.run()
    outcome = compare(everything.settings, everything.pipeline, "verify", "deep")
    assert (outcome.equal, outcome.listed()) == (len(EXTREMES), "no difference")
    sink = f"[dbo].[{everything.pipeline.sink.table}]"
    for changed in ("[raw] = 0x00", "[active] = 0", "[clock] = CAST(N'12:00:00' AS time(6))", "[precise] = 0.5"):
        everything.execute(f"UPDATE {sink} SET {changed} WHERE [short] = N'ten chars!'")
        # Without a watermark no row is due.
        outcome = compare(everything.settings, everything.pipeline, "verify", "deep")
        assert (outcome.equal, outcome.classes["different"]) == (len(EXTREMES) - 1, 1)


def test_every_type_arrives_exactly_and_comes_back_the_same(everything: PipelineFixture) -> None:
    for number, values in enumerate(EXTREMES):
        insert(everything, "eu", number, **values)
    insert(everything, "eu", 99, active=False)
    insert(everything, "test", 1)
    everything.run()
    found, expected = everything.sink_rows(), as_sink(everything)
    del expected["test", uuid.UUID(int=1)]
    assert found.keys() == expected.keys()
    for key, row in expected.items():
        assert dict(zip(EVERYTHING["columns"], found[key], strict=True)) == dict(
            zip(EVERYTHING["columns"], row, strict=True)
        )
    assert everything.run("again")["load"].unchanged == len(EXTREMES)


def test_partitions_of_a_composite_key_cover_it(everything: PipelineFixture) -> None:
    for region in ("a", "b", "c'\\"):
        for number in range(3):
            insert(everything, region, number)
    bounds = [None, ["a", str(uuid.UUID(int=1))], ["c'\\", str(uuid.UUID(int=0))], None]
    for number in range(3):
        part = Partition(window=window(), id=str(number), lower=bounds[number], upper=bounds[number + 1])
        everything.run("run", part)
    assert [audit["extracted"] for audit in everything.audits()] == [2, 5, 2]
    assert len(everything.sink_rows()) == 9


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("precise", "NaN", "precise is not a finite number"),
        ("ratio", "Infinity", "ratio is not a finite number"),
        ("money", "NaN", "money is not exactly a decimal(38,10)"),
        ("day", "infinity", "day is outside the years 1 to 9999"),
        ("day", "10000-01-01", "day is outside the years 1 to 9999"),
        ("moment", "-infinity", "moment is outside the years 1 to 9999"),
        ("moment", "0001-01-01 BC", "moment is outside the years 1 to 9999"),
        ("clock", "24:00:00", "clock is 24:00:00"),
        ("short", "🚚🚚🚚🚚🚚!", "short is longer than nvarchar(10)"),
    ],
)
def test_what_cannot_be_carried_names_row_key_and_column(
    everything: PipelineFixture, column: str, value: str, told: str
) -> None:
    insert(everything, "eu", 7, **{column: value})
    with pytest.raises(DataError) as caught:
        everything.run()
    assert f"region=eu, serial={uuid.UUID(int=7)}: {told}" in str(caught.value)
    assert not everything.sink_exists() or everything.sink_rows() == {}


def test_a_row_that_the_filter_drops_may_be_anything(everything: PipelineFixture) -> None:
    insert(everything, "eu", 7, precise="NaN", active=False)
    everything.run()
    assert [(audit["dropped"], audit["rejected"]) for audit in everything.audits()] == [(1, 0)]


def test_a_document_is_text_in_the_sink(everything: PipelineFixture) -> None:
    insert(everything, "eu", 1, doc=json.dumps({"b": 1, "a": "é"}), plain_doc='{"b": 1,   "a": 2}')
    everything.run()
    (row,) = everything.sink_rows().values()
    names = list(EVERYTHING["columns"])
    assert row[names.index("doc")] == '{"a": "é", "b": 1}'
    assert row[names.index("plain_doc")] == '{"b": 1,   "a": 2}'


@pytest.mark.parametrize("column", ["doc", "plain_doc"])
def test_a_filter_tells_the_case_of_a_document_in_the_sink_too(
    empty: str, sink_url: str, tmp_path: Path, column: str
) -> None:
    with pipeline_fixture(EVERYTHING, empty, sink_url, tmp_path, filter=f"NOT {column} LIKE '%\"test\"%'") as made:
        made.change(TABLE)
        for number, kind in enumerate(("test", "Test")):
            insert(made, "eu", number, **{column: json.dumps({"kind": kind})})
        made.run()
        assert [key[1].int for key in made.sink_rows()] == [1]
        assert made.query(sink_checks.count_breaches(made.pipeline, window(), [])) == [(0, 0)]


AS_DDL = {
    "id": "bigserial", "small": "int2 NOT NULL", "medium": "int4 NULL", "big": "int8 NULL", "ratio": "float4 NULL",
    "precise": "float8 NULL", "single": "float(24) NULL", "dub": "float NULL", "price": "dec(12,2) NULL",
    "whole": "numeric(10) NULL", "flag": "bool NULL", "name": "character varying(20) NULL", "code": "character(3) NULL",
    "letter": "char NULL", "at": "timestamp(3) with time zone NOT NULL", "local": "timestamp(0) NULL",
    "zoned": "timestamptz(2) NULL", "clock": "time(0) without time zone NULL", "mac": "macaddr NULL",
}  # fmt: skip
ROWS = """
    INSERT INTO t SELECT n, n, n, n, 0.5, 0.1, 0.25, 0.1, 1.25, 7, true, 'näme', 'abc', 'x', '2026-01-01 12:00:00.123',
    '2026-01-01 12:00:00', '2026-01-01 12:00:00.12', '23:59:59',
    '08-00-2B-01-02-03' FROM generate_series(1, 3) AS n
"""
PSQL = """
    SELECT attname, format_type(atttypid, atttypmod) || CASE WHEN attnotnull THEN ' not null' ELSE ' null' END
    FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0 ORDER BY attnum
"""


@pytest.mark.parametrize("step", ["separate", "run"])
@pytest.mark.parametrize("declared", ["as in the DDL", "as psql prints it"])
def test_a_table_moves_with_its_types_as_postgres_writes_them(
    empty: str, sink_url: str, tmp_path: Path, declared: str, step: str
) -> None:
    columns = AS_DDL
    with psycopg.connect(empty, autocommit=True) as connection:
        ddl = ", ".join(f"{name} {each}" for name, each in AS_DDL.items())
        connection.execute(f"CREATE TABLE t ({ddl}, PRIMARY KEY (id))".encode())
        connection.execute(ROWS)
        if declared == "as psql prints it":
            columns = dict(connection.execute(PSQL).fetchall())
    definition: dict[str, Any] = {"name": "ddl", "source": "public.t", "columns": columns, "filter": "true"}
    definition |= {"key": ["id"], "version": "at"}
    with pipeline_fixture(definition, empty, sink_url, tmp_path) as made:
        made.run("run", None, *([] if step == "separate" else [step]))
        assert len(made.sink_rows()) == 3
        assert made.sink_rows() == made.source_rows()
