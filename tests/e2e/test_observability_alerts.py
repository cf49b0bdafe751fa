"""Alerts fire while something is wrong. That they resolve once it is mended is in test_operation_well_again.py.

All goes wrong at once: most of the time is spent waiting, and an operator has to tell them apart as well.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from tests.harness.e2e.deployment import Airflow, Deployment, wait_for
from tests.harness.e2e.observability import ALERTS, FAILING_DAG, Watching

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def alerts(observed: Deployment, airflow: Airflow, watch: Watching) -> dict[str, dict[str, Any]]:
    """The alerts that came while everything was wrong, by name. All is mended by then."""
    seen: dict[str, dict[str, Any]] = {}

    def all_fired() -> bool:
        for name, labels in ALERTS.items():
            for alert in watch.with_labels(name, **labels):
                seen.setdefault(name, alert)
        return seen.keys() == ALERTS.keys()

    with (
        _image_that_does_not_exist(observed),
        _too_much_memory(observed),
        _task_that_fails(airflow),
        _rejected_rows(observed, airflow),
        _no_scheduler(observed),
    ):
        wait_for("the alerts", all_fired, seconds=300)
    return seen


def test_alerts_have_nothing_to_say_when_all_is_well(watch: Watching) -> None:
    """But for the disk of the machine, which is not the deployment's."""
    wait_for("calm", lambda: not watch.alerts() - {"VolumeFilling"}, seconds=420)


@pytest.mark.parametrize("name", ALERTS)
def test_what_is_wrong_is_told_with_its_runbook(alerts: dict[str, dict[str, Any]], name: str) -> None:
    assert alerts[name]["labels"]["severity"] in ("warning", "critical")
    assert alerts[name]["annotations"]["runbook_url"].endswith(f"{name}.md")


@contextmanager
def _image_that_does_not_exist(deployment: Deployment) -> Iterator[None]:
    with deployment.pod("no-such-image", image="localhost/no-such-image:0.1.0", command=["true"]):
        yield


@contextmanager
def _too_much_memory(deployment: Deployment) -> Iterator[None]:
    command = ["python", "-c", "bytearray(300_000_000)"]
    with deployment.pod("hungry", image="localhost/etl:0.1.0", command=command, memory="64Mi"):
        yield


@contextmanager
def _task_that_fails(airflow: Airflow) -> Iterator[None]:
    airflow.await_run(FAILING_DAG, airflow.trigger(FAILING_DAG), "failed")
    yield
    airflow.await_run(FAILING_DAG, airflow.trigger(FAILING_DAG, mended=True))


@contextmanager
def _rejected_rows(deployment: Deployment, airflow: Airflow) -> Iterator[None]:
    """A time that SQL Server has not is rejected, and no rejects are tolerated."""
    with psycopg.connect(deployment.source_url, autocommit=True) as connection:
        (key,) = connection.execute("SELECT min(order_id) FROM orders WHERE status = 'confirmed'").fetchone() or (0,)
        (created,) = connection.execute("SELECT created_at FROM orders WHERE order_id = %s", [key]).fetchone() or (0,)
        connection.execute("UPDATE orders SET created_at = 'infinity' WHERE order_id = %s", [key])
        airflow.await_run("orders_etl", airflow.trigger("orders_etl"), "failed")
        yield
        connection.execute("UPDATE orders SET created_at = %s WHERE order_id = %s", [created, key])
    airflow.await_run("orders_etl", airflow.trigger("orders_etl"))


@contextmanager
def _no_scheduler(deployment: Deployment) -> Iterator[None]:
    deployment.kubectl("scale", "deployment/airflow-scheduler", "--replicas=0")
    yield
    deployment.kubectl("scale", "deployment/airflow-scheduler", "--replicas=1")
