"""`scripts/erase.sh` on a deployment: a row is gone from sink and staging, and its key is nowhere in the cluster."""

import json
import subprocess

import psycopg
import pytest
from orders_etl import ORDERS

from tests.e2e.deployment import Deployment

pytestmark = pytest.mark.acceptance


def erase(deployment: Deployment, key: int, *options: str) -> "subprocess.CompletedProcess[str]":
    command = [str(deployment.checkout / "scripts" / "erase.sh"), "--dag=orders_etl", *options]
    return subprocess.run(
        command, env=deployment.environment, input=f"{key}\n", capture_output=True, text=True, check=False
    )


def test_a_row_is_erased_and_its_key_is_in_no_object_of_the_cluster(observed: Deployment) -> None:
    with observed.airflow() as airflow:
        airflow.rest("orders_etl")
    with observed.site(ORDERS) as site:
        (key,) = max(site.sink_rows())
        refused = erase(observed, key)
        assert refused.returncode == 1
        assert "still has this row" in refused.stdout
        assert (key,) in site.sink_rows()
        with psycopg.connect(observed.source_url, autocommit=True) as connection:
            connection.execute("DELETE FROM orders WHERE order_id = %s", (key,))
        rehearsed = erase(observed, key, "--dry-run")
        assert rehearsed.returncode == 0, rehearsed.stderr
        assert "erase: would be erased (row order_id=masked:" in rehearsed.stdout
        assert (key,) in site.sink_rows()
        erased = erase(observed, key)
        assert erased.returncode == 0, erased.stderr
        assert "rows 1" in erased.stdout
        assert "Nightly backups of the sink made before now have it" in erased.stdout
        assert (key,) not in site.sink_rows()
        assert site.query("SELECT [rows_erased] FROM [etl].[erasure] ORDER BY [erased_at]")[-1] == (1,)
    assert f"={key}" not in refused.stdout + rehearsed.stdout + erased.stdout
    assert not [one for one in observed.objects("secrets") if one["metadata"]["name"] == "etl-erase"]
    assert json.dumps(str(key)) not in json.dumps(observed.objects("jobs") + observed.objects("pods"))
