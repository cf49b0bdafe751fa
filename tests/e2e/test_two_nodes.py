"""The overlay for several nodes, on two: it runs on both, and survives a restart of one and the loss of the other.

The loss of the second node is a power failure: it is cut off, then all its processes are killed, without notice.
"""

import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from ops.cluster.kubectl import NAMESPACE, OBSERVABILITY
from tests.cluster.nodes import Node
from tests.harness.e2e.deployment import Airflow, Deployment, wait_for
from tests.harness.e2e.one_more_table import ACTIVE, EVERY_YEAR, dag_file, make_table, pipeline_of
from tests.harness.e2e.outside import KEYS, TEST_IMAGES, names_in_bucket, serve_sink, sink_authority
from tests.harness.e2e.pod_history import PodWatch
from tests.harness.e2e.testbed import OVERLAY, POSTGRES_IMAGE, TestBed, import_images

pytestmark = pytest.mark.acceptance
BUCKET, NAME, DAG = "etl-two-nodes", "crates", "crates_etl"
ROWS = 120
"""Of the table; so many are read, and ACTIVE of them are loaded."""
PARTITIONS = 6
TRIED_AGAIN = 900
"""Seconds, on a slow machine. After a node was lost it takes 50 until Kubernetes notices, 30 until it deletes the pods,
120 that a worker has to end, 45 until the scheduler gives it up, a retry after 30 more, and the work."""
SPREAD = ("airflow-scheduler", "airflow-api-server", "pgbouncer")


