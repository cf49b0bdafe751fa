"""A new version over the old one, and back again, each time while a run is under way."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from orders_etl import ORDERS

from tests.harness.e2e.deployment import Airflow, Deployment, wait_for
from tests.harness.e2e.one_more_table import ACTIVE
from tests.harness.e2e.pod_history import PodWatch

pytestmark = pytest.mark.acceptance
DAG = "pallets_etl"
OLD, NEW = "0.1.0", "0.2.0"
VERSIONS = Path("k8s/components/images/kustomization.yaml")
PIPELINE = Path("etl_image/etl/model/pipeline.py")
VALIDATOR, SETTING = '    @field_validator("columns")\n', '    brand_new: str = ""\n\n'
"""The new version has one more setting of pipelines."""
EXTRACTS = 2


def test_a_run_under_way_goes_on_in_a_new_version(stock: str, deployment: Deployment, pods: PodWatch) -> None:
    with _run_under_way(deployment) as run:
        _change(deployment.checkout / VERSIONS, OLD, NEW)
        _change(deployment.checkout / PIPELINE, VALIDATOR, SETTING + VALIDATOR)
        deployment.apply_all()
    _assert_all_is_in_once(deployment, run)
    assert _images(pods, run) == {"extract": OLD, "filter": NEW, "load": NEW}


def test_a_run_under_way_goes_on_when_the_old_version_comes_back(
    stock: str, deployment: Deployment, pods: PodWatch, request: pytest.FixtureRequest
) -> None:
    with _run_under_way(deployment) as run:
        _change(deployment.checkout / VERSIONS, NEW, OLD)
        _change(deployment.checkout / PIPELINE, SETTING, "")
        request.getfixturevalue("observed")  # applies what is in the checkout
    _assert_all_is_in_once(deployment, run)
    assert _images(pods, run) == {"extract": NEW, "filter": OLD, "load": OLD}


@contextmanager
def _run_under_way(deployment: Deployment) -> Iterator[str]:
    """A run of all rows, whose extracts are blocked until the block ends; then the run finishes."""
    with psycopg.connect(deployment.source_url) as source:
        source.execute("UPDATE pallets SET changed_at = now(), weight = weight + 1")
        source.commit()
        with deployment.airflow() as airflow:
            run = airflow.trigger(DAG)
            airflow.pause(DAG, False)
            wait_for("the plan", lambda: _states(airflow, run, "plan") == {"success"}, seconds=120)
            source.execute("LOCK TABLE pallets IN ACCESS EXCLUSIVE MODE")
            wait_for("extracts", lambda: _states(airflow, run, "partition.extract") == {"running"}, seconds=120)
        wait_for("the extracts to wait", lambda: _waiting(deployment) == EXTRACTS, seconds=60)
        yield run
        assert _waiting(deployment) == EXTRACTS, "An extract did not live through it."
        source.commit()
    with deployment.airflow() as airflow:
        airflow.await_run(DAG, run)
        airflow.pause(DAG, True)


def _states(airflow: Airflow, run: str, task_id: str) -> set[str]:
    return {task["state"] for task in airflow.tasks(DAG, run).values() if task["task_id"] == task_id}


def _waiting(deployment: Deployment) -> int:
    """How many sessions wait for a lock at the source."""
    with psycopg.connect(deployment.source_url) as source:
        found = source.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'").fetchone()
    return int(found[0]) if found else 0


def _assert_all_is_in_once(deployment: Deployment, run: str) -> None:
    with deployment.airflow() as airflow:
        tries = {name: task["try_number"] for name, task in airflow.tasks(DAG, run).items()}
    assert set(tries.values()) == {1}, tries
    with psycopg.connect(deployment.source_url) as source:
        expected = source.execute("SELECT sku, weight FROM pallets WHERE active ORDER BY sku").fetchall()
    with deployment.site(ORDERS) as site:
        assert site.query("SELECT [sku], [weight] FROM [dbo].[pallets] ORDER BY [sku]") == expected
        loaded = site.query(
            "SELECT [inserted] + [updated] FROM [etl].[audit] WHERE [pipeline] = N'pallets' AND [run_id] = ?", run
        )
        assert sum(rows for (rows,) in loaded) == ACTIVE


def _images(pods: PodWatch, run: str) -> dict[str, str]:
    """The version of the image that each step ran."""
    containers = [pod["spec"]["containers"][0] for pod in pods.steps(DAG, run)]
    return {container["args"][1]: container["image"].rpartition(":")[2] for container in containers}


def _change(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
