"""The snapshot of a healthy deployment: the real manifests, with the status that a cluster adds."""

import copy
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from ops.cluster.policy_probe import PolicyProbe
from ops.cluster.secret_keys import namespace_of
from ops.doctor.snapshot import USER, Airflow, Answer, Disk, Secret, Snapshot
from tests.harness.manifests.kustomizations import DEFAULT
from tests.harness.manifests.pods import SECRETS
from tests.harness.manifests.rendering import Object, rendering

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
NODE = "one"
SOURCE_ADDRESS, API_ADDRESS = "198.51.100.7", "203.0.113.5"
DISK = 100 * 1000**3
STARTED = "2026-03-01T08:00:00Z"


def ago(seconds: float) -> str:
    """A time before now, in the format of Kubernetes and Airflow."""
    return f"{NOW - timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%SZ}"


def well() -> Snapshot:
    """A new copy of the snapshot."""
    return copy.deepcopy(_well())


@cache
def _well() -> Snapshot:
    before = NOW - timedelta(days=9)
    return Snapshot(
        now=NOW,
        place="https://127.0.0.1:6443 (context default)",
        objects=list(_objects()),
        secrets={(namespace_of(name), name): Secret(frozenset(found), before) for name, found in SECRETS.items()},
        disks=[Disk(NODE, DISK // 2, DISK, ("etl-poc/metadata", "etl-poc/mssql"))],
        answers={
            "source": Answer("source-postgres:5432/orders"),
            "sink": Answer("mssql-svc:1433/sink"),
            "metadata": Answer("metadata-postgres:5432/airflow"),
            "staging": Answer("file:///var/lib/etl/staging", free=DISK // 2, size=DISK),
        },
        airflow=airflow(),
        policies=[PolicyProbe(NODE)],
        certificates={whose: NOW + timedelta(days=200) for whose in ("Secret ui-tls", "Secret mssql-tls", USER)},
        targets=[target("loki", "loki:3104"), target("database-exporter", "database-exporter.etl-poc:9187")],
    )


def airflow() -> Airflow:
    """Airflow with one DAG that is not paused, and no waiting task."""
    parts = ("scheduler", "triggerer", "dag_processor")
    alive = {part: {"status": "healthy", f"latest_{part}_heartbeat": ago(3)} for part in parts}
    pool = {"name": "default_pool", "slots": 4, "open_slots": 4, "occupied_slots": 0}
    dag = {
        "dag_id": "orders_etl",
        "is_paused": False,
        "description": "public.orders → dbo.orders where status = 'confirmed'",
        "tags": [{"name": "dbo.orders"}, {"name": "etl"}, {"name": "public.orders"}],
        "next_dagrun_run_after": ago(-600),
    }
    return Airflow(health={"metadatabase": {"status": "healthy"}, **alive}, pools=[pool], dags=[dag])


def task(state: str, seconds: float) -> dict[str, Any]:
    """A task instance that has been in a state for some seconds."""
    times = {"queued_when": ago(seconds), "scheduled_when": ago(seconds)}
    names = {"dag_id": "orders_etl", "task_id": "plan", "dag_run_id": "manual__1", "pool": "default_pool"}
    return {"state": state, **names, **times}


def target(job: str, instance: str) -> dict[str, Any]:
    """A target of Prometheus that is up."""
    return {"health": "up", "labels": {"job": job, "instance": instance}, "lastError": ""}


def alert(name: str, **labels: str) -> dict[str, Any]:
    """A firing alert."""
    annotations = {"summary": f"The summary of {name}."}
    return {"state": "firing", "labels": {"alertname": name, **labels}, "annotations": annotations}


def event(item: Object, reason: str, message: str) -> Object:
    """A warning event of an object."""
    meta = item["metadata"]
    about = {"kind": item["kind"], "name": meta["name"], "namespace": meta.get("namespace"), "uid": meta.get("uid")}
    return {"involvedObject": about, "reason": reason, "message": message, "lastTimestamp": ago(20)}


def pod(name: str, template: Object, namespace: str = "etl-poc", owner: "tuple[str, str] | None" = None) -> Object:
    """A ready pod of a template."""
    meta = {"name": name, "namespace": namespace, "uid": f"uid-of-{name}", "creationTimestamp": STARTED}
    labels = template["metadata"].get("labels", {})
    owners = [{"kind": owner[0], "name": owner[1]}] if owner else []
    containers = template["spec"]["containers"]
    statuses = [
        {"name": one["name"], "ready": True, "restartCount": 0, "state": {"running": {"startedAt": STARTED}}}
        for one in containers
    ]
    conditions = [{"type": kind, "status": "True", "lastTransitionTime": STARTED} for kind in ("PodScheduled", "Ready")]
    return {
        "kind": "Pod",
        "metadata": {**meta, "labels": labels, "ownerReferences": owners},
        "spec": {**template["spec"], "nodeName": NODE},
        "status": {"phase": "Running", "conditions": conditions, "containerStatuses": statuses},
    }


def _objects() -> Iterator[Object]:
    rendered = copy.deepcopy(rendering(DEFAULT).objects)
    slices = {}
    for item in rendered:
        if item["kind"] in _STATES:
            item["status"] = _STATES[item["kind"]](item)
        if item["kind"] == "EndpointSlice":
            item["endpoints"][0]["addresses"] = [SOURCE_ADDRESS]
        if item["kind"] == "Service" and item["spec"].get("selector"):
            meta = item["metadata"]
            slices[meta["name"]] = _slice(meta["name"], meta["namespace"])
        yield item
        if item["kind"] in ("Deployment", "StatefulSet", "DaemonSet"):
            yield _pod_of(item)
    yield from slices.values()
    yield _node()
    yield {"kind": "Service", "metadata": {"name": "kube-dns", "namespace": "kube-system"}, "spec": {}}
    yield {"kind": "IngressClass", "metadata": {"name": "traefik"}}
    traefik = {"name": "traefik", "namespace": "kube-system"}
    yield {"kind": "Service", "metadata": traefik, "spec": {"externalTrafficPolicy": "Local"}}
    yield _slice("kube-dns", "kube-system")
    yield _slice("kubernetes", "default", API_ADDRESS)


def _pod_of(item: Object) -> Object:
    name, template = item["metadata"]["name"], item["spec"]["template"]
    owners = {"Deployment": ("ReplicaSet", f"{name}-5d8f7c9b4"), "StatefulSet": ("StatefulSet", name)}
    names = {"Deployment": f"{name}-5d8f7c9b4-x2k7p", "StatefulSet": f"{name}-0"}
    kind = item["kind"]
    owner = owners.get(kind, ("DaemonSet", name))
    return pod(names.get(kind, f"{name}-q9d4w"), template, item["metadata"]["namespace"], owner)


def _node() -> Object:
    states = {"Ready": "True", "DiskPressure": "False", "MemoryPressure": "False", "PIDPressure": "False"}
    conditions = [{"type": kind, "status": status, "lastTransitionTime": STARTED} for kind, status in states.items()]
    labels = {"etl-poc/data": "true"}
    return {
        "kind": "Node",
        "metadata": {"name": NODE, "labels": labels},
        "spec": {},
        "status": {"conditions": conditions},
    }


def _slice(service: str, namespace: str, address: str = "10.42.0.9") -> Object:
    labels = {"kubernetes.io/service-name": service}
    endpoints = [{"addresses": [address], "conditions": {"ready": True}}]
    meta = {"name": f"{service}-abcde", "namespace": namespace, "labels": labels}
    return {"kind": "EndpointSlice", "metadata": meta, "endpoints": endpoints}


_STATES: dict[str, Callable[[Object], Object]] = {
    "Namespace": lambda item: {"phase": "Active"},
    "PersistentVolume": lambda item: {"phase": "Bound"},
    "PersistentVolumeClaim": lambda item: {"phase": "Bound"},
    "Deployment": lambda item: {"replicas": 1, "readyReplicas": 1, "availableReplicas": 1},
    "StatefulSet": lambda item: {"replicas": 1, "readyReplicas": 1},
    "DaemonSet": lambda item: {"desiredNumberScheduled": 1, "currentNumberScheduled": 1, "numberReady": 1},
    "Job": lambda item: {"succeeded": 1, "conditions": [{"type": "Complete", "status": "True"}]},
    "ResourceQuota": lambda item: {
        "hard": item["spec"]["hard"],
        "used": {"pods": "9", "requests.cpu": "820m", "requests.memory": "3968Mi"},
    },
}