@pytest.fixture(scope="module")
def several(
    bed: TestBed, deployment: Deployment, bucket: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """The overlay for several nodes, still on one, with one more pipeline and a sink outside."""
    if bed.cluster is None:
        pytest.skip("Only a cluster of our own can have a node that is lost.")
    make_table(deployment.source_url, NAME)
    text = dag_file(NAME, EVERY_YEAR).replace("partition_size=60", f"partition_size={ROWS // PARTITIONS}")
    (deployment.checkout / "dags" / f"{DAG}.py").write_text(text)
    made = deployment.lay_over(
        "multi-node",
        components=["e2e-images"] if OVERLAY == "e2e" else [],
        images=TEST_IMAGES if OVERLAY == "e2e" else {},
        connections={"AWS_ENDPOINT_URL": bucket, "STAGING_URL": f"s3://{BUCKET}/etl"},
        outside=dict.fromkeys(("staging-bucket", "loki-bucket"), urlsplit(bucket).port or 80),
        name="two-nodes",
    )
    made.bring_secret("etl-connections", KEYS)
    chunks = {"LOKI_S3_ENDPOINT": bucket, "LOKI_BUCKET": BUCKET}
    made.bring_secret("loki-chunks", {**KEYS, **chunks}, namespace=OBSERVABILITY)
    authority = sink_authority(tmp_path_factory.mktemp("authority"))
    with serve_sink(bed.source_address, authority) as sink:
        made = made.with_sink_outside(sink)
        made.apply_all(f"--sink-ca={authority.certificate}")
        with made.airflow() as airflow:  # as docs/operations.md says of a deployment that began with one node
            airflow.resize_pool(32)
        yield made
        made.apply_all("down")


@pytest.fixture(scope="module")
def second(bed: TestBed, several: Deployment) -> Iterator[Node]:
    """A second node joins, as docs/operations.md says of it."""
    assert bed.cluster
    node = bed.cluster.add_node()
    import_images(bed, node.import_command, ("localhost/etl:0.1.0", "localhost/etl-airflow:0.1.0", POSTGRES_IMAGE))
    names = [f"deployment/{name}" for name in SPREAD]
    several.kubectl("rollout", "restart", *names)
    for name in names:
        several.kubectl("rollout", "status", name, "--timeout=300s")
    yield node
    # Kubernetes would wait for the pods of a lost node.
    several.kubectl("delete", "node", node.name, "--ignore-not-found")


@pytest.fixture(scope="module")
def nodes(bed: TestBed, second: Node) -> list[str]:
    """The names of both."""
    assert bed.cluster
    return [bed.cluster.node.name, second.name]


def nodes_of(pods: Sequence[dict[str, Any]]) -> Counter[str]:
    """How many pods there are on each node."""
    return Counter(pod["spec"].get("nodeName", "") for pod in pods)


def live(deployment: Deployment, name: str) -> list[dict[str, Any]]:
    """The pods of a server that are not ending."""
    found = deployment.objects("pods", f"--selector=app.kubernetes.io/name={name}")
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


@contextmanager
def run_under_way(deployment: Deployment, airflow: Airflow) -> Iterator[str]:
    """A run of all rows, each of whose extracts waits at the source until the block ends."""
    with psycopg.connect(deployment.source_url) as source:
        source.execute(f"UPDATE {NAME} SET changed_at = clock_timestamp(), weight = weight + 1".encode())
        source.commit()
        run = airflow.trigger(DAG)
        airflow.pause(DAG, False)
        wait_for("the plan", lambda: states(airflow, run, "plan") == ["success"], seconds=180)
        source.execute(f"LOCK TABLE {NAME} IN ACCESS EXCLUSIVE MODE".encode())
        wait_for("extracts", lambda: waiting(deployment) == PARTITIONS, seconds=180)
        yield run
        source.rollback()


def states(airflow: Airflow, run: str, task_id: str) -> list[str]:
    return [task["state"] for task in airflow.tasks(DAG, run).values() if task["task_id"] == task_id]


def waiting(deployment: Deployment) -> int:
    """How many sessions wait for a lock at the source."""
    with psycopg.connect(deployment.source_url) as source:
        found = source.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'").fetchone()
    return int(found[0]) if found else 0


def assert_all_is_in_once(deployment: Deployment) -> None:
    with deployment.site(pipeline_of(NAME)) as site:
        assert site.query(f"SELECT COUNT_BIG(*), COUNT_BIG(DISTINCT [sku]) FROM [dbo].[{NAME}]") == [(ACTIVE, ACTIVE)]
        assert site.sink_rows() == site.source_rows("active")


def test_servers_are_on_both_nodes_and_data_on_the_first(several: Deployment, nodes: list[str]) -> None:
    for name in SPREAD:
        assert nodes_of(live(several, name)) == Counter(nodes), name
    assert nodes_of(live(several, "metadata-postgres")) == Counter(nodes[:1])


def restarts(deployment: Deployment, node: str) -> dict[str, int]:
    """The restarts of each server's pod on a node; empty if one is not ready."""
    found = {}
    for namespace in (NAMESPACE, OBSERVABILITY):
        for pod in json.loads(deployment.kubectl("get", "pods", "--output=json", namespace=namespace))["items"]:
            owners = {owner["kind"] for owner in pod["metadata"].get("ownerReferences", [])}
            is_here = pod["spec"].get("nodeName") == node and "deletionTimestamp" not in pod["metadata"]
            if is_here and owners & {"ReplicaSet", "StatefulSet"}:
                statuses = pod["status"].get("containerStatuses", [])
                if not statuses or not all(status["ready"] for status in statuses):
                    return {}
                found[pod["metadata"]["name"]] = sum(status["restartCount"] for status in statuses)
    return found


def test_a_run_ends_right_although_the_node_with_the_data_restarts(
    several: Deployment, bed: TestBed, nodes: list[str]
) -> None:
    assert bed.cluster
    before = wait_for("all servers", lambda: restarts(several, nodes[0]), seconds=120)
    with several.airflow() as airflow, run_under_way(several, airflow) as run:
        bed.cluster.node.restart()
        restarted_at = time.monotonic()

    def are_back() -> bool:
        now = restarts(several, nodes[0])
        return bool(now) and all(now.get(name, 0) > count for name, count in before.items())

    wait_for("all servers to have restarted", are_back, seconds=420)
    print(f"\nAll servers were back {time.monotonic() - restarted_at:.0f} s after the restart.", flush=True)
    with several.airflow() as airflow:
        airflow.await_run(DAG, run, seconds=TRIED_AGAIN)
        tries = Counter(task["try_number"] for task in airflow.tasks(DAG, run).values())
    print(f"The run ended {time.monotonic() - restarted_at:.0f} s after the restart.", flush=True)
    print(f"Tasks by number of tries: {dict(tries)}", flush=True)
    assert_all_is_in_once(several)


def test_a_run_ends_right_although_the_second_node_is_lost(
    several: Deployment, nodes: list[str], second: Node, pods: PodWatch, bucket: str
) -> None:
    with several.airflow() as airflow, run_under_way(several, airflow) as run:
        steps, workers = nodes_of(pods.steps(DAG, run)), nodes_of(pods.workers(DAG, run))
        print(f"\nSteps by node: {dict(steps)}; workers: {dict(workers)}", flush=True)
        swallowed, lost_at = second.lose(), time.monotonic()
    try:
        # Until then a port of the API server may lead to the lost one.
        several.kubectl("wait", f"node/{second.name}", "--for=condition=Ready=Unknown", "--timeout=120s")
        print(f"Kubernetes noticed after {time.monotonic() - lost_at:.0f} s.", flush=True)
        with several.airflow() as airflow:
            airflow.await_run(DAG, run, seconds=TRIED_AGAIN)
            print(f"The run ended {time.monotonic() - lost_at:.0f} s after the node was lost.", flush=True)
            tries = Counter(task["try_number"] for task in airflow.tasks(DAG, run).values())
            print(f"Tasks by number of tries: {dict(tries)}", flush=True)
    finally:
        os.close(swallowed)
    for counted in (steps, workers):
        assert min(counted[node] for node in nodes) >= PARTITIONS // 3, counted
    assert len(tries) > 1, tries  # what was lost was tried again
    assert_all_is_in_once(several)
    assert any(name.endswith("rows.parquet") for name in names_in_bucket(bucket, BUCKET))


def test_what_was_on_the_lost_node_runs_on_the_other(several: Deployment, nodes: list[str]) -> None:
    for item in several.objects("deployments"):
        several.kubectl("rollout", "status", f"deployment/{item['metadata']['name']}", "--timeout=300s")
    first = set(nodes[:1])
    for item in several.objects("deployments"):
        assert set(nodes_of(live(several, item["metadata"]["name"]))) == first, item["metadata"]["name"]


def test_nothing_is_left_of_a_node_that_is_removed(several: Deployment, nodes: list[str]) -> None:
    several.kubectl("delete", "node", nodes[1])

    def of_the_lost() -> list[str]:
        return [pod["metadata"]["name"] for pod in several.objects("pods") if pod["spec"].get("nodeName") == nodes[1]]

    wait_for("the lost node's pods to be gone", lambda: not of_the_lost(), seconds=180)
