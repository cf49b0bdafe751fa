"""Runs that meet: two triggers at once, a backfill beside the schedule, a run that is cleared a week later."""

import subprocess
from datetime import UTC, datetime, timedelta

import pytest
from etl.errors import TryAgainError
from etl.model.window import Partition

from dev.sandbox.pipeline_fixture import PipelineFixture
from tests.harness.runs import Runs


@pytest.fixture
def runs(orders: PipelineFixture, monkeypatch: pytest.MonkeyPatch) -> Runs:
    return Runs(orders, monkeypatch)


def change(made: PipelineFixture, orders: str) -> None:
    made.change(f"UPDATE orders SET status = 'confirmed', amount = amount + 1 WHERE {orders}")


def together(made: PipelineFixture, planned: dict[str, list[str]]) -> None:
    """Bring the partitions of several runs through at the same time. Who has to wait for another may try again."""
    processes = {
        run_id: subprocess.Popen(
            made.command("run", run_id, Partition.model_validate_json(partition)), env=made.environment(), text=True,
            stderr=subprocess.PIPE,
        )
        for run_id, partitions in planned.items()
        for partition in partitions
    }  # fmt: skip
    for run_id, process in processes.items():
        _, output = process.communicate()
        assert process.returncode in (0, 75), output
        if process.returncode:
            for partition in planned[run_id]:
                made.run(run_id, Partition.model_validate_json(partition), "run")


def test_two_triggers_at_once_bring_every_row_once_and_both_add_up(runs: Runs) -> None:
    """Airflow lets the other wait (max_active_runs); nothing depends on that."""
    planned = {run_id: runs.plan() for run_id in ("one", "other")}
    together(runs.made, planned)
    totals = [runs.reconcile(run_id, partitions) for run_id, partitions in planned.items()]
    assert [total["verdict"] for total in totals] == ["adds up", "adds up"]
    assert sum(total["inserted"] for total in totals) == 1600
    assert runs.made.sink_rows() == runs.made.source_rows("status = 'confirmed'")
    assert runs.made.staging_tables() == []


def test_of_two_that_read_at_different_times_the_later_one_stands(runs: Runs) -> None:
    earlier = runs.plan()
    runs.steps("earlier", earlier, "extract", "filter")
    change(runs.made, "order_id <= 50")
    assert runs.run("later")["verdict"] == "adds up"
    ahead = runs.watermark()
    runs.steps("earlier", earlier, "load")
    totals = runs.reconcile("earlier", earlier)
    assert (totals["verdict"], totals["updated"], totals["watermark_advanced"]) == ("adds up", 0, False)
    assert runs.watermark() == ahead
    assert runs.made.sink_rows() == runs.made.source_rows("status = 'confirmed'")


def test_a_backfill_over_a_running_schedule_takes_nothing_back(runs: Runs) -> None:
    runs.run("first")
    backfill = runs.plan(full_refresh=True, until="2026-01-05T00:00:00Z")
    runs.steps("backfill", backfill, "extract")
    for number in range(3):
        change(runs.made, f"order_id BETWEEN {number * 10} AND {number * 10 + 9}")
        assert runs.run(f"scheduled {number}")["watermark_advanced"]
    ahead = runs.watermark()
    runs.steps("backfill", backfill, "filter", "load")
    totals = runs.reconcile("backfill", backfill)
    assert (totals["verdict"], totals["inserted"], totals["updated"]) == ("adds up", 0, 0)
    assert runs.watermark() == ahead
    assert runs.made.sink_rows() == runs.made.source_rows("status = 'confirmed'")


@pytest.fixture
def a_week_later(runs: Runs) -> tuple[Runs, list[str]]:
    """A run and its partitions; since then orders have changed and other runs have moved on."""
    runs.run("before", until="2026-01-02T00:00:00Z")
    old = runs.plan()
    runs.steps("old", old)
    runs.reconcile("old", old)
    change(runs.made, "order_id <= 200")
    runs.made.change("DELETE FROM orders WHERE order_id BETWEEN 3000 AND 3100")
    runs.run("since")
    return runs, old


def test_a_run_cleared_a_week_later_plans_anew_and_takes_nothing_back(a_week_later: tuple[Runs, list[str]]) -> None:
    runs, _ = a_week_later
    rows, ahead = runs.made.sink_rows(), runs.watermark()
    change(runs.made, "order_id BETWEEN 300 AND 320")
    assert runs.run("old")["verdict"] == "adds up"
    assert runs.watermark() > ahead
    changed = runs.made.source_rows("order_id BETWEEN 300 AND 320")
    assert runs.made.sink_rows() == {**rows, **changed}


@pytest.mark.parametrize("steps", [("extract", "filter", "load"), ("run",)])
def test_its_partitions_cleared_from_their_first_step_on_read_what_is_there_now(
    a_week_later: tuple[Runs, list[str]], steps: tuple[str, ...]
) -> None:
    runs, old = a_week_later
    rows, ahead = runs.made.sink_rows(), runs.watermark()
    runs.steps("old", old, *steps)
    assert runs.reconcile("old", old)["verdict"] == "adds up"
    assert (runs.made.sink_rows(), runs.watermark()) == (rows, ahead)


def test_its_load_cleared_alone_brings_nothing_old_over_what_is_newer(a_week_later: tuple[Runs, list[str]]) -> None:
    runs, old = a_week_later
    rows, ahead = runs.made.sink_rows(), runs.watermark()
    runs.steps("old", old, "load")
    assert runs.reconcile("old", old)["verdict"] == "adds up"
    assert (runs.made.sink_rows(), runs.watermark()) == (rows, ahead)


def test_its_load_cleared_alone_says_what_to_do_where_its_files_are_gone(a_week_later: tuple[Runs, list[str]]) -> None:
    runs, old = a_week_later
    rows = runs.made.sink_rows()
    assert runs.made.work().staging.sweep(datetime.now(UTC) + timedelta(days=7)) == 3
    with pytest.raises(TryAgainError, match="run `etl filter` first"):
        runs.steps("old", old, "load")
    assert runs.made.sink_rows() == rows
