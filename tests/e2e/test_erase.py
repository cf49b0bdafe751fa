"""`scripts/erase.sh` on a deployment: a row is gone from sink and staging, and its key is nowhere in the cluster."""

import json
import re
import subprocess
from collections.abc import Iterator

import psycopg
import pytest
from orders_etl import ORDERS

from tests.harness.e2e.deployment import Deployment, wait_for

pytestmark = pytest.mark.acceptance
UNDER_WAY = "--field-selector=status.phase!=Succeeded,status.phase!=Failed"


@pytest.fixture
def at_rest(observed: Deployment) -> Iterator[Deployment]:
    """The deployment while orders_etl is paused and no pod of its runs is left; it is switched on again afterwards."""
    with observed.airflow() as airflow:
        airflow.rest("orders_etl")
    # A worker ends a moment after its task.
    wait_for("its pods to end", lambda: not observed.objects("pods", "--selector=dag_id=orders_etl", UNDER_WAY), 120)
    yield observed
    with observed.airflow() as airflow:
        airflow.pause("orders_etl", False)


def erase(deployment: Deployment, key: int, *options: str) -> "subprocess.CompletedProcess[str]":
    command = [str(deployment.checkout / "scripts" / "erase.sh"), "--dag=orders_etl", *options]
    return subprocess.run(
        command, env=deployment.environment, input=f"{key}\n", capture_output=True, text=True, check=False
    )


def last_erasure(deployment: Deployment) -> tuple[object, ...]:
    """The last recorded erasure, which the administrator alone may read."""
    query = "SELECT [rows_erased], [source_asked] FROM [etl].[erasure] ORDER BY [erased_at]"
    with deployment.sink_as_administrator() as site:
        return site.query(query)[-1]


def objects_of_erase(deployment: Deployment, *kinds: str) -> list[dict[str, object]]:
    found = [one for kind in kinds for one in deployment.objects(kind)]
    return [one for one in found if one["metadata"]["name"].startswith("etl-erase")]


def test_a_row_is_erased_and_its_key_is_in_no_object_of_the_cluster(at_rest: Deployment) -> None:
    with at_rest.site(ORDERS) as site:
        (key,) = max(site.sink_rows())
        refused = erase(at_rest, key)
        assert refused.returncode == 1
        assert "still has this row" in refused.stdout, refused.stderr
        assert (key,) in site.sink_rows()
        # Failed objects stay for an hour, for diagnosis.
        failed = objects_of_erase(at_rest, "jobs", "pods")
        assert [one["kind"] for one in failed] == ["Job", "Pod"]
        assert not re.search(rf"\b{key}\b", json.dumps([one["spec"] for one in failed]))
        with psycopg.connect(at_rest.source_url, autocommit=True) as connection:
            connection.execute("DELETE FROM orders WHERE order_id = %s", (key,))
        rehearsed = erase(at_rest, key, "--dry-run")
        assert rehearsed.returncode == 0, rehearsed.stdout + rehearsed.stderr
        assert "erase: would be erased (row order_id=masked:" in rehearsed.stdout
        assert (key,) in site.sink_rows()
        erased = erase(at_rest, key)
        assert erased.returncode == 0, erased.stdout + erased.stderr
        assert "rows 1" in erased.stdout
        assert "Nightly backups of the sink made before now have it" in erased.stdout
        assert (key,) not in site.sink_rows()
    assert last_erasure(at_rest) == (1, 1)
    told = "".join(ran.stdout + ran.stderr for ran in (refused, rehearsed, erased))
    assert f"={key}" not in told
    assert objects_of_erase(at_rest, "secrets", "jobs", "pods") == []
