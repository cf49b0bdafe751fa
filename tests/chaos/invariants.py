"""Invariants after every run and at the end: nothing lost, doubled, wrongly green, hanging, or left behind."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from etl.errors import TryAgainError
from etl.model.pipeline import Pipeline
from etl.sqlserver.sink import Sink

from dev.sandbox.pipeline_fixture import PipelineFixture, connect
from tests.chaos.orders import Rows
from tests.chaos.runs import Run
from tests.harness.e2e.live_pods import Pod

_SUMS = {"extracted": ("kept", "dropped", "rejected"), "kept": ("inserted", "updated", "unchanged")}
_MOST_SHOWN = 5
_SLACK = timedelta(minutes=2)
"""The time to end a task after its limit, and to notice that."""


class ViolationError(AssertionError):
    """A violated invariant."""


def check_audit(run: Run, audits: list[dict[str, Any]]) -> None:
    """Every green load has an audit row, written in the transaction with its rows; and it adds up."""
    found = {audit["partition_id"]: audit for audit in audits if audit["run_id"] == run.run_id}
    green = {f"{index + 1:04d}" for index in run.green("partition.load", "partition.run")}
    if missing := green - found.keys():
        raise ViolationError(f"{run.run_id}: the sink knows nothing of the green loads of {sorted(missing)}.")
    for name, audit in found.items():
        for whole, parts in _SUMS.items():
            if audit[whole] != sum(audit[part] for part in parts):
                raise ViolationError(f"{run.run_id}, partition {name}: {whole} is not {' + '.join(parts)}: {audit}")
    planned = [task for task in run.tasks.values() if task["task_id"] in ("partition.load", "partition.run")]
    if run.state == "success" and len(green) < len([task for task in planned if task["map_index"] >= 0]):
        raise ViolationError(f"{run.run_id} is green, and of its loads only {sorted(green)} are.")


def check_rows(run: Run, rows: Rows, expected: Rows) -> None:
    """The rows that a green run must have read are in the sink, at that version or a newer one."""
    if run.state != "success":
        return
    lost = {key: row for key, row in expected.items() if key not in rows or rows[key][-1] < row[-1]}
    if lost:
        raise ViolationError(f"{run.run_id} is green, and of what it read is not in: {_some(lost)}")
    other = {key: row for key, row in expected.items() if rows[key][-1] == row[-1] and rows[key] != row}
    if other:
        raise ViolationError(f"{run.run_id}: in the sink stands at the same version something else than {_some(other)}")


def check_times(run: Run, longest_task: timedelta) -> None:
    """No attempt took longer than a task may."""
    for name, task in run.tasks.items():
        if task["start_date"] and task["end_date"]:
            took = datetime.fromisoformat(task["end_date"]) - datetime.fromisoformat(task["start_date"])
            if took > longest_task + _SLACK:
                raise ViolationError(f"{run.run_id}: {name} took {took}, and {longest_task} is what a task may take.")


def check_equal(site: PipelineFixture, expected: Rows) -> None:
    """The sink holds the expected rows and no others. No key is there twice: `sink_rows` would raise."""
    rows = site.sink_rows()
    for words, wrong in (
        ("are lost", {key: row for key, row in expected.items() if key not in rows}),
        ("should not be there", {key: row for key, row in rows.items() if key not in expected}),
        ("are not as they were", {key: (row, rows.get(key)) for key, row in expected.items() if rows.get(key) != row}),
    ):
        if wrong:
            raise ViolationError(f"{len(wrong)} rows of {site.pipeline.sink} {words}: {_some(wrong)}")


def check_sink_is_tidy(site: PipelineFixture) -> None:
    """No staging table is left, and no application lock is held."""
    if tables := site.staging_tables():
        raise ViolationError(f"Staging tables are left in the sink: {tables}")
    with connect(site.settings, autocommit=False) as connection:
        try:
            Sink(connection).lock(f"etl: {site.pipeline.sink_identity}", timeout_ms=0)
        except TryAgainError as error:
            raise ViolationError(f"A lock is held in the sink, and no run is under way. {error}") from None
        finally:
            connection.rollback()


def leftover_pods(pods: list[Pod]) -> list[str]:
    """The pods of runs, when no run is under way."""
    return [f"{pod.name} ({pod.role} of {pod.dag_id}, {pod.phase})" for pod in pods if pod.of_a_run]


def check_staging(folder: Path, pipeline: Pipeline, retention: timedelta, last_run: datetime) -> None:
    """No files of a run are older than the retention; `extract` of a later run deletes expired ones."""
    for run in (folder / pipeline.name).glob("*"):
        times = [path.stat().st_mtime for path in (run, *run.rglob("*"))]
        youngest = datetime.fromtimestamp(max(times), UTC)
        if youngest < last_run - retention:
            raise ViolationError(f"Files of a run of {youngest} are still in staging: {run.name}")


def _some(rows: dict[Any, Any]) -> str:
    shown = dict(sorted(rows.items())[:_MOST_SHOWN])
    return f"{shown}{'' if len(rows) <= _MOST_SHOWN else f' and {len(rows) - _MOST_SHOWN} more'}"
