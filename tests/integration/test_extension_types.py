"""Types that extensions bring, on a server that has them."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from etl.model.window import Partition

from dev.sandbox.pipeline_fixture import pipeline_fixture
from dev.sandbox.postgres import Postgres
from tests.harness.runs import Runs


@pytest.fixture
def source(full_postgres: Postgres) -> Iterator[str]:
    """The URL of a database with extensions, whose operators no search_path finds."""
    url = full_postgres.create_database(f"extended_{uuid.uuid4().hex[:8]}")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA ext")
        for name in ("citext", "hstore", "ltree", "isn", "seg", "cube", "lo"):
            connection.execute(f"CREATE EXTENSION {name} SCHEMA ext".encode())
    yield url
    full_postgres.drop_database(url.rpartition("/")[2])


def test_partitions_of_a_key_without_a_certain_order_read_each_row_once(
    source: str, sink_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outside of its schema a citext is compared as text: another order than that of its index."""
    definition: dict[str, Any] = {
        "name": "extended", "source": "public.t", "columns": {"word": "varchar(20)", "at": "timestamptz"},
        "key": ["word"], "version": "at", "filter": "true", "partition_size": 9,
    }  # fmt: skip
    with pipeline_fixture(definition, source, sink_url, tmp_path) as made:
        made.change("CREATE TABLE t (word ext.citext PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())")
        made.change("INSERT INTO t SELECT chr(96 + n) FROM generate_series(1, 13) AS n")
        made.change("INSERT INTO t SELECT chr(64 + n) FROM generate_series(14, 26) AS n")
        runs = Runs(made, monkeypatch)
        partitions = [Partition.model_validate_json(each) for each in runs.plan()]
        assert [each.share for each in partitions] == [(0, 3), (1, 3), (2, 3)]
        assert runs.run("first")["kept"] == 26
        assert made.sink_rows() == made.source_rows()
        made.change("UPDATE t SET at = clock_timestamp() WHERE word::text = 'b'")
        assert runs.run("second")["updated"] == 1


VALUES = {
    "citext": "Abc",
    "hstore": '"a"=>"1", "b"=>NULL',
    "ltree": "a.b",
    "isn": "978-0-393-04002-9",
    "seg": "1.5 .. 2",
    "cube": "(1, 2),(3, 4.1)",
    "citext[]": "{A,a}",
    "xml": '<?xml version="1.0"?><a>ü</a>',
    "lo": 4294967295,
}


def test_values_of_extensions_arrive_as_their_text(source: str, sink_url: str, tmp_path: Path) -> None:
    """The driver's binary form of xml has no declaration; for isn and seg there is none."""
    kinds = {
        f"c{place}": {"xml": "xml", "isn": "ext.isbn13"}.get(name, f"ext.{name}") for place, name in enumerate(VALUES)
    }
    declared = {name: "oid" if kind == "ext.lo" else "text" for name, kind in kinds.items()}
    definition: dict[str, Any] = {
        "name": "extended", "source": "public.t", "columns": {"id": "bigint", **declared, "at": "timestamptz"},
        "key": ["id"], "version": "at", "filter": "true",
    }  # fmt: skip
    with pipeline_fixture(definition, source, sink_url, tmp_path) as made:
        columns = ", ".join(f"{name} {kind}" for name, kind in kinds.items())
        made.change(f"CREATE TABLE t (id bigint PRIMARY KEY, {columns}, at timestamptz NOT NULL DEFAULT now())")
        made.change(f"INSERT INTO t VALUES (1, {', '.join(['%s'] * len(kinds))})", *VALUES.values())
        made.run()
        assert dict(zip(VALUES, made.sink_rows()[1,][1:-1], strict=True)) == VALUES
