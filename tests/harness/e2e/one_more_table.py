"""A table, and the DAG file that a user writes for it."""

import psycopg
from etl.model.pipeline import Pipeline

_DAG = '''"""Active {name}, for Airflow."""

import pendulum
from airflow.sdk import DAG
from etl.model.pipeline import Pipeline

from etl_airflow.dag.factory import pipeline_dag

PIPELINE = Pipeline(
    name="{name}",
    source="public.{name}",
    sink="dbo.{name}",
    columns={{
        "sku": "integer", "weight": "real", "active": "boolean", "label": "text", "changed_at": "timestamptz"
    }},
    key=["sku"],
    version="changed_at",
    filter="active AND label = '$$ $(SINK_PASSWORD)'",
    partition_size=60,
)
dag: DAG = pipeline_dag(
    PIPELINE, schedule="{schedule}", start_date=pendulum.datetime(2026, 6, 1, tz="Europe/Berlin"), owner="data-platform"
)
'''
EVERY_MINUTE, EVERY_YEAR = "* * * * *", "0 0 1 1 *"
ACTIVE = 80
"""Of 120 rows, in two partitions."""


def make_table(source_url: str, name: str) -> None:
    """Make the table in the source, with its rows."""
    with psycopg.connect(source_url, autocommit=True) as connection:
        connection.execute(
            f"CREATE TABLE {name} (sku integer PRIMARY KEY, weight real NOT NULL, active boolean NOT NULL,"
            # Kubernetes would expand this in a step's arguments.
            " label text NOT NULL DEFAULT '$$ $(SINK_PASSWORD)', changed_at timestamptz NOT NULL DEFAULT now());"
            f" INSERT INTO {name} SELECT n, n / 2.0, n % 3 > 0 FROM generate_series(1, 120) AS n".encode()
        )


def dag_file(name: str, schedule: str = EVERY_MINUTE) -> str:
    """The text of the file."""
    return _DAG.format(name=name, schedule=schedule)


def pipeline_of(name: str) -> Pipeline:
    """The part of its pipeline that locates its rows."""
    columns = {"sku": "integer", "active": "boolean", "changed_at": "timestamptz"}
    return Pipeline(
        name=name,
        source=f"public.{name}",
        sink=f"dbo.{name}",
        columns=columns,
        key=["sku"],
        version="changed_at",
        filter="active",
    )
