"""Overhead of a run beyond its work, and resource usage of an idle deployment: `make bench-cluster`.

On the cluster and the deployment of the end-to-end tests. The figures are written to docs/benchmarks; ratios within one
run of this are what counts.
"""

import shutil
import statistics
import time
from collections.abc import Iterator

import pytest

from tests.bench.speed.document import Claim, Section, Table
from tests.bench.speed.report import write_section
from tests.harness.e2e.deployment import Airflow, Deployment, wait_for
from tests.harness.e2e.images import loki_description
from tests.harness.e2e.testbed import DAGS
from tests.harness.e2e.three_steps import CONTENDERS, DEFAULTS, FUSED, SEPARATE, WAITS, Comparison, compare
from tests.harness.e2e.usage import usage_of_pods

RUNS = 5
IDLE_SECONDS = 180
NAMES = {
    DEFAULTS: "Airflow's defaults, three pods",
    SEPARATE: "here, three pods",
    FUSED: "here, fused: one pod of three seconds",
}


@pytest.fixture(scope="module")
def airflow(deployment: Deployment) -> Iterator[Airflow]:
    """With the DAGs of the benchmark, and nothing else to do."""
    shutil.copy(DAGS / "three_steps.py", deployment.checkout / "dags")
    deployment.apply_all("--wait-for-first-run")
    with deployment.airflow() as made:
        made.pause("orders_etl", True)
        for dag in CONTENDERS:
            made.await_dag(dag)
            made.pause(dag, False)
        yield made


def test_three_steps_take_less_than_with_the_defaults_of_airflow(airflow: Airflow) -> None:
    compared = compare(airflow, RUNS)
    write_section("three-steps.json", _three_steps(compared))
    assert compared.ratio(SEPARATE) <= 0.7
    assert compared.ratio(FUSED) <= 0.4


def test_idle_everything_takes_less_than_3_gb_and_a_tenth_of_a_core(airflow: Airflow, deployment: Deployment) -> None:
    workers = "--selector=kubernetes_executor=True"
    wait_for("the workers' pods to be gone", lambda: not deployment.objects("pods", workers), seconds=180)
    before, began = usage_of_pods(deployment), time.monotonic()
    wait_for("that time to pass", lambda: time.monotonic() - began > IDLE_SECONDS, seconds=IDLE_SECONDS + 30)
    after, took = usage_of_pods(deployment), time.monotonic() - began
    pods = {
        name: ((after[name].cpu_seconds - before[name].cpu_seconds) / took, after[name].memory / 2**20)
        for name in before.keys() & after.keys()
        if not name.startswith("mssql")
    }
    cores, mib = (sum(used[place] for used in pods.values()) for place in (0, 1))
    write_section("idle.json", _idle(pods, cores, mib))
    assert mib < 3 * 1024
    assert cores < 0.1


def _three_steps(compared: Comparison) -> Section:
    rows = [
        [
            NAMES[dag],
            f"{statistics.median(seconds):.1f}",
            f"{min(seconds):.1f} to {max(seconds):.1f}",
            "" if dag == DEFAULTS else f"{compared.ratio(dag):.2f}",
            *(f"{compared.median_wait(dag, wait):.2f}" for wait in WAITS),
        ]
        for dag, seconds in compared.seconds.items()
    ]
    claims = [
        Claim(claim=claim, measured=f"{compared.ratio(dag):.2f}", holds=compared.ratio(dag) <= most)
        for claim, dag, most in (
            ("Three pods in series: at most 0.7 of Airflow's defaults", SEPARATE, 0.7),
            ("Fused: at most 0.4 of Airflow's defaults", FUSED, 0.4),
        )
    ]
    text = (
        "Three steps in series that each sleep a second and move no rows, each a task of the KubernetesExecutor: the"
        " overhead of a run. *Airflow's defaults* are the stock KubernetesPodOperator and a worker without this"
        f" project's settings, on the same cluster, {RUNS} runs each, in turn. A run lasts from its trigger to its end,"
        " as Airflow records them. Written by `make bench-cluster`."
    )
    columns = ["", "median s", "least to greatest", "of the defaults", *WAITS]
    title = "Seconds of a run, and of one task: scheduled, queued (until its worker has begun), running"
    return Section(
        title="What a run costs beyond its work",
        text=[text, loki_description()],
        claims=claims,
        tables=[Table(title=title, columns=columns, rows=rows)],
    )


def _idle(pods: dict[str, tuple[float, float]], cores: float, mib: float) -> Section:
    claims = [
        Claim(claim="Less than 3 GiB of memory", measured=f"{mib:,.0f} MiB", holds=mib < 3 * 1024),
        Claim(claim="Less than a tenth of a core", measured=f"{cores:.3f} cores", holds=cores < 0.1),
    ]
    text = (
        f"Everything that `apply-all.sh` deploys except SQL Server, while nothing runs: CPU over {IDLE_SECONDS} s and"
        " working sets at the end, from the kubelet. Grafana and Fluent Bit are missing: the tests' cluster has"
        " neither. Written by `make bench-cluster`."
    )
    rows = [
        [name, f"{used[1]:,.0f}", f"{used[0]:.4f}"] for name, used in sorted(pods.items(), key=lambda pod: -pod[1][1])
    ]
    table = Table(title="The largest first", columns=["pod", "MiB", "cores"], rows=rows)
    return Section(
        title="What an idle deployment takes", text=[text, loki_description()], claims=claims, tables=[table]
    )
