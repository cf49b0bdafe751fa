"""Metrics of pipelines, sent with Airflow's own metrics."""

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

from airflow.sdk.observability import stats
from etl.model.pipeline import Pipeline

POD_PHASES = ("launch", "start", "work", "notice")
"""Start of the worker, start of the pod, the step, and the time until the worker notices its end."""


LAG = "etl.lag"
"""Seconds that the sink is behind the source: no change that is not in the sink is older than this."""
TOLERATED_REJECTS = "etl.tolerated_rejects"
"""Threshold of rejected rows in a run, for the alert."""
UNREACHABLE_VERSIONS = "etl.unreachable_versions"
"""Rows of the source that a plan left out for their versions, in the future or infinite."""
LOG_RETAINED = "etl.log_retained"
"""Bytes of the write-ahead log that the source keeps for a pipeline's slot."""
LOG_RETAINED_SHARE = "etl.log_retained_share"
"""The same as a share of max_slot_wal_keep_size, beyond which the slot is lost; not sent where that has no limit."""
LOG_SLOT_LOST = "etl.log_slot_lost"
"""Whether the slot is lost, or not there: changes are missing then."""
RECONCILIATION_DIFFERENCE = "etl.reconciliation_difference"
"""Difference in rows by which a run does not add up; 0 if it does."""


def gauge(name: str, pipeline: Pipeline, value: float) -> None:
    """Send a metric of a pipeline. None is negative, however the clocks of worker and source differ."""
    stats.gauge(name, max(0.0, value), tags={"pipeline": pipeline.name})


def pod_phases(dag_id: str, task_id: str, times: Sequence[datetime]) -> None:
    """Durations of the phases of a step's task.

    `times`: task began, pod requested, first and last log line of the pod, end noticed by the worker. The clocks of two
    nodes differ, so negative durations count as zero.
    """
    for phase, (begin, end) in zip(POD_PHASES, pairwise(times), strict=True):
        milliseconds = max(0.0, (end - begin).total_seconds() * 1000)
        tags = {"dag_id": dag_id, "task_id": task_id, "phase": phase}
        stats.timing("etl.pod_phase_duration", milliseconds, tags=tags)
