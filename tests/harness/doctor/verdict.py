"""Changes of a snapshot for tests of ops/doctor, and assertions on its findings."""

from typing import Any

from ops.cluster.pod_problems import container_statuses
from ops.doctor.checks import CHECKS
from ops.doctor.findings import Verdict, judge
from ops.doctor.snapshot import NAME, Snapshot
from tests.harness.doctor.healthy_deployment import ago
from tests.harness.manifests.rendering import Object


def verdict(seen: Snapshot) -> Verdict:
    """The findings of all checks."""
    return judge(CHECKS, seen)


def only(seen: Snapshot, name: str, *words: str, follows: "set[str] | None" = None) -> None:
    """Exactly this is found as a cause, and says these words; exactly these others follow from it."""
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
    """An object, wherever it is."""
    found = [item for item in seen.objects if item["kind"] == kind and item["metadata"]["name"] == name]
    assert len(found) == 1, f"There are {len(found)} of {kind} {name}."
    return found[0]


def remove(seen: Snapshot, kind: str, name: str) -> None:
    """Take an object out."""
    seen.objects.remove(get(seen, kind, name))


def pod_of(seen: Snapshot, server: str) -> Object:
    """The pod of a server."""
    found = [item for item in seen.objects if item["kind"] == "Pod" and item["metadata"]["labels"].get(NAME) == server]
    assert len(found) == 1, f"There are {len(found)} pods of {server}."
    return found[0]


def set_condition(item: Object, kind: str, status: str, **more: Any) -> None:
    """Change a condition, or add it."""
    conditions = item["status"].setdefault("conditions", [])
    conditions[:] = [one for one in conditions if one["type"] != kind]
    conditions.append({"type": kind, "status": status, "lastTransitionTime": ago(300), **more})


def set_state(pod: Object, state: Object, last: "Object | None" = None, restarts: int = 0) -> Object:
    """Put the first container of a pod into a state in which it is not ready; returns its status."""
    status = container_statuses(pod)[0]
    status |= {"state": state, "ready": False, "restartCount": restarts}
    if last:
        status["lastState"] = {"terminated": last}
    pod["status"]["phase"] = "Running" if "running" in state else "Pending"
    set_condition(pod, "Ready", "False")
    return status


def waiting(reason: str, message: str = "") -> Object:
    """The state of a container that waits."""
    return {"waiting": {"reason": reason, "message": message}}


def unready(seen: Snapshot, service: str) -> None:
    """Remove the endpoints of a Service, as a cluster does if none of its pods is ready."""
    for item in seen.objects:
        if item["kind"] == "EndpointSlice" and item["metadata"]["labels"]["kubernetes.io/service-name"] == service:
            item["endpoints"][0]["conditions"]["ready"] = False
