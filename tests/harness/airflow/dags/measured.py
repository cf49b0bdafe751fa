"""DAGs that show the metrics which a run of the orders does not: of failures, retries, schedules and the triggerer."""

from datetime import timedelta

import pendulum
from airflow.providers.standard.sensors.time_delta import TimeDeltaSensor
from airflow.sdk import DAG, task

_START = pendulum.datetime(2026, 1, 1, tz="UTC")

with DAG("fails", schedule=None, start_date=_START):

    @task(retries=1, retry_delay=timedelta(seconds=1))
    def fail() -> None:
        """Fail twice, and so the run."""
        raise RuntimeError("on purpose")

    fail()

with DAG("waits", schedule=timedelta(seconds=10), start_date=_START, catchup=False, max_active_runs=1):
    TimeDeltaSensor(task_id="wait", delta=timedelta(seconds=10), deferrable=True)
