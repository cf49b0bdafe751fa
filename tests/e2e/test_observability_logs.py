"""Loki on the cluster: access by port, and the audit log of the Kubernetes API."""

import json

import pytest

from ops.cluster.kubectl import OBSERVABILITY
from tests.harness.e2e.deployment import Deployment
from tests.harness.e2e.testbed import TestBed
from tests.harness.logs.loki_proxy import STATE, Proxy


@pytest.mark.parametrize("port", [3100, 3101, 3102, 3103, 3104])
def test_nobody_shuts_loki_down(observed: Deployment, port: int) -> None:
    with observed.forwarded("loki", port, OBSERVABILITY) as local:
        for path in ("/ingester/shutdown", "/flush", "/loki/api/v1/delete?query=%7Bjob%3D%22airflow-task%22%7D"):
            assert Proxy({port: local}).call(port, "POST", path)[0] == 403
    with observed.forwarded("loki", STATE, OBSERVABILITY) as local:
        assert Proxy({STATE: local}).call(STATE, "GET", "/ready")[0] == 200


def test_the_kubernetes_api_writes_down_who_made_the_pods_of_steps(observed: Deployment, bed: TestBed) -> None:
    if bed.cluster is None:
        pytest.skip("Only of a cluster of our own it is known where the file is.")
    lines = (bed.cluster.folder / "audit.log").read_text().splitlines()
    made = {
        event["user"]["username"]
        for event in map(json.loads, lines)
        if event["verb"] == "create" and event.get("objectRef", {}).get("resource") == "pods"
    }
    assert "system:serviceaccount:etl-poc:airflow-worker" in made
    assert not any(event["user"]["username"].startswith("system:node:") for event in map(json.loads, lines))
