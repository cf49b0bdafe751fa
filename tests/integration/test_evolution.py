"""Columns that are added, dropped, renamed or retyped: the next run fills them, or plan stops and advises."""

import logging
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from etl.model.pipeline import Pipeline
from etl.model.window import Partition
from etl.sqlserver.sink import Sink

from dev.sandbox.pipeline_fixture import PipelineFixture, pipeline_fixture
from dev.sandbox.pipelines import ORDERS, make
from dev.sandbox.postgres import Postgres
from dev.sandbox.sqlserver import SqlServerDouble
from tests.faults.double import needs_double
from tests.harness.runs import Runs
from tests.harness.sink_server import Server

DEFINITION: dict[str, Any] = {
    "name": "t", "source": "public.t", "columns": {"k": "integer", "v": "varchar(9)", "at": "timestamptz"},
    "key": ["k"], "version": "at", "filter": "v <> 'x'", "partition_size": 10, "look_back": 0,
}  # fmt: skip
ADDED = {"note": "text null", "n": "smallint"}


@pytest.fixture
def table(postgres: Postgres, sink_url: str, tmp_path: Path) -> Iterator[PipelineFixture]:
    """The fixture of a table of 40 rows."""
    name = f"evolution_{uuid.uuid4().hex[:8]}"
    with pipeline_fixture(DEFINITION, postgres.create_database(name), sink_url, tmp_path) as made:
        made.change("CREATE TABLE t (k integer PRIMARY KEY, v varchar(9) NOT NULL, at timestamptz NOT NULL)")
        made.change(
            "INSERT INTO t SELECT n, CASE n % 4 WHEN 0 THEN 'x' ELSE 'a' END, now() FROM generate_series(1, 40) AS n"
        )
        yield made
    postgres.drop_database(name)


def changed(made: PipelineFixture, **changes: Any) -> PipelineFixture:
    return replace(made, pipeline=Pipeline.model_validate({**made.pipeline.model_dump(), **changes}))


def windows(partitions: list[str]) -> set[tuple[bool, str, bool]]:
    """Of partitions: whether they begin at the beginning, what they refresh, and whether they fill columns."""
    found = [Partition.model_validate_json(partition).window for partition in partitions]
    return {(window.low is None, window.refresh, window.fills) for window in found}


