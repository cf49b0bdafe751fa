"""Keys of every type that may be one: partitions have each of them once, and a second run finds each in the sink."""

import uuid
from pathlib import Path
from random import Random

import psycopg
import pytest
from etl.model.window import Partition

from dev.sandbox.pipeline_fixture import pipeline_fixture
from dev.sandbox.postgres import Postgres
from tests.harness.runs import Runs
from tests.harness.values import KINDS, Kind, RefusedError

VALUES = 40
MOOD = f"CREATE TYPE mood AS ENUM ('{'x' * 63}', 'sad', 'O''K', 'é {{,}}')"
KEYS = [
    "bigint", "numeric", "real", "boolean", '"char"', "text", "character(5)", "mood", "date", "time", "timetz", "uuid",
    "bit(7)", "inet", "macaddr", "oid",
]  # fmt: skip


@pytest.mark.parametrize("source", KEYS)
def test_each_key_is_in_one_partition_and_found_again(
    postgres: Postgres, sink_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    kind = next(kind for kind in KINDS if kind.source == source)
    definition = {
        "name": "keys", "source": "public.t", "columns": {"k": kind.declared, "at": "timestamptz"}, "key": ["k"],
        "version": "at", "filter": "true", "partition_size": VALUES // 3,
    }  # fmt: skip
    url = postgres.create_database(f"keys_{uuid.uuid4().hex[:8]}")
    with pipeline_fixture(definition, url, sink_url, tmp_path) as made:
        made.change(MOOD)
        made.change(f"CREATE TABLE t (k {source} PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())")
        expected = fill(url, kind)
        runs = Runs(made, monkeypatch)
        for run_id, outcome in (("first", "inserted"), ("second", "updated")):
            partitions = [Partition.model_validate_json(each) for each in runs.plan()]
            assert all(each.share is None for each in partitions), "cut by ranges"
            counts = [vars(made.run(run_id, each, "run")["run"]) for each in partitions]
            assert sum(each[outcome] for each in counts) == sum(each["standing"] for each in counts) == len(expected)
            assert {key for (key,) in made.sink_rows()} == set(expected)
            runs.reconcile(run_id, [each.model_dump_json(exclude_defaults=True) for each in partitions])
            made.change("UPDATE t SET at = clock_timestamp()")
    postgres.drop_database(url.rpartition("/")[2])


def fill(url: str, kind: Kind) -> list[object]:
    """Insert keys that SQL Server can have; returns them as the sink shows them."""
    chance, expected = Random(20), []
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET extra_float_digits = 3")
        for _ in range(VALUES):
            made = kind.make(chance)
            (text,) = connection.execute(f"SELECT (%s::{kind.source})::text".encode(), [made]).fetchone() or ("",)
            try:
                value = kind.shown(text)
            except RefusedError:
                continue
            if text.endswith(" ") and kind.source != "character(5)":
                continue  # rejected in a key
            added = connection.execute("INSERT INTO t (k) VALUES (%s) ON CONFLICT DO NOTHING RETURNING 1", [made])
            if added.fetchone():
                expected.append(float(value) if kind.declared in ("real", "double precision") else value)
    return expected
