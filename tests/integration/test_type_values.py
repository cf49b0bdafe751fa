"""Of every type: each of 500 values is in the sink as it is, or rejected by key and column."""

import re
import time
import uuid
from pathlib import Path
from random import Random
from typing import Any, Literal

import psycopg
import pyarrow.parquet as pq
import pytest
from etl.model.column_types import parse_column_type
from structlog.testing import capture_logs

from dev.sandbox.pipeline_fixture import PipelineFixture, pipeline_fixture
from dev.sandbox.postgres import Postgres
from tests.harness.values import EXTENSION_KINDS, KINDS, Changed, Kind, RefusedError, with_rule

VALUES, DROPPED = 500, 5
SEED = 20
TYPES = """
CREATE TYPE mood AS ENUM ('sad', 'O''K', 'é {,}', 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx');
CREATE DOMAIN short AS varchar(20) CHECK (value IS NOT NULL OR true);
CREATE DOMAIN word AS short;
CREATE TYPE pair AS (flag boolean, words text);
CREATE TABLE "T t" ();
"""
EXTENSIONS = "".join(f"CREATE EXTENSION {name};" for name in ("citext", "hstore", "ltree", "isn", "seg", "cube", "lo"))


def test_each_value_is_carried_exactly_or_rejected(postgres: Postgres, sink_url: str, tmp_path: Path) -> None:
    check(postgres, sink_url, tmp_path, KINDS)


def test_each_value_of_an_extension_is_carried_exactly(full_postgres: Postgres, sink_url: str, tmp_path: Path) -> None:
    check(full_postgres, sink_url, tmp_path, EXTENSION_KINDS, EXTENSIONS)


@pytest.mark.parametrize("rule", ["null", "edge"])
def test_a_value_out_of_range_is_changed_as_the_pipeline_says_and_counted(
    postgres: Postgres, sink_url: str, tmp_path: Path, rule: str
) -> None:
    kinds = with_rule(rule)
    names = [f"c{place}" for place in range(len(kinds))]
    with capture_logs() as logged:
        check(postgres, sink_url, tmp_path, kinds, beyond=dict.fromkeys(names, rule), fused=rule == "edge")
    written = {"null": "null", "edge": "the first or last value of the type"}[rule]
    log = "\n".join(entry["event"] for entry in logged)
    for name in names:
        assert re.search(rf"\d+ values of {name} were out of range and set to {written}, .* first in row id=\d+", log)


def check(
    server: Postgres,
    sink_url: str,
    tmp_path: Path,
    kinds: list[Kind],
    more: str = "",
    beyond: "dict[str, str] | None" = None,
    fused: bool = False,
) -> None:
    columns = {f"c{place}": kind for place, kind in enumerate(kinds)}
    declared = {name: f"{kind.declared} null" for name, kind in columns.items()}
    definition: dict[str, Any] = {
        "name": "values", "source": "public.t", "columns": {"id": "bigint", **declared, "at": "timestamptz"},
        "key": ["id"], "version": "at", "filter": f"id >= {DROPPED}", "tolerated_rejects": 10**6,
        "beyond": beyond or {},
    }  # fmt: skip
    url = server.create_database(f"values_{uuid.uuid4().hex[:8]}")
    with pipeline_fixture(definition, url, sink_url, tmp_path) as made:
        made.change(TYPES + more)
        table = ", ".join(f"{name} {kind.source}" for name, kind in columns.items())
        made.change(f"CREATE TABLE t (id bigint PRIMARY KEY, {table}, at timestamptz NOT NULL DEFAULT now())")
        expected, refused, changed = fill(made, columns)
        began = time.monotonic()
        made.run("run", None, *(["run"] if fused else []))
        print(f"{len(kinds)} types, {VALUES} values each: {time.monotonic() - began:.1f} s, {len(refused)} refused")
        compare(made, columns, expected)
        assert rejects(made, "run" if fused else "filter") == refused
        counts = {"extracted": VALUES + DROPPED + len(refused), "dropped": DROPPED, "rejected": len(refused)}
        counts |= {"kept": len(expected), "inserted": len(expected), "adjusted": len(changed)}
        (audit,) = made.audits()
        assert {name: audit[name] for name in counts} == counts
    server.drop_database(url.rpartition("/")[2])


def fill(made: PipelineFixture, columns: dict[str, Kind]) -> tuple[dict[int, list[Any]], dict[int, str], set[int]]:
    """Insert the values; returns what the sink must show.

    The rows by key, the column that is wrong in each refused row, and the keys of those with a changed value.
    """
    chance = Random(SEED)
    expected: dict[int, list[Any]] = {}
    refused: dict[int, str] = {}
    changed: set[int] = set()
    with psycopg.connect(made.source_url, autocommit=True) as connection:
        connection.execute("SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET extra_float_digits = 3")
        names = ", ".join(columns)
        with connection.cursor().copy(f"COPY t (id, {names}) FROM STDIN".encode()) as copy:
            for key in range(VALUES + DROPPED):
                copy.write_row([key, *(kind.make(chance) for kind in columns.values())])
        texts = ", ".join(f"{name}::text" for name in columns)
        for key, *row in connection.execute(f"SELECT id, {texts} FROM t ORDER BY id".encode()).fetchall():
            expected[key] = []
            for (name, kind), text in zip(columns.items(), row, strict=True):
                try:
                    value = kind.shown(text)
                    if isinstance(value, Changed):
                        changed.add(key)
                        value = value.value
                    expected[key].append(value)
                except RefusedError:
                    # A row of its own, so that the other values of this one arrive.
                    expected[key].append(None)
                    number = VALUES + DROPPED + len(refused)
                    refused[number] = name
                    move = f"INSERT INTO t (id, {name}) SELECT {number}, {name} FROM t WHERE id = {key}"
                    connection.execute(f"{move}; UPDATE t SET {name} = NULL WHERE id = {key}".encode())
    kept = {key: row for key, row in expected.items() if key >= DROPPED}
    return kept, refused, changed & kept.keys()


def compare(made: PipelineFixture, columns: dict[str, Kind], expected: dict[int, list[Any]]) -> None:
    """Every value of the sink, with its type: floating-point numbers by their digits, which have the sign of zero."""
    types = {name: parse_column_type(kind.declared) for name, kind in columns.items()}
    # The driver drops a byte order mark at the beginning of an nvarchar(max).
    read = (f"N'|' + [{name}]" if kind.tsql == "nvarchar(max)" else f"[{name}]" for name, kind in types.items())
    rows = made.query(f"SELECT [id], {', '.join(read)} FROM [dbo].[{made.pipeline.sink.table}]")
    found = {row[0]: row[1:] for row in rows}
    assert found.keys() == expected.keys()
    for key, row in expected.items():
        for (name, kind), wanted, value in zip(columns.items(), row, found[key], strict=True):
            if value is not None and types[name].row.family == "float":
                value = repr(value)
            elif value is not None and types[name].tsql == "nvarchar(max)":
                value = value[1:]
            assert value == wanted, f"seed {SEED}, row {key}, {name}: {kind.source} as {kind.declared}"


def rejects(made: PipelineFixture, step: Literal["filter", "run"]) -> dict[int, str]:
    """The key of each rejected row, and the column that its reason begins with."""
    work = made.work()
    manifest = work.staging.manifest(step, work.fingerprint) if work.staging.has(step) else None
    if manifest is None or "rejects" not in manifest.files:
        return {}
    with work.staging.reading(manifest.files["rejects"]) as file:
        entries = pq.read_table(file).to_pylist()
    return {int(entry["row"]["id"]): entry["reason"].partition(" ")[0] for entry in entries}
