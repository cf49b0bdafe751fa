"""The DAG of a pipeline that reads the write-ahead log, run by the real Airflow: changes, nothing, and a failure."""

import os
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from etl.model.pipeline import Pipeline

from dev.sandbox.pipeline_fixture import PipelineFixture, existing_fixture
from dev.sandbox.postgres import Postgres
from dev.sandbox.stack import INIT_SQL, Stack, airflow_environment
from tests.harness.log_sources import drop_slot, make_slot, slot_position

_DEFINITION: dict[str, Any] = {
    "name": "captured", "source": "public.orders", "sink": "dbo.captured", "capture": "log",
    "columns": {"order_id": "bigint", "customer": "varchar(100)", "status": "varchar(16)"},
    "key": ["order_id"], "filter": "status = 'confirmed'", "steps": "fused",
}  # fmt: skip
_FILE = f"""
import pendulum
from etl.model.pipeline import Pipeline
from etl_airflow.dag.factory import pipeline_dag

PIPELINE = Pipeline.model_validate({_DEFINITION!r})
dag = pipeline_dag(PIPELINE, schedule="@daily", start_date=pendulum.datetime(2026, 1, 1, tz="UTC"), owner="tests")
"""


@pytest.fixture(scope="module")
def stack(postgres: Postgres, sink_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    suffix = f"{os.getpid()}"
    source_url = postgres.create_database(f"log_orders_{suffix}", INIT_SQL)
    environment = airflow_environment(folder, postgres.create_database(f"log_airflow_{suffix}"), source_url, sink_url)
    dags = folder / "dags"
    dags.mkdir()
    (dags / "captured_etl.py").write_text(textwrap.dedent(_FILE))
    environment["AIRFLOW__CORE__DAGS_FOLDER"] = str(dags)
    made = Stack(source_url, sink_url, True, environment, folder / "log")
    made.run("airflow", "db", "migrate", quiet=True)
    yield made
    for name in ("log_orders", "log_airflow"):
        postgres.drop_database(f"{name}_{suffix}")


@pytest.fixture(scope="module")
def captured(stack: Stack) -> Iterator[PipelineFixture]:
    pipeline = Pipeline.model_validate(_DEFINITION)
    made = existing_fixture(pipeline, stack.source_url, stack.sink_url, Path(stack.environment["STAGING_URL"][7:]))
    made.claim()
    made.change("ALTER TABLE orders REPLICA IDENTITY FULL")
    made.change(f"CREATE PUBLICATION {pipeline.publication_name} FOR TABLE orders")
    make_slot(made)
    yield made
    drop_slot(made)
    made.clean()


def position(made: PipelineFixture) -> Any:
    return made.query("SELECT [lsn], [run_id] FROM [etl].[log_position] WHERE [pipeline] = ?", made.pipeline.name)[0]


def test_airflow_runs_a_pipeline_that_reads_the_log(stack: Stack, captured: PipelineFixture) -> None:
    first = stack.run_dag("captured_etl")
    assert set(first["tasks"].values()) == {"success"}
    assert captured.sink_rows() == captured.source_rows("status = 'confirmed'")
    whole = captured.sink_rows()

    captured.change("UPDATE orders SET status = 'pending' WHERE order_id = 1")
    captured.change("UPDATE orders SET status = 'confirmed', customer = 'for a second' WHERE order_id = 1")
    captured.change("UPDATE orders SET status = 'shipped', customer = 'too late' WHERE order_id = 1")
    second = stack.run_dag("captured_etl")
    assert set(second["tasks"].values()) == {"success"}
    assert captured.sink_rows() == {**whole, (1,): (1, "for a second", "confirmed")}
    assert position(captured) == (slot_position(captured), second["run_id"])

    third = stack.run_dag("captured_etl")
    assert third["state"] == "success"
    assert {state for task, state in third["tasks"].items() if not task.startswith("plan")} == {"skipped"}

    captured.change("SELECT pg_replication_slot_advance('etl_captured', pg_current_wal_flush_lsn())")
    captured.change("UPDATE orders SET status = 'confirmed' WHERE order_id = 2")
    captured.change("SELECT pg_replication_slot_advance('etl_captured', pg_current_wal_flush_lsn())")
    assert stack.run_dag("captured_etl", retry=False)["state"] == "failed"
    assert "those between are lost to this pipeline" in stack.log_end(400)
    refreshed = stack.run_dag("captured_etl", full_refresh=True)
    assert refreshed["state"] == "success"
    assert (2,) in captured.sink_rows()
