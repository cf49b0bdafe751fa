"""`on_new_source_column="add"`: columns that appear at the source are added to the sink, filled, and followed."""

import logging
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from etl.errors import ConfigurationError
from etl.model.pipeline import Pipeline
from etl.model.window import Partition

from dev.sandbox.pipeline_fixture import PipelineFixture
from dev.sandbox.pipelines import ORDERS, make
from dev.sandbox.postgres import Postgres
from dev.sandbox.sqlserver import SqlServerDouble
from tests.faults.double import needs_double
from tests.harness.runs import Runs
from tests.harness.sink_server import Server, refused
from tests.harness.tables import table

ADDED = {"note": "varchar(9) null", "n": "text null", "mood": "varchar(63) null"}
APPEAR = """
CREATE TYPE mood AS ENUM ('ok', 'sad');
ALTER TABLE t ADD note varchar(9) NOT NULL DEFAULT 'a', ADD n numeric, ADD mood mood, ADD secret text DEFAULT 's'
"""


@pytest.fixture
def made(postgres: Postgres, sink_url: str, tmp_path: Path) -> Iterator[PipelineFixture]:
    """A table of 40 rows, of which 30 are kept, and a pipeline that follows its columns but for one."""
    columns = {"k": "integer", "v": "varchar(9)", "at": "timestamptz"}
    settings: dict[str, Any] = {
        "columns": columns, "filter": "v <> 'x'", "partition_size": 20, "look_back": 0,
        "on_new_source_column": "add", "omit": ["secret"],
    }  # fmt: skip
    with table(postgres, sink_url, tmp_path, **settings) as made:
        made.change(
            "INSERT INTO t SELECT n, CASE n % 4 WHEN 0 THEN 'x' ELSE 'a' END, now() FROM generate_series(1, 40) AS n"
        )
        yield made


def changed(made: PipelineFixture, **changes: Any) -> PipelineFixture:
    return replace(made, pipeline=Pipeline.model_validate({**made.pipeline.model_dump(), **changes}))


def followed(made: PipelineFixture, *names: str) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """The rows of sink and source, with these of the columns that have appeared, as texts."""
    whole = changed(made, columns={**made.pipeline.columns, **{name: ADDED[name] for name in names}}, omit=[])
    found = (whole.sink_rows(), whole.source_rows("v <> 'x'"))
    sink, source = ({key: tuple(map(str, row)) for key, row in rows.items()} for rows in found)
    return sink, source


def is_filling(partitions: list[str]) -> bool:
    windows = [Partition.model_validate_json(partition).window for partition in partitions]
    return any(window.fills for window in windows)


