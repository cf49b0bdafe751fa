"""Every change: pipelines that read the source's write-ahead log (docs/log-capture.md)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dev.sandbox.pipeline_fixture import PipelineFixture
from dev.sandbox.postgres import Postgres
from tests.harness.log_sources import log_table, slot_position
from tests.harness.runs import Runs


@pytest.fixture
def made(postgres: Postgres, sink_url: str, tmp_path: Path) -> Iterator[PipelineFixture]:
    with log_table(postgres, sink_url, tmp_path) as found:
        yield found


@pytest.fixture
def runs(made: PipelineFixture, monkeypatch: pytest.MonkeyPatch) -> Runs:
    return Runs(made, monkeypatch)


def statuses(made: PipelineFixture) -> dict[Any, str]:
    """By key what the sink has."""
    return {key[0]: row[1] for key, row in made.sink_rows().items()}


def position(made: PipelineFixture) -> str:
    query = "SELECT [lsn] FROM [etl].[log_position] WHERE [pipeline] = ?"
    return str(made.query(query, made.pipeline.name)[0][0])


@pytest.mark.parametrize("steps", [(), ("run",)], ids=["separate", "fused"])
def test_an_order_that_was_confirmed_and_shipped_between_two_runs_arrives(
    made: PipelineFixture, runs: Runs, steps: tuple[str, ...]
) -> None:
    made.change("INSERT INTO t VALUES (1, 'confirmed', 'there at first'), (2, 'new', NULL), (3, 'new', NULL)")
    first = runs.plan()
    runs.steps("first", first, *steps)
    runs.reconcile("first", first)
    assert statuses(made) == {1: "confirmed"}
    for status in ("confirmed", "shipped"):
        made.change("UPDATE t SET status = %s WHERE k = 2", status)
    second = runs.plan()
    runs.steps("second", second, *steps)
    totals = runs.reconcile("second", second)
    assert statuses(made) == {1: "confirmed", 2: "confirmed"}
    # With the three inserts: the slot is older than the first run.
    assert (totals["extracted"], totals["kept"], totals["dropped"], totals["inserted"]) == (5, 2, 3, 1)
    assert slot_position(made) == position(made)
