"""The DAG that verifies, in the real Airflow."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from etl_airflow.dag.verify_dag import chosen_time
from orders_etl import ORDERS

from dev.sandbox.pipeline_fixture import existing_fixture
from dev.sandbox.postgres import Postgres
from dev.sandbox.stack import INIT_SQL, ROOT, Stack, airflow_environment


@pytest.fixture
def stack(postgres: Postgres, sink_url: str, tmp_path: Path) -> Iterator[Stack]:
    """Airflow with the DAG file of orders, which asks for verifications."""
    suffix = f"{os.getpid()}"
    source_url = postgres.create_database(f"verify_orders_{suffix}", INIT_SQL)
    metadata_url = postgres.create_database(f"verify_airflow_{suffix}")
    dags = tmp_path / "dags"
    dags.mkdir()
    file = (ROOT / "dags" / "orders_etl.py").read_text()
    (dags / "orders_etl.py").write_text(file.replace("    owner=", "    verify=True,\n    owner="))
    environment = airflow_environment(tmp_path, metadata_url, source_url, sink_url)
    made = Stack(source_url, sink_url, True, {**environment, "AIRFLOW__CORE__DAGS_FOLDER": str(dags)}, tmp_path / "log")
    made.run("airflow", "db", "migrate", quiet=True)
    yield made
    for name in ("verify_orders", "verify_airflow"):
        postgres.drop_database(f"{name}_{suffix}")


def test_a_run_is_green_until_rows_differ_that_no_run_puts_right(stack: Stack) -> None:
    made = existing_fixture(ORDERS, stack.source_url, stack.sink_url, Path(stack.environment["STAGING_URL"][7:]))
    made.claim()
    try:
        assert stack.run_dag("orders_etl")["state"] == "success"
        assert stack.run_dag("orders_verify")["state"] == "success"
        assert (
            "orders: 1,600 rows at the source, 1,600 in the sink, 1,600 equal; no difference." in stack.log.read_text()
        )
        ((first,), *_) = sorted(made.sink_rows())
        made.execute(f"DELETE FROM [dbo].[orders] WHERE [order_id] = {first}")
        run = stack.run_dag("orders_verify", mode="deep")
        assert run["state"] == "failed"
        assert "No later run puts 1 of these rows right" in " ".join(run["why"])
        query = "SELECT [verdict] FROM [etl].[verification] WHERE [pipeline] = N'orders' ORDER BY [ended_at]"
        assert made.query(query) == [("equal",), ("differs",)]
        assert stack.run_dag("orders_verify", repair=True)["state"] == "success"
        assert made.sink_rows() == made.source_rows("status = 'confirmed'")
    finally:
        made.clean()


def test_pipelines_are_verified_at_different_times_of_the_night() -> None:
    times = {chosen_time(f"table_{number}") for number in range(100)}
    assert len(times) > 90
    assert {hour for _, hour, _ in times} == {1, 2, 3, 4, 5}
    assert {day for _, _, day in times} == set(range(7))