def test_columns_that_appear_are_filled_and_followed_until_they_are_listed_or_dropped(
    made: PipelineFixture, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    runs = Runs(made, monkeypatch)
    runs.run("first")
    older = runs.plan(full_refresh=True)
    made.change(APPEAR)
    made.change("UPDATE t SET n = k / 7.0, mood = 'sad' WHERE k % 3 = 0")
    partitions = runs.plan()
    assert is_filling(partitions)
    runs.steps("broken off", partitions[:1])
    assert runs.run("second")["inserted"] == 0
    sink, source = followed(made, *ADDED)
    assert sink == source
    assert not is_filling(runs.plan())

    made.change("UPDATE t SET note = 'b', n = 1.50, at = clock_timestamp() WHERE k = 2")
    made.change("INSERT INTO t VALUES (42, 'a', '2026-01-01', 'late', 0.10, 'ok')")
    runs.steps("older", older)  # brings row 42 without what has appeared since
    assert is_filling(runs.plan())
    runs.run("third")
    sink, source = followed(made, *ADDED)
    assert sink == source
    assert runs.run("refreshed", full_refresh=True)["updated"] == 0

    made.change("INSERT INTO t (k, v, at, note) VALUES (41, 'a', clock_timestamp(), 'new')")
    listed = Runs(changed(made, columns={**made.pipeline.columns, "note": ADDED["note"]}), monkeypatch)
    assert not is_filling(listed.plan())
    assert listed.run("listed")["inserted"] == 1
    sink, source = followed(made, *ADDED)
    assert sink == source

    made.change("ALTER TABLE t DROP mood")
    with caplog.at_level(logging.WARNING):
        runs.plan()
    assert f"public.t has columns no more whose values {made.pipeline.sink} keeps: mood." in caplog.text
    made.change("UPDATE t SET note = 'c', at = clock_timestamp() WHERE k = 3")
    assert runs.run("dropped")["updated"] == 1
    sink, source = followed(made, "note", "n")
    assert sink == source
    assert made.query(f"SELECT COUNT(*) FROM [dbo].[{made.pipeline.sink.table}] WHERE [mood] = N'sad'") == [(10,)]


def test_the_steps_of_a_run_move_what_its_plan_says(made: PipelineFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the source and the pipeline have meanwhile."""
    runs = Runs(made, monkeypatch)
    made.change("ALTER TABLE t ADD note varchar(9) DEFAULT 'a'")
    partitions = runs.plan()
    made.change("ALTER TABLE t ADD n numeric DEFAULT 1.5")
    ignoring = Runs(changed(made, on_new_source_column="warn", omit=["note"]), monkeypatch)
    ignoring.steps("first", partitions)
    assert ignoring.reconcile("first", partitions)["kept"] == 30
    sink, source = followed(made, "note")
    assert sink == source
    assert ("n",) not in made.query(
        f"SELECT [name] FROM sys.columns WHERE [object_id] = OBJECT_ID(N'[dbo].[{made.pipeline.sink.table}]', N'U')"
    )


def test_mode_replace_reads_the_table_when_its_columns_have_changed(
    made: PipelineFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Runs(changed(made, mode="replace", version=None), monkeypatch)
    runs.run("first")
    assert runs.plan() == []
    made.change("ALTER TABLE t ADD note varchar(9) DEFAULT 'a'")
    assert runs.run("second")["updated"] == 30
    assert runs.plan() == []
    made.change("ALTER TABLE t DROP note")
    assert runs.run("third")["updated"] == 0
    assert runs.plan() == []


@pytest.mark.parametrize(
    ("before", "change", "told"),
    [
        ("", "ADD x gtsvector", r'column x of public\.t is gtsvector, .*leave the column out\. .* omit=\["x"\]'),
        ("", 'ADD "V" text', r"would add V: .*differ in case only.*Name in omit what is not to be added"),
        (
            "ADD x integer",
            "ALTER x TYPE bigint",
            r"x of public\.t is bigint, and the sink has it as int\. .* bigint NULL",
        ),
    ],
)
def test_a_column_that_cannot_be_added_stops_the_plan_with_what_to_do(
    made: PipelineFixture, before: str, change: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Runs(made, monkeypatch)
    if before:
        made.change(f"ALTER TABLE t {before}")
    runs.run("first")
    made.change(f"ALTER TABLE t {change}")
    with pytest.raises(AirflowFailException, match=told):
        runs.plan()


def test_a_column_that_the_user_may_not_read_is_left_out_with_a_warning(
    made: PipelineFixture, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    role = f"reader_{uuid.uuid4().hex[:8]}"
    made.change("ALTER TABLE t ADD note varchar(9), ADD n numeric")
    made.change(f"CREATE ROLE {role}; GRANT SELECT (k, v, at, note) ON t TO {role}")
    try:
        runs = Runs(replace(made, source_url=f"{made.source_url}?options=-c%20role%3D{role}"), monkeypatch)
        with caplog.at_level(logging.WARNING):
            (partition, *_) = runs.plan()
    finally:
        made.change(f"DROP OWNED BY {role}; DROP ROLE {role}")
    assert Partition.model_validate_json(partition).added == {"note": "varchar(9) null"}
    assert "public.t has columns that the user may not read, so they are not added: n." in caplog.text


def test_added_columns_are_masked_where_any_is_sensitive(made: PipelineFixture) -> None:
    added = {"note": "text null"}
    assert make(ORDERS, sensitive=["customer"]).with_columns({"more": "text null"}).sensitive == ["customer", "more"]
    assert made.pipeline.with_columns(added).sensitive == []
    with pytest.raises(ConfigurationError, match="mark_column: 'gone' is among the columns"):
        changed(made, deletes="mark", mark_column="gone").pipeline.with_columns({"gone": "text null"})


@needs_double
def test_the_login_of_loads_may_add_columns_to_the_table_of_such_a_pipeline_only() -> None:
    adds = "ALTER TABLE [dbo].[orders] ADD [more] int NULL"
    with SqlServerDouble(password="Adm1n-of-the-'stand-in'", database="") as sql_server:
        server = Server(sql_server.url, "sink", "etl")
        server.prepare(make(ORDERS))
        with refused("orders"):
            server.as_loader(adds)
        server.prepare(make(ORDERS, on_new_source_column="add"))
        server.as_loader(adds)
        assert server.checked(make(ORDERS, on_new_source_column="add")) == []
        server.prepare(make(ORDERS))
        with refused("orders"):
            server.as_loader(adds.replace("more", "yet_more"))
