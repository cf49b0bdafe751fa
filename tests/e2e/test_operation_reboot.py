"""The machine restarts: everything starts at once, DNS answers last, and no manual step is needed.

A reboot, as far as a cluster sees it: the kubelet, all containers and the network of each pod end in the same moment.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
from orders_etl import ORDERS

from ops.cluster.kubectl import NAMESPACES, OBSERVABILITY
from tests.faults.system import Node
from tests.harness.e2e.deployment import Deployment, wait_for
from tests.harness.e2e.observability import Watching, watching
from tests.harness.e2e.testbed import TestBed
from tests.harness.metrics.documented import documented_metrics
from tests.harness.metrics.queries import queries

pytestmark = pytest.mark.acceptance
DAG = "orders_etl"
EXPORTER = "statsd-exporter"
DNS = ("FORWARD", "--protocol", "udp", "--dport", "53", "--jump", "DROP")
BY_SCHEDULE = ("airflow_dagrun_schedule_delay", "airflow_dagrun_first_task_scheduling_delay")
"""Metrics of scheduled runs: their presence before and after is chance."""

Series = set[tuple[str, str]]
"""Job and name."""


@dataclass(frozen=True)
class Rebooted:
    """The state before the restart, and after it."""

    run_id: str
    before: Series
    """After one run."""
    at: float
    """Seconds of the epoch."""
    restarts: dict[str, int]
    """How often each container of a server started, from the reboot until all were ready."""


@pytest.fixture(scope="module")
def rebooted(observed: Deployment, bed: TestBed) -> Rebooted:
    """A reboot while a run is in flight; the last name that DNS knows again is that of the StatsD exporter."""
    if bed.cluster is None:
        pytest.skip("The machine of a given cluster is not restarted.")
    before = _series_of_one_run(observed)
    with observed.airflow() as airflow:
        run_id = airflow.trigger(DAG, full_refresh=True)
        wait_for("a step", lambda: observed.objects("pods", "--selector=app.kubernetes.io/name=etl"), seconds=180)
    counted = _containers(observed)
    with _no_exporter(observed):
        with _no_dns(Node(bed.cluster)):
            at = time.time()
            bed.cluster.node.restart()
            wait_for("all containers to start", lambda: _have_started(observed, counted), seconds=300)
        for namespace in NAMESPACES:
            _await_servers(observed, namespace)
    now = _containers(observed)
    restarts = {name: now[name][1] - count for name, (_, count) in counted.items() if name in now}
    return Rebooted(run_id, before, at, restarts)


def test_no_server_ends_for_want_of_dns_or_of_another_server(rebooted: Rebooted) -> None:
    assert {name: count for name, count in rebooted.restarts.items() if count != 1} == {}


def test_the_run_that_was_in_flight_ends_well(rebooted: Rebooted, observed: Deployment) -> None:
    with observed.airflow() as airflow:
        airflow.await_run(DAG, rebooted.run_id, seconds=900)
    with observed.site(ORDERS) as site:
        assert site.sink_rows() == site.source_rows("status = 'confirmed'")


def test_every_series_that_a_table_or_a_panel_knows_is_there_again(rebooted: Rebooted, observed: Deployment) -> None:
    with observed.airflow() as airflow:
        airflow.await_run(DAG, airflow.trigger(DAG))
    found: Series = set()
    with watching(observed) as watch:

        def complete() -> bool:
            found.update(_series(watch, since=rebooted.at))
            return rebooted.before <= found

        try:
            wait_for("every series", complete, seconds=240)
        except AssertionError:
            assert sorted(rebooted.before - found) == []


def _series_of_one_run(deployment: Deployment) -> Series:
    """Metrics of a healthy deployment, from exporters that count from zero as after a reboot."""
    began = time.time()
    deployment.kubectl("rollout", "restart", f"deployment/{EXPORTER}", namespace=OBSERVABILITY)
    _await_servers(deployment, OBSERVABILITY)
    restarted = time.time()
    with deployment.airflow() as airflow:
        airflow.pause(DAG, False)
        airflow.await_run(DAG, airflow.trigger(DAG))
    with watching(deployment) as watch:
        heartbeats = {(EXPORTER, f"airflow_{part}_heartbeat") for part in ("scheduler", "dag_processor", "triggerer")}
        wait_for("the run's metrics", lambda: _complete(_series(watch, restarted), heartbeats), seconds=240)
        return _series(watch, since=max(began, restarted))


def _complete(found: Series, heartbeats: Series) -> bool:
    """Whether the exporter has been scraped after the run: its last metric is of the sink's rows."""
    return heartbeats <= found and (EXPORTER, "airflow_dagrun_duration_seconds_count") in found


