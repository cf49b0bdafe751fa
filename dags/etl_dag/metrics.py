"""What the DAG measures of a pipeline, sent with Airflow's own metrics."""

from airflow.sdk.observability import stats
from etl.pipeline import Pipeline


def lag(pipeline: Pipeline, seconds: float) -> None:
    """How far the sink is behind the source: no change that is not in the sink is older than this."""
    stats.gauge("etl.lag", max(0.0, seconds), tags={"pipeline": pipeline.name})


def tolerated_rejects(pipeline: Pipeline) -> None:
    """How many rejected rows a run may have: what the alert compares with."""
    stats.gauge("etl.tolerated_rejects", pipeline.tolerated_rejects, tags={"pipeline": pipeline.name})


def reconciliation_difference(pipeline: Pipeline, rows: int) -> None:
    """By how many rows a run does not add up; 0 where it does."""
    stats.gauge("etl.reconciliation_difference", rows, tags={"pipeline": pipeline.name})
