"""Helpers for tests of ops/doctor: faults in a snapshot, and assertions about the verdict."""

from typing import Any

from ops.cluster.names import NAME
from ops.cluster.objects import container_statuses
from ops.doctor.checks import CHECKS
from ops.doctor.findings import Verdict, evaluate
from ops.doctor.snapshot import Snapshot
from tests.harness.doctor.healthy_deployment import ago
from tests.harness.manifests.rendering import Object


def verdict(seen: Snapshot) -> Verdict:
    """The verdict of all checks."""
    return evaluate(CHECKS, seen)


def only(seen: Snapshot, name: str, *words: str, follows: "set[str] | None" = None) -> None:
    """Assert that the only cause is `name`, with these words, and that exactly `follows` follow from it."""
    judged = verdict(seen)
    assert [check.name for check, _ in judged.causes] == [name], [
        (check.name, finding.what) for check, finding in judged.causes
    ]
    _, finding = judged.causes[0]
    text = f"{finding.where}\n{finding.what}\n{finding.do}"
    for each in words:
        assert each in text
    assert {check.name for check, _ in judged.follows[0]} == (follows or set())


def get(seen: Snapshot, kind: str, name: str) -> Object:
    """An object of the snapshot, in any namespace."""
    found = [item for item in seen.objects if item["kind"] == kind and item["metadata"]["name"] == name]
    assert len(found) == 1, f"There are {len(found)} of {kind} {name}."
    return found[0]


def remove(seen: Snapshot, kind: str, name: str) -> None:
    """Remove an object."""
    seen.objects.remove(get(seen, kind, name))


def pod_of(seen: Snapshot, server: str) -> Object:
    """The pod of a server."""
    found = [item for item in seen.objects if item["kind"] == "Pod" and item["metadata"]["labels"].get(NAME) == server]
    assert len(found) == 1, f"There are {len(found)} pods of {server}."
    return found[0]


def set_condition(item: Object, kind: str, status: str, **more: Any) -> None:
    """Set a condition."""
    conditions = item["status"].setdefault("conditions", [])
    conditions[:] = [one for one in conditions if one["type"] != kind]
    conditions.append({"type": kind, "status": status, "lastTransitionTime": ago(300), **more})


def set_state(pod: Object, state: Object, last: "Object | None" = None, restarts: int = 0) -> Object:
    """Set the state of a pod's first container, not ready; returns its status."""
    status = container_statuses(pod)[0]
    status |= {"state": state, "ready": False, "restartCount": restarts}
    if last:
        status["lastState"] = {"terminated": last}
    pod["status"]["phase"] = "Running" if "running" in state else "Pending"
    set_condition(pod, "Ready", "False")
    return status


def waiting(reason: str, message: str = "") -> Object:
    """The state of a waiting container."""
    return {"waiting": {"reason": reason, "message": message}}


def unready(seen: Snapshot, service: str) -> None:
    """Make the endpoints of a Service not ready."""
    for item in seen.objects:
        if item["kind"] == "EndpointSlice" and item["metadata"]["labels"]["kubernetes.io/service-name"] == service:
            item["endpoints"][0]["conditions"]["ready"] = False
