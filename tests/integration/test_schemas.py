"""Whole schemas by `etl new-pipeline 'public.*'` and one run each: the sink is the source, also after 1,000 changes.

The schemas are our own, in the shapes of sample databases that people know. With SCHEMAS=FOLDER also each .sql file
there is tried, such as a dump that you have. The comparison shares no code with the loads: it reads the source with
psycopg, the sink with SELECT, and compares the rows as multisets.
"""

import os
import random
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from etl.arguments import read_dag
from etl.config.settings import Settings
from etl.model.pipeline import Pipeline
from etl.new.choose import Wishes
from etl.new.command import Target, new_pipelines
from pydantic import SecretStr

from dev.sandbox.pipeline_fixture import PipelineFixture, existing_fixture
from dev.sandbox.postgres import Postgres
from tests.harness.runs import Runs
from tests.harness.tables import quoted

OURS = Path(__file__).resolve().parents[1] / "schemas"
FOLDERS = [OURS, *(Path(each) for each in [os.environ.get("SCHEMAS", "")] if each)]
FILES = sorted(path for folder in FOLDERS for path in folder.glob("*.sql"))
CHANGES = 1000
# Read by psycopg as Python's values; all other types as their text.
AS_IT_IS = {"smallint", "integer", "bigint", "numeric", "double precision", "boolean", "text", "name",
            "character varying", "uuid", "bytea", "date", "time without time zone", "timestamp without time zone",
            "timestamp with time zone", "character", "oid"}  # fmt: skip
OTHER_FORMS = {"inet": "abbrev({})", "money": "{}::numeric", "real": "{}::float8"}


@pytest.fixture(params=FILES, ids=[path.stem for path in FILES])
def source_url(request: pytest.FixtureRequest, postgres: Postgres) -> Iterator[str]:
    name = f"schema_{uuid.uuid4().hex[:8]}"
    yield postgres.create_database(name, request.param)
    postgres.drop_database(name)


def plain(value: Any) -> Any:
    """A value as both drivers have it, in one form."""
    if isinstance(value, Decimal):
        return value.normalize() + 0
    if isinstance(value, datetime):
        return value.replace(tzinfo=None)
    return (
        bytes(value)
        if isinstance(value, bytearray | memoryview)
        else str(value)
        if isinstance(value, uuid.UUID)
        else value
    )


def source_rows(url: str, pipeline: Pipeline) -> Counter[Any]:
    options = "-c timezone=UTC -c intervalstyle=postgres -c extra_float_digits=3"
    with psycopg.connect(url, options=options) as connection:
        cursor = connection.cursor()
        cursor.execute(
            "WITH RECURSIVE b AS ("
            "SELECT attname AS name, atttypid AS type FROM pg_attribute WHERE attrelid = %s::regclass"
            " UNION ALL SELECT name, typbasetype FROM b JOIN pg_type t ON t.oid = b.type WHERE typtype = 'd')"
            " SELECT name, format_type(type, NULL) FROM b JOIN pg_type t ON t.oid = b.type WHERE typtype <> 'd'",
            [relation(pipeline)],
        )
        types: dict[str, str] = dict(cursor.fetchall())
        columns = ", ".join(
            quoted(name) if types[name] in AS_IT_IS and not is_text(pipeline, name, types[name])
            else OTHER_FORMS.get(types[name], "{}::text").format(quoted(name))
            for name in pipeline.columns
        )  # fmt: skip
        cursor.execute(f"SELECT {columns} FROM {relation(pipeline)}".encode())
        return Counter(tuple(map(plain, row)) for row in cursor.fetchall())


def is_text(pipeline: Pipeline, name: str, source: str) -> bool:
    return source == "numeric" and pipeline.types[name].is_text


def relation(pipeline: Pipeline) -> str:
    return f"{quoted(pipeline.source.schema_name)}.{quoted(pipeline.source.table)}"


def sink_rows(made: PipelineFixture) -> Counter[Any]:
    columns = ", ".join(f"[{name.replace(']', ']]')}]" for name in made.pipeline.columns)
    schema, table = made.pipeline.sink.schema_name, made.pipeline.sink.table.replace("]", "]]")
    return Counter(tuple(map(plain, row)) for row in made.query(f"SELECT {columns} FROM [{schema}].[{table}]"))


