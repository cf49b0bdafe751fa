"""What a run costs beyond its work, and what everything takes while nothing is to be done: `make bench-cluster`.

On the cluster and the deployment of the end-to-end tests. The figures are written to docs/benchmarks; ratios within one
run of this are what counts.
"""

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.deploy.kubectl import NAMESPACES
from tests.e2e.deployment import Airflow, Deployment, wait_for
from tests.e2e.three_steps import CONTENDERS, FUSED, SEPARATE, compare
from tests.support.stack import ROOT

RUNS = 5
IDLE_SECONDS = 180
FIGURES = ROOT / "docs" / "benchmarks" / "orchestration.json"


@pytest.fixture(scope="module")
def airflow(deployment: Deployment) -> Iterator[Airflow]:
    """With the DAGs of the benchmark, and nothing else to do."""
    shutil.copy(Path(__file__).parent / "dags" / "three_steps.py", deployment.checkout / "dags")
    deployment.apply_all("--wait-for-first-run")
    with deployment.airflow() as made:
        made.pause("orders_etl", True)
        for dag in CONTENDERS:
            made.await_dag(dag)
            made.pause(dag, False)
        yield made


def test_three_steps_take_less_than_with_the_defaults_of_airflow(airflow: Airflow) -> None:
    compared = compare(airflow, RUNS)
    _write("three_steps", compared.figures())
    assert compared.ratio(SEPARATE) <= 0.7
    assert compared.ratio(FUSED) <= 0.4


def test_idle_everything_takes_less_than_3_gb_and_a_tenth_of_a_core(airflow: Airflow, deployment: Deployment) -> None:
    workers = "--selector=kubernetes_executor=True"
    wait_for("the workers' pods to be gone", lambda: not deployment.objects("pods", workers), seconds=180)
    before, began = _used(deployment), time.monotonic()
    wait_for("that time to pass", lambda: time.monotonic() - began > IDLE_SECONDS, seconds=IDLE_SECONDS + 30)
    after, took = _used(deployment), time.monotonic() - began
    pods = {
        name: {"cores": round((after[name][0] - before[name][0]) / took, 4), "mib": round(after[name][1] / 2**20)}
        for name in before.keys() & after.keys()
    }
    total = {unit: round(sum(pod[unit] for pod in pods.values()), 4) for unit in ("cores", "mib")}
    _write("idle", {"total": total, "pods": dict(sorted(pods.items(), key=lambda pod: -pod[1]["mib"]))})
    print(json.dumps(total), flush=True)
    assert total["mib"] < 3 * 1024
    assert total["cores"] < 0.1


def _used(deployment: Deployment) -> dict[str, tuple[float, int]]:
    """What each pod of ours but SQL Server's has used: seconds of CPU until now, and bytes of memory."""
    (node,) = deployment.objects("nodes")
    summary = f"/api/v1/nodes/{node['metadata']['name']}/proxy/stats/summary"
    pods = json.loads(deployment.kubectl("get", "--raw", summary))["pods"]
    return {
        pod["podRef"]["name"]: (pod["cpu"]["usageCoreNanoSeconds"] / 1e9, pod["memory"]["workingSetBytes"])
        for pod in pods
        if pod["podRef"]["namespace"] in NAMESPACES and not pod["podRef"]["name"].startswith("mssql")
    }


def _write(section: str, figures: dict[str, Any]) -> None:
    FIGURES.parent.mkdir(exist_ok=True)
    known = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    FIGURES.write_text(json.dumps(known | {section: figures}, indent=1) + "\n")
