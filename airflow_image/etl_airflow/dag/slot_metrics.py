"""Metrics of a pipeline's replication slot at the source, as a plan finds it."""

from typing import Any

from etl.model.pipeline import Pipeline
from etl.postgres.log_state import read_slot

from etl_airflow import metrics

_MEGABYTE = 1 << 20


def send(pipeline: Pipeline, cursor: Any) -> None:
    """Send the bytes of log that the slot keeps, their share of the limit, and whether the slot is lost.

    Before the plan checks the slot, so that one that is lost is measured, too.
    """
    server, slot = read_slot(pipeline, cursor)
    is_lost = slot is None or slot.is_lost
    metrics.gauge(metrics.LOG_SLOT_LOST, pipeline, float(is_lost))
    retained = slot.retained if slot else 0
    metrics.gauge(metrics.LOG_RETAINED, pipeline, retained)
    if server.keeps > 0:
        metrics.gauge(metrics.LOG_RETAINED_SHARE, pipeline, retained / (server.keeps * _MEGABYTE))
