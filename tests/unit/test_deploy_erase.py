"""`erase.sh`: what it asks, what it refuses, and that a row's key is in no argument and in no Secret that stays."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from dev.sandbox.pipelines import ORDERS, make
from ops.deploy.data.erase import main
from tests.doubles.fake_cluster import FakeCluster, workload

PIPELINE = json.loads(make(ORDERS).model_dump_json())
KEY = "4711-of-a-person"
SAID: list[dict[str, object]] = [
    {"event": "erase: done", "row": "order_id=masked:0123456789ab", "rows": 1, "partitions": 2},
    {"event": "Nightly backups of the sink made before now have it."},
]


@pytest.fixture
def cluster(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    """A deployment, its pipeline, and a person who gives a key."""
    model = workload("Deployment", "database-exporter", "observability", "localhost/etl:0.1.0")
    spec = model["spec"]["template"]["spec"]
    spec |= {"securityContext": {"runAsUser": 10001, "runAsGroup": 10001}, "volumes": [{"name": "tmp", "emptyDir": {}}]}
    (container,) = spec["containers"]
    container |= {
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
        "ports": [{"containerPort": 9187}],
        "livenessProbe": {"httpGet": {"path": "/healthz", "port": 9187}},
        "env": [
            {"name": name, "valueFrom": {"secretKeyRef": {"name": "x", "key": "y"}}}
            for name in ("METADATA_PASSWORD", "SINK_EXPORTER_PASSWORD")
        ],
    }
    cluster.change("Deployment/database-exporter", model)
    claim = {"kind": "ConfigMap", "metadata": {"name": "airflow-common", "namespace": "etl-poc"}}
    cluster.change("ConfigMap/airflow-common", claim | {"data": {"ETL_STAGING_CLAIM": "etl-staging"}})
    logs = {"job/etl-erase": "\n".join(map(json.dumps, SAID))}
    cluster.set(logs=logs, raw={"/readyz": "ok"}, prints=json.dumps(PIPELINE))
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{KEY}\n"))
    return cluster


def applied(cluster: FakeCluster) -> dict[str, Any]:
    ((job,),) = (json.loads(call["stdin"])["items"] for call in cluster.calls("apply"))
    return dict(job)


def test_it_runs_the_command_with_what_steps_have_and_says_what_that_said(cluster: FakeCluster) -> None:
    assert main(["--dag=orders_etl"]) == 0
    spec = applied(cluster)["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert container["args"] == ["etl", "erase"]
    secrets = [one["secretRef"]["name"] for one in container["envFrom"] if "secretRef" in one]
    assert secrets == ["etl-connections", "etl-erase"]
    assert [one["name"] for one in container["env"]] == ["SINK_ADMIN_PASSWORD", "SINK_ADMIN_CLIENT_SECRET"]
    assert {"name": "staging", "persistentVolumeClaim": {"claimName": "etl-staging"}} in spec["volumes"]
    assert not {"ports", "livenessProbe"} & container.keys()
    assert applied(cluster)["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"] == "etl"
    shown = cluster.said().out
    assert "erase: done (row order_id=masked:0123456789ab, rows 1, partitions 2)" in shown
    assert "Nightly backups of the sink made before now have it." in shown


def test_the_key_is_in_a_secret_that_goes_and_nowhere_else(cluster: FakeCluster) -> None:
    assert main(["--dag=orders_etl"]) == 0
    (secret,) = (json.loads(call["stdin"]) for call in cluster.calls("create"))
    assert secret["metadata"]["name"] == "etl-erase"
    assert set(secret["data"]) == {"ETL_PIPELINE", "ERASE_KEY"}
    assert "Secret/etl-erase" not in cluster.objects
    assert "Job/etl-erase" not in cluster.objects
    for call in cluster.calls():
        assert KEY not in " ".join(call["argv"]) + call["stdin"]
    shown = cluster.said()
    assert KEY not in shown.out + shown.err


def test_where_it_fails_the_secret_goes_too_and_what_it_said_is_shown(cluster: FakeCluster) -> None:
    cluster.set(failing=["etl-erase"], logs={"job/etl-erase": json.dumps({"event": "orders: still has this row"})})
    assert main(["--dag=orders_etl"]) == 1
    assert "Secret/etl-erase" not in cluster.objects
    assert "still has this row" in cluster.said().out


@pytest.mark.parametrize("phase", ["Pending", "Running"])
def test_while_a_run_is_under_way_it_is_refused(cluster: FakeCluster, phase: str) -> None:
    cluster.set(pods=[{"metadata": {"name": "orders-load-x"}, "status": {"phase": phase}}])
    assert main(["--dag=orders_etl"]) == 1
    assert "A run of orders_etl is under way (pod orders-load-x)" in cluster.said().err
    assert not cluster.calls("create", "apply")
    cluster.set(pods=[{"metadata": {"name": "orders-load-x"}, "status": {"phase": "Succeeded"}}])
    assert main(["--dag=orders_etl"]) == 0


def test_a_run_that_began_meanwhile_is_told(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    going = [{"metadata": {"name": "orders-load-x"}, "status": {"phase": "Running"}}]
    monkeypatch.setattr("ops.deploy.data.erase._show", lambda *_: cluster.set(pods=going))
    assert main(["--dag=orders_etl"]) == 1
    assert "under way (pod orders-load-x), and may bring the row again: pause the DAG" in cluster.said().err
    assert "Secret/etl-erase" not in cluster.objects


def test_options_are_handed_on_and_a_pipeline_may_be_a_file(cluster: FakeCluster, tmp_path: Path) -> None:
    file = tmp_path / "orders.json"
    file.write_text(json.dumps(PIPELINE))
    options = ["--dry-run", "--even-if-at-source", f"--pipeline={file}"]
    assert main(["--dag=orders_etl", *options]) == 0
    (container,) = applied(cluster)["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["etl", "erase", "--dry-run", "--even-if-at-source"]
    assert not cluster.calls("exec")


def test_staging_in_a_bucket_takes_no_claim(cluster: FakeCluster) -> None:
    claim = {"kind": "ConfigMap", "metadata": {"name": "airflow-common", "namespace": "etl-poc"}}
    cluster.change("ConfigMap/airflow-common", claim | {"data": {"ETL_STAGING_CLAIM": ""}})
    assert main(["--dag=orders_etl"]) == 0
    assert [one["name"] for one in applied(cluster)["spec"]["template"]["spec"]["volumes"]] == ["tmp"]


@pytest.mark.parametrize(
    ("state", "stdin", "told"),
    [
        ({"prints": "no JSON"}, "1\n", "What was read for orders_etl is not the JSON of a pipeline."),
        ({"exec": "No such file"}, "1\n", "name its JSON with --pipeline FILE"),
        ({}, "1\n2\n", "2 lines came, and the key is order_id"),
        ({}, "", "0 lines came"),
        ({"raw": {}}, "1\n", "kubectl cannot reach"),
    ],
)
def test_what_cannot_be_done_is_told_before_anything_is_made(
    cluster: FakeCluster,
    monkeypatch: pytest.MonkeyPatch,
    state: dict[str, Any],
    stdin: str,
    told: str,
) -> None:
    cluster.set(**state)
    monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
    assert main(["--dag=orders_etl"]) == 1
    assert told in cluster.said().err
    assert not cluster.calls("create", "apply")
