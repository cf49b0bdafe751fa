"""`etl verify --repair`: what differs comes from the source again, once, and every other row stays as it is."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from etl.errors import DataError
from etl.sqlserver.sql import quote_time
from etl.verify import repair
from etl.verify.command import verify

from dev.sandbox.pipeline_fixture import PipelineFixture, pipeline_fixture
from dev.sandbox.pipelines import ORDERS
from tests.faults.cuts import CutError, count_statements
from tests.harness.runs import Runs

REPLACED = {**ORDERS, "version": None, "mode": "replace", "deletes": "delete"}


@pytest.fixture(params=[ORDERS, REPLACED], ids=["incremental", "replace"])
def made(
    source_url: str, sink_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[PipelineFixture]:
    """A site after its first run."""
    with pipeline_fixture(request.param, source_url, sink_url, tmp_path) as site:
        Runs(site, monkeypatch).run("first")
        yield site


def plant(made: PipelineFixture) -> dict[Any, tuple[Any, ...]]:
    """Change the sink by hand; returns its rows before."""
    before = made.sink_rows()
    keys = [key for (key,) in sorted(before)]
    sink, place = f"[dbo].[{made.pipeline.sink.table}]", list(made.pipeline.columns).index("updated_at")
    for key in keys[:3]:
        made.execute(f"DELETE FROM {sink} WHERE [order_id] = {key}")
    for key in keys[3:6]:
        made.execute(f"UPDATE {sink} SET [note] = N'by hand' WHERE [order_id] = {key}")
    for key, days in zip(keys[6:10], (-1, 1, -2, 2), strict=True):
        version = quote_time(before[key,][place] + timedelta(days=days))
        made.execute(f"UPDATE {sink} SET [updated_at] = {version}, [amount] = 1 WHERE [order_id] = {key}")
    return before


def repairs(made: PipelineFixture) -> list[dict[str, Any]]:
    """The audit rows of repairs."""
    return [audit for audit in made.audits() if audit["partition_id"].startswith(repair.KIND)]


def in_the_ledger(made: PipelineFixture) -> list[tuple[Any, ...]]:
    query = "SELECT [verdict], [repaired] FROM [etl].[verification] WHERE [pipeline] = ?"
    return made.query(query, made.pipeline.name)


def test_each_row_is_as_before_and_the_audit_adds_up(made: PipelineFixture) -> None:
    before = plant(made)
    outcome = verify(made.settings, made.pipeline, "verify", "deep", repairs=True)
    assert (outcome.verdict, outcome.repaired) == ("equal", 10)
    assert made.sink_rows() == before
    (audit,) = repairs(made)
    assert (audit["extracted"], audit["kept"], audit["inserted"], audit["updated"]) == (10, 10, 3, 7)
    assert made.staging_tables() == []
    assert in_the_ledger(made) == [("equal", 10)]


def test_a_row_that_changes_in_the_sink_meanwhile_is_left_alone(
    made: PipelineFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = plant(made)
    keys, sink = [key for (key,) in sorted(before)], f"[dbo].[{made.pipeline.sink.table}]"
    real = repair._copy

    def copy(*arguments: Any) -> str:
        made.execute(f"UPDATE {sink} SET [note] = N'by another hand' WHERE [order_id] = {keys[4]}")
        return real(*arguments)

    monkeypatch.setattr(repair, "_copy", copy)
    with pytest.raises(DataError, match="1 different"):
        verify(made.settings, made.pipeline, "verify", "deep", repairs=True)
    place = list(made.pipeline.columns).index("note")
    differing = {key: row for key, row in made.sink_rows().items() if row != before[key]}
    assert {key: row[place] for key, row in differing.items()} == {(keys[4],): "by another hand"}
    assert made.sink_rows().keys() == before.keys()
    assert in_the_ledger(made) == [("differs", 9)]


def test_too_many_are_refused_and_nothing_is_changed(made: PipelineFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(made)
    changed = made.sink_rows()
    monkeypatch.setattr(repair, "MOST", 9)
    with pytest.raises(DataError, match="10 of 1,600 rows would be repaired, and 9 are allowed"):
        verify(made.settings, made.pipeline, "verify", "deep", repairs=True)
    assert made.sink_rows() == changed
    assert repairs(made) == []
    assert in_the_ledger(made) == [("differs", 0)]


def test_cut_at_any_statement_and_repeated_each_row_is_repaired_once(
    made: PipelineFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, statements, cut_at = plant(made), count_statements(monkeypatch), 0
    while True:
        cut_at += 1
        statements.clear()
        statements.append(cut_at)
        try:
            outcome = verify(made.settings, made.pipeline, "verify", "deep", repairs=True)
        except CutError:
            continue
        break
    statements.clear()
    assert cut_at > 20
    assert (outcome.verdict, outcome.repaired) == ("equal", 10)
    assert made.sink_rows() == before
    assert sum(audit["inserted"] + audit["updated"] for audit in repairs(made)) == 10
    assert in_the_ledger(made) == [("equal", 10)]
