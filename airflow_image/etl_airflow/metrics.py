"""What the DAG measures of a pipeline, sent with Airflow's own metrics."""

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

from airflow.sdk.observability import stats
from etl.model.pipeline import Pipeline

POD_PHASES = ("launch", "start", "work", "notice")
"""The worker's own start, the pod's, the step, and the end until the worker knows of it."""


def lag(pipeline: Pipeline, seconds: float) -> None:
    """How far the sink is behind the source: no change that is not in the sink is older than this."""
    stats.gauge("etl.lag", max(0.0, seconds), tags={"pipeline": pipeline.name})


def tolerated_rejects(pipeline: Pipeline) -> None:
    """How many rejected rows a run may have: what the alert compares with."""
    stats.gauge("etl.tolerated_rejects", pipeline.tolerated_rejects, tags={"pipeline": pipeline.name})


def unreachable_versions(pipeline: Pipeline, rows: int) -> None:
    """How many rows of the source a plan left out for their versions, in the future or infinite."""
    stats.gauge("etl.unreachable_versions", rows, tags={"pipeline": pipeline.name})


def reconciliation_difference(pipeline: Pipeline, rows: int) -> None:
    """By how many rows a run does not add up; 0 where it does."""
    stats.gauge("etl.reconciliation_difference", rows, tags={"pipeline": pipeline.name})


def pod_phases(dag_id: str, task_id: str, times: Sequence[datetime]) -> None:
    """Where the seconds of a step's task went.

    `times` are when the task began, its pod was asked for, the pod's first and last line were written, and the worker
    knew that it had ended. Clocks of two nodes differ: no phase is shorter than nothing.
    """
    for phase, (begin, end) in zip(POD_PHASES, pairwise(times), strict=True):
        milliseconds = max(0.0, (end - begin).total_seconds() * 1000)
        tags = {"dag_id": dag_id, "task_id": task_id, "phase": phase}
        stats.timing("etl.pod_phase_duration", milliseconds, tags=tags)
