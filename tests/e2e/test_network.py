"""Connections between pods, tried: those of docs/security.md succeed, and no others."""

import socket
from collections.abc import Iterator

import pytest

from tests.harness.e2e.deployment import Deployment, wait_for
from tests.harness.e2e.probing import NAME, NAMES, TRIES, Target, reached, targets_of_pods, targets_of_the_cluster
from tests.harness.e2e.testbed import OVERLAY, TestBed
from tests.harness.manifests.documents import EVERY_POD, OUTSIDE, SOURCE, documented_flows

IMAGE = "localhost/etl:0.1.0"
WAITS = ["python", "-c", "import time; time.sleep(600)"]


@pytest.fixture(scope="module")
def targets(observed: Deployment, bed: TestBed) -> Iterator[set[Target]]:
    """All targets, and a port outside that no policy allows."""
    with socket.create_server((bed.source_address, 0)) as server:
        yield {
            *targets_of_pods(observed),
            *targets_of_the_cluster(observed),
            Target(SOURCE, bed.source_address, "TCP 5432"),
            Target(OUTSIDE, bed.source_address, f"TCP {server.getsockname()[1]}"),
        }


def allowed(deployment: Deployment, app: str) -> set[tuple[str, str]]:
    """The targets and ports that a pod may reach, from the table."""
    parts = {OVERLAY, "external-sink"} if deployment.sink else {OVERLAY}
    return {(flow.target, flow.port) for flow in documented_flows(parts) if flow.source in (app, EVERY_POD)}


def test_there_is_much_to_be_reached(targets: set[Target]) -> None:
    names = {target.name for target in targets}
    assert {"metadata-postgres", "airflow-api-server", "loki", "prometheus", NAMES, SOURCE, OUTSIDE} <= names


@pytest.mark.parametrize("app", ["etl", "airflow-worker", "nobody"])
def test_a_pod_reaches_what_the_table_says_and_nothing_else(
    observed: Deployment, targets: set[Target], app: str
) -> None:
    expected = {target for target in targets if (target.name, target.port) in allowed(observed, app)}
    found: set[Target] = set()

    def as_expected() -> bool:
        """Whether it is so: in its first seconds a pod is not known yet."""
        found.clear()
        found.update(reached(observed, f"{TRIES}-{app}", targets))
        return found == expected

    with observed.pod(f"{TRIES}-{app}", IMAGE, WAITS, labels={NAME: app}):
        observed.kubectl("wait", "--for=condition=Ready", f"pod/{TRIES}-{app}", "--timeout=120s")
        try:
            wait_for("the policies to know the pod", as_expected, seconds=30)
        except AssertionError:
            assert sorted(found) == sorted(expected)


def test_a_stranger_in_another_namespace_reaches_nothing_also_by_the_label_of_a_worker(
    observed: Deployment, targets: set[Target]
) -> None:
    ours = {target for target in targets if target.name not in (NAMES, SOURCE, OUTSIDE)}
    name = f"{TRIES}-stranger"
    with observed.pod(name, IMAGE, WAITS, namespace="default", labels={NAME: "airflow-worker"}):
        observed.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=120s", namespace="default")
        assert reached(observed, name, ours, namespace="default") == set()