def change(url: str, pipelines: list[Pipeline], seed: int) -> Counter[str]:
    """Change rows at random until CHANGES statements have changed one; refusals by constraints count for nothing."""
    chance, done = random.Random(seed), Counter[str]()
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT oid::regclass::text FROM pg_class WHERE relkind IN ('r', 'p') AND oid >= 16384")
        tables = {name.strip('"') for (name,) in cursor.fetchall()}
        chosen = [each for each in pipelines if each.source.table in tables]
        cursor.execute(f"SELECT setseed({seed / 100})".encode())
        while done.total() < CHANGES:
            pipeline = chance.choice(chosen)
            kind, statement = chance.choice(KINDS)
            try:
                cursor.execute(statement(pipeline, chance).encode())
            except psycopg.Error:
                continue
            done[kind] += cursor.rowcount
        cursor.execute("SELECT format('%I.%I', schemaname, matviewname) FROM pg_matviews")
        for (name,) in cursor.fetchall():
            cursor.execute(f"REFRESH MATERIALIZED VIEW {name}".encode())
    return done


def one_row(pipeline: Pipeline) -> str:
    table = relation(pipeline)
    return f"(tableoid, ctid) = (SELECT tableoid, ctid FROM {table} ORDER BY random() LIMIT 1)"


def update(pipeline: Pipeline, chance: random.Random) -> str:
    """A column gets the value that another row has, or NULL."""
    names = [name for name in pipeline.columns if name not in (*pipeline.key, pipeline.version)] or list(
        pipeline.columns
    )
    name, table = quoted(chance.choice(names)), relation(pipeline)
    other = f"(SELECT {name} FROM {table} ORDER BY random() LIMIT 1)" if chance.random() < 0.8 else "NULL"
    return f"UPDATE {table} SET {name} = {other} WHERE {one_row(pipeline)}"


def new_key(pipeline: Pipeline, name: str) -> str:
    kind, column = pipeline.types[name], quoted(name)
    if kind.is_integer:
        return f"(SELECT max({column}) + 1 FROM {relation(pipeline)})"
    if kind.is_text:
        return f"left(md5(random()::text), {kind.length or 30})"
    return f"(SELECT max({column}) FROM {relation(pipeline)})"


def insert(pipeline: Pipeline, chance: random.Random) -> str:
    """A copy of a row under a new key, or under one column of it; its version is the default's."""
    names = [name for name in pipeline.columns if name != pipeline.version]
    changed = chance.sample(pipeline.key, chance.randint(1, len(pipeline.key))) if pipeline.key else []
    values = ", ".join(new_key(pipeline, name) if name in changed else f"t.{quoted(name)}" for name in names)
    into = ", ".join(map(quoted, names))
    table = relation(pipeline)
    return f"INSERT INTO {table} ({into}) SELECT {values} FROM (SELECT * FROM {table} ORDER BY random() LIMIT 1) AS t"


def delete(pipeline: Pipeline, chance: random.Random) -> str:
    return f"DELETE FROM {relation(pipeline)} WHERE {one_row(pipeline)}"


def move(pipeline: Pipeline, chance: random.Random) -> str:
    name = chance.choice(pipeline.key or list(pipeline.columns))
    return f"UPDATE {relation(pipeline)} SET {quoted(name)} = {new_key(pipeline, name)} WHERE {one_row(pipeline)}"


KINDS: list[tuple[str, Callable[[Pipeline, random.Random], str]]] = [
    ("update", update), ("update", update), ("insert", insert), ("delete", delete), ("key", move),
]  # fmt: skip


def test_a_whole_schema_is_equal_in_the_sink_and_again_after_1000_changes(
    source_url: str, sink_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Tables of one name in two schemas, or of a test beside this one, have sinks of their own.
    schema = f"s_{uuid.uuid4().hex[:8]}"
    target = Target(str(tmp_path), "Europe/Berlin", "data-platform", sink_schema=schema)
    new_pipelines(Settings(source_url=SecretStr(source_url)), ["public.*"], [], Wishes(), target)
    assert ", 0 skipped, 0 refused." in capsys.readouterr().out
    pipelines = [pipeline for path in sorted(tmp_path.glob("*_etl.py")) for pipeline in read_dag(path)]
    sites = [existing_fixture(pipeline, source_url, sink_url, tmp_path / "staging") for pipeline in pipelines]
    sites[0].execute(f"CREATE SCHEMA [{schema}]")
    try:
        for time in ("first", "second"):
            for made in sites:
                partitions = Runs(made, monkeypatch).plan()
                Runs(made, monkeypatch).steps(time, partitions, *(["run"] if made.pipeline.steps == "fused" else []))
                if partitions:
                    assert Runs(made, monkeypatch).reconcile(time, partitions)["verdict"] == "adds up"
                assert sink_rows(made) == source_rows(source_url, made.pipeline), (time, made.pipeline.name)
            done = change(source_url, pipelines, seed=7) if time == "first" else Counter()
            assert time == "second" or (done.total() >= CHANGES and set(done) == {"update", "insert", "delete", "key"})
    finally:
        for made in sites:
            made.clean()
        sites[0].execute(f"DROP SCHEMA [{schema}]")
