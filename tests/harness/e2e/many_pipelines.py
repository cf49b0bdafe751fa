"""Many small pipelines with a schedule of a minute, and changes at their sources. For load_campaign.py."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from threading import Event, Thread

import psycopg

from tests.harness.e2e.one_more_table import make_table

_FILE = '''"""{count} pipelines, for Airflow."""

from datetime import timedelta

import pendulum
from airflow.sdk import DAG
from etl.model.pipeline import Pipeline

from etl_airflow.dag.factory import pipeline_dag


def dag_of(name: str) -> DAG:
    pipeline = Pipeline(
        name=name,
        source=f"public.{{name}}",
        sink=f"dbo.{{name}}",
        columns={{"sku": "integer", "weight": "real", "active": "boolean", "changed_at": "timestamptz"}},
        key=["sku"],
        version="changed_at",
        filter="active",
        look_back=timedelta(minutes=1),
        steps="fused",
    )
    start = pendulum.datetime(2026, 6, 1, tz="Europe/Berlin")
    dag = pipeline_dag(pipeline, schedule="* * * * *", start_date=start, owner="tests")
    dag.end_date = pendulum.parse("{until}")
    return dag


dags = [dag_of(f"{prefix}{{number:02d}}") for number in range({count})]
'''
PREFIX = "many_"


def names(count: int) -> list[str]:
    """Of the pipelines and their tables."""
    return [f"{PREFIX}{number:02d}" for number in range(count)]


def dag_file(count: int, until: datetime) -> str:
    """The text of the file with their DAGs. Their schedules end at a time; runs under way then go on."""
    return _FILE.format(count=count, prefix=PREFIX, until=until.isoformat())


def make_tables(source_url: str, count: int) -> None:
    """Make their tables in the source."""
    for name in names(count):
        make_table(source_url, name)


@contextmanager
def changing(source_url: str, count: int) -> Iterator[None]:
    """Change rows of all tables, several a second, until the block ends; inactive ones become active at times."""
    stop, failures = Event(), list[BaseException]()
    choice = random.Random(1)

    def change() -> None:
        try:
            with psycopg.connect(source_url, autocommit=True) as connection:
                while not stop.wait(0.2):
                    connection.execute(
                        f"UPDATE {choice.choice(names(count))} SET weight = %s, active = active OR %s,"
                        " changed_at = clock_timestamp() WHERE sku = %s".encode(),
                        (choice.randrange(1000), choice.random() < 0.3, choice.randint(1, 120)),
                    )
        except psycopg.Error as error:
            failures.append(error)

    thread = Thread(target=change, name="changes", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=30)
    assert not failures, f"The changes at the source ended early: {failures[0]}"
