"""Databases with one table of a pipeline."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from dev.sandbox.pipeline_fixture import PipelineFixture, pipeline_fixture
from dev.sandbox.postgres import Postgres


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@contextmanager
def table(
    postgres: Postgres, sink_url: str, staging: Path, encoding: str = "UTF8", **pipeline: Any
) -> Iterator[PipelineFixture]:
    """A database with the empty table of a pipeline."""
    name = f"hostile_{uuid.uuid4().hex[:8]}"
    definition: dict[str, Any] = {
        "name": "hostile", "source": "public.t", "columns": {"k": "varchar(40)", "v": "text null", "at": "timestamptz"},
        "key": ["k"], "version": "at", "filter": "true", **pipeline,
    }  # fmt: skip
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
        create = "CREATE DATABASE {} TEMPLATE template0 ENCODING {} LOCALE 'C'"
        connection.execute(sql.SQL(create).format(sql.Identifier(name), sql.Literal(encoding)))
    columns = (
        f"{quoted(column)} {declared.removesuffix(' null')} {'' if declared.endswith(' null') else 'NOT NULL'}"
        for column, declared in definition["columns"].items()
    )
    with pipeline_fixture(definition, postgres.url(name), sink_url, staging) as made:
        key = ", ".join(map(quoted, made.pipeline.key))
        made.change(f"CREATE TABLE {quoted(made.pipeline.source.table)} ({', '.join(columns)}, PRIMARY KEY ({key}))")
        yield made
    postgres.drop_database(name)
