"""A DAG file that cannot be imported while there is a file /tmp/broken beside the DAG processor."""

from pathlib import Path

import pendulum
from airflow.sdk import DAG, task

if Path("/tmp/broken").exists():
    raise ValueError("This file breaks on demand.")

with DAG("breaks_on_demand", schedule=None, start_date=pendulum.datetime(2026, 1, 1, tz="UTC")):

    @task
    def nothing() -> None:
        """Do nothing."""

    nothing()