def _series(watch: Watching, since: float) -> Series:
    """Series with a sample that is not older; an instant query would find those of the last five minutes otherwise.

    Of the watchers' own metrics only those that a panel shows: others begin with events, and none happens here.
    """
    seconds = max(1, int(time.time() - since))
    query = f'count by (job, __name__) (last_over_time({{__name__=~".+", job!=""}}[{seconds}s]))'
    found = {(item["metric"]["job"], item["metric"]["__name__"]) for item in watch.metrics(query)}
    known = _always_there()
    return {(job, name) for job, name in found if name in known and not name.startswith(BY_SCHEDULE)}


@cache
def _always_there() -> set[str]:
    """Series that the documents list as sent after every run, and that panels show when all is well."""
    documented = {metric.name for metric in documented_metrics() if metric.seen in ("", "on Kubernetes")}
    parts = {f"{name}{part}" for name in documented for part in ("", "_bucket", "_sum", "_count")}
    return parts | {
        name for query in queries() if query.language == "promql" and query.has_data for name in query.metrics
    }


@contextmanager
def _no_dns(node: Node) -> Iterator[None]:
    """Questions to the servers of names get no answer."""
    node.firewall("--insert", *DNS)
    try:
        yield
    finally:
        node.firewall("--delete", *DNS)


@contextmanager
def _no_exporter(deployment: Deployment) -> Iterator[None]:
    """DNS knows no StatsD exporter; when it does again, the exporter has another address."""
    text = deployment.kubectl("get", "service", EXPORTER, "--output=json", namespace=OBSERVABILITY)
    service: dict[str, Any] = json.loads(text)
    kept = {name: service["metadata"][name] for name in ("name", "namespace", "labels") if name in service["metadata"]}
    spec = {name: service["spec"][name] for name in ("selector", "ports")}
    deployment.kubectl("delete", "service", EXPORTER, namespace=OBSERVABILITY)
    try:
        yield
    finally:
        deployment.apply({"kind": "Service", "metadata": kept, "spec": spec})


def _containers(deployment: Deployment) -> dict[str, tuple[str, int]]:
    """The containers of servers: their ids, empty for one that does not run, and their restarts."""
    found = {}
    for namespace in NAMESPACES:
        listed = deployment.kubectl("get", "pods", "--output=json", namespace=namespace)
        for pod in json.loads(listed)["items"]:
            if pod["spec"]["restartPolicy"] != "Always" or "deletionTimestamp" in pod["metadata"]:
                continue  # the pod of a task or a Job, which is not started again
            for status in pod["status"].get("containerStatuses") or []:
                name = f"{pod['metadata']['name']}/{status['name']}"
                container = status["containerID"] if "running" in status["state"] else ""
                found[name] = (container, int(status["restartCount"]))
    return found


def _have_started(deployment: Deployment, before: dict[str, tuple[str, int]]) -> bool:
    now = _containers(deployment)
    return all(now[name][0] not in ("", container) for name, (container, _) in before.items() if name in now)


def _await_servers(deployment: Deployment, namespace: str) -> None:
    listed = deployment.kubectl("get", "deployments,statefulsets,daemonsets", "--output=name", namespace=namespace)
    for server in listed.split():
        deployment.kubectl("rollout", "status", server, "--timeout=300s", namespace=namespace)
