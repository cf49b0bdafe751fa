"""The orders pipeline over a separate table, in three steps and in one, with short waits. For tests/chaos."""

from datetime import timedelta
from typing import Literal

import pendulum
from airflow.sdk import DAG
from etl.model.pipeline import Pipeline
from etl_airflow.dag.factory import pipeline_dag

LONGEST_TASK = timedelta(minutes=5)
LONGEST_RUN = timedelta(minutes=15)


def pipeline(name: str, steps: Literal["separate", "fused"]) -> Pipeline:
    """As orders_etl.py has it, but for partitions of a few hundred rows and a look-back of a minute."""
    return Pipeline(
        name=name,
        source="public.chaos_orders",
        sink=f"dbo.{name}",
        columns={
            "order_id": "bigint",
            "customer": "varchar(100)",
            "status": "varchar(16)",
            "currency": "char(3)",
            "amount": "numeric(12,2)",
            "note": "text null",
            "created_at": "timestamptz",
            "updated_at": "timestamptz",
        },
        key=["order_id"],
        version="updated_at",
        filter="status = 'confirmed'",
        look_back=timedelta(minutes=1),
        partition_size=400,
        steps=steps,
    )


def impatient(dag: DAG) -> DAG:
    """The same with more tries, sooner after one another, and with bounds that a campaign can wait for."""
    dag.dagrun_timeout = LONGEST_RUN
    for task in dag.tasks:
        task.retries = 6
        task.retry_delay = timedelta(seconds=2)
        task.max_retry_delay = timedelta(seconds=15)
        task.execution_timeout = LONGEST_TASK
    return dag


SEPARATE, FUSED = pipeline("chaos_separate", "separate"), pipeline("chaos_fused", "fused")
# Runs are triggered; the schedule, once a year, is only there because every pipeline has one.
START = pendulum.datetime(2026, 6, 1, tz="UTC")
separate, fused = (
    impatient(pipeline_dag(each, schedule="0 0 1 1 *", start_date=START, owner="tests")) for each in (SEPARATE, FUSED)
)