@pytest.mark.parametrize("loaded", [0, 1, 3, 4])
def test_a_column_that_is_added_is_filled_by_the_next_run_wherever_it_is_broken_off(
    table: PipelineFixture, loaded: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run is broken off after so many of its partitions, and another follows."""
    Runs(table, monkeypatch).run("first")
    table.change("ALTER TABLE t ADD note text, ADD n smallint NOT NULL DEFAULT 7")
    table.change("UPDATE t SET note = 'old ' || k WHERE k % 3 > 0")
    table.change("DELETE FROM t WHERE k = 1")
    runs = Runs(changed(table, columns={**table.pipeline.columns, **ADDED}), monkeypatch)
    partitions = runs.plan()
    assert len(partitions) == 4
    assert windows(partitions) == {(True, "differing", True)}
    runs.steps("broken off", partitions[:loaded])
    runs.made.change("UPDATE t SET note = 'new', at = clock_timestamp() WHERE k = 2")
    totals = runs.run("second")
    assert totals["updated"] + totals["unchanged"] == 29
    assert (totals["inserted"], totals["extracted"]) == (0, 39)
    gone = {(1,): (1, "a", table.sink_rows()[1,][-1], None, None)}
    assert runs.made.sink_rows() == runs.made.source_rows("v <> 'x'") | gone
    assert windows(runs.plan()) <= {(False, "newer", False)}
    runs.made.change("UPDATE t SET note = 'newer', at = clock_timestamp() WHERE k = 3")
    assert runs.run("third")["updated"] == 1


def test_a_run_of_another_pipeline_goes_on_while_a_column_is_filled(
    table: PipelineFixture, orders: PipelineFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole, in the middle of the transaction that fills it."""
    Runs(table, monkeypatch).run("first")
    table.change("ALTER TABLE t ADD note text DEFAULT 'a'")
    filling = Runs(changed(table, columns={**table.pipeline.columns, "note": "text null"}), monkeypatch)
    partitions = filling.plan()
    real = Sink.change
    verdicts: list[str] = []

    def change_beside_a_run(self: Sink, statement: str, *parameters: object) -> int:
        updated = real(self, statement, *parameters)
        if table.pipeline.sink.table in statement and not verdicts:
            assert updated
            verdicts.append("under way")
            verdicts[0] = Runs(orders, monkeypatch).run("beside")["verdict"]
        return updated

    monkeypatch.setattr(Sink, "change", change_beside_a_run)
    filling.steps("second", partitions)
    assert verdicts == ["adds up"]
    totals = Runs(filling.made, monkeypatch).reconcile("second", partitions)
    assert (totals["updated"], totals["verdict"]) == (30, "adds up")


def test_a_run_of_a_part_leaves_the_column_to_the_next(table: PipelineFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    Runs(table, monkeypatch).run("first")
    table.change("ALTER TABLE t ADD note text DEFAULT 'a'")
    runs = Runs(changed(table, columns={**table.pipeline.columns, "note": "text null"}), monkeypatch)
    runs.run("part", since="2026-01-01T00:00:00Z")
    assert windows(runs.plan()) == {(True, "differing", True)}


@pytest.mark.parametrize("was_added", [False, True])
def test_a_column_that_was_out_of_the_pipeline_for_some_runs_is_filled_when_it_is_back(
    table: PipelineFixture, was_added: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was there from the beginning, or had been added and filled."""
    table.change("ALTER TABLE t ADD note text DEFAULT 'a'")
    whole = changed(table, columns={**table.pipeline.columns, "note": "text null"})
    if was_added:
        Runs(table, monkeypatch).run("before")
    Runs(whole, monkeypatch).run("first")
    assert windows(Runs(whole, monkeypatch).plan()) <= {(False, "newer", False)}
    table.change("UPDATE t SET note = 'changed', at = clock_timestamp() WHERE k = 2")
    table.change("INSERT INTO t VALUES (41, 'a', clock_timestamp(), 'new')")
    Runs(table, monkeypatch).run("second")
    Runs(table, monkeypatch).run("refreshed", full_refresh=True)
    runs = Runs(whole, monkeypatch)
    assert windows(runs.plan()) == {(True, "differing", True)}
    assert runs.run("third")["updated"] == 2
    assert whole.sink_rows() == whole.source_rows("v <> 'x'")
    assert windows(runs.plan()) <= {(False, "newer", False)}


def test_mode_replace_fills_a_column_in_the_run_that_adds_it(
    table: PipelineFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runs after it read nothing if nothing has changed."""
    made = changed(table, mode="replace", version=None)
    Runs(made, monkeypatch).run("first")
    table.change("ALTER TABLE t ADD note text DEFAULT 'a'")
    runs = Runs(changed(made, columns={**table.pipeline.columns, "note": "text null"}), monkeypatch)
    assert runs.run("second")["updated"] == 30
    assert runs.plan() == []


def test_mode_append_does_not_change_rows_to_fill_a_column(
    table: PipelineFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    Runs(table, monkeypatch).run("first")
    table.change("ALTER TABLE t ADD note text")
    columns = {**table.pipeline.columns, "note": "text null"}
    with pytest.raises(AirflowFailException, match=r'note of dbo\.t_\w+ have no values yet, .*mode="incremental" fill'):
        Runs(changed(table, columns=columns, mode="append"), monkeypatch).plan()


def test_a_pipeline_that_begins_to_mark_gets_the_column_of_marks(
    table: PipelineFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows are not read again for that."""
    Runs(table, monkeypatch).run("first")
    table.change("DELETE FROM t WHERE k = 1")
    runs = Runs(changed(table, deletes="mark"), monkeypatch)
    assert windows(runs.plan()) == {(False, "newer", False)}
    assert runs.run("second")["marked"] == 1
    assert table.query(f"SELECT [k] FROM [dbo].[{table.pipeline.sink.table}] WHERE [deleted_at] IS NOT NULL") == [(1,)]
    assert runs.run("third")["marked"] == 0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("DROP COLUMN v", r"public\.t has no column v\. If it was dropped, take it out of the pipeline"),
        (
            "RENAME v TO w",
            r'no column v\. Was it renamed to w, .* write "v": Column\("varchar\(9\)", source="w"\) in its columns',
        ),
        ("ALTER v TYPE integer USING 1", r"column v of public\.t is integer, the pipeline says varchar\(9\)"),
    ],
)
def test_a_column_that_the_source_lacks_or_has_with_another_type_stops_the_plan(
    table: PipelineFixture, change: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Runs(table, monkeypatch)
    runs.run("first")
    table.change(f"ALTER TABLE t {change}")
    with pytest.raises(AirflowFailException, match=told):
        runs.plan()


@pytest.mark.parametrize("does", ["ignore", "warn"])
def test_new_columns_of_the_source_are_ignored_or_named(
    table: PipelineFixture, does: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    table.change("ALTER TABLE t ADD note text, ADD n smallint")
    with caplog.at_level(logging.WARNING):
        Runs(changed(table, on_new_source_column=does), monkeypatch).run("first")
    told = "public.t has columns that the pipeline does not list: note text, n smallint." in caplog.text
    assert told == (does == "warn")


@needs_double
def test_prepare_sink_adds_the_column_where_loads_alter_no_tables() -> None:
    columns = {name: declared for name, declared in ORDERS["columns"].items() if name != "note"}
    with SqlServerDouble(password="Adm1n-of-the-'stand-in'", database="") as sql_server:
        server = Server(sql_server.url, "sink", "etl")
        server.prepare(make(ORDERS, columns=columns))
        assert server.prepare(make(ORDERS)) == ["added note to dbo.orders, which the next run fills"]
        assert server.prepare(make(ORDERS)) == []
        assert server.prepare(make(ORDERS, deletes="mark")) == ["added deleted_at to dbo.orders"]
        assert server.as_loader("SELECT [column_name], [filled_at] FROM [etl].[backfill]") == [("note", None)]
