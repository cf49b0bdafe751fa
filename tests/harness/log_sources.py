"""A table whose changes are captured from the write-ahead log, with the slot and the publication of its pipeline."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from dev.sandbox.pipeline_fixture import PipelineFixture
from dev.sandbox.postgres import Postgres
from tests.harness.tables import table


@contextmanager
def log_table(
    postgres: Postgres, sink_url: str, staging: Path, *, identity: str = "FULL", **pipeline: Any
) -> Iterator[PipelineFixture]:
    """A database with an empty table, published, and the slot of its pipeline, which is dropped at the end."""
    settings: dict[str, Any] = {
        "columns": {"k": "integer", "status": "varchar(20)", "note": "text null"}, "key": ["k"], "version": None,
        "filter": "status = 'confirmed'", "capture": "log", **pipeline,
    }  # fmt: skip
    with table(postgres, sink_url, staging, **settings) as made:
        name = f'"{made.pipeline.source.table}"'
        made.change(f"ALTER TABLE {name} REPLICA IDENTITY {identity}")
        publish(made)
        make_slot(made)
        try:
            yield made
        finally:
            with psycopg.connect(made.source_url, autocommit=True) as connection:
                drop = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s"
                connection.execute(drop, [made.pipeline.slot_name])


def publish(made: PipelineFixture) -> None:
    made.change(f'CREATE PUBLICATION "{made.pipeline.publication_name}" FOR TABLE "{made.pipeline.source.table}"')


def make_slot(made: PipelineFixture) -> None:
    made.change("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", made.pipeline.slot_name)


def drop_slot(made: PipelineFixture) -> None:
    made.change("SELECT pg_drop_replication_slot(%s)", made.pipeline.slot_name)


def slot_position(made: PipelineFixture) -> str:
    with psycopg.connect(made.source_url, autocommit=True) as connection:
        query = "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = %s"
        row = connection.execute(query, [made.pipeline.slot_name]).fetchone()
    assert row is not None
    return str(row[0])
