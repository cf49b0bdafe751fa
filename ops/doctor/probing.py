"""Tests source, sink and staging from a temporary pod of the ETL image, with the settings and labels of a step.

The pod runs `etl check`; one that does not start is a finding itself. The metadata database is tested from a running
pod of Airflow.
"""

import json
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ops.cluster.console import DeployError
from ops.cluster.kubectl import NAMESPACE, Kubectl, Object
from ops.cluster.log_lines import reason, shorten
from ops.cluster.names import AIRFLOW_SERVERS, MODEL, NAME
from ops.cluster.objects import condition, container_statuses, is_starting, labels_of, new
from ops.cluster.step_pod import step_spec
from ops.doctor.snapshot import Answer, Snapshot

_LABELS = {NAME: "etl", "app.kubernetes.io/component": "doctor"}
"""Those that network policies select steps by, and one of its own."""
_PROBLEMS = {
    "has no tables yet": "unprepared",
    "is at migration": "unprepared",
    "authentication failed": "login",
    "emporary failure in name resolution": "dns",
    "not known": "name",
}
"""Texts in the output of `etl_airflow.probe migrated`; anything else means that the server does not answer."""
_SECONDS = 20.0
"""How long a pod may take."""
_MOUNT_SECONDS = 4.0
"""When mount errors are looked for: volumes are mounted by then."""
_POLL_SECONDS = 0.5


@dataclass
class Probed:
    """The result of a probe pod: its answers, or the pod that did not start, with its events and the reason."""

    answers: dict[str, Answer] = field(default_factory=dict)
    pod: Object | None = None
    events: list[Object] = field(default_factory=list)
    reason: str = ""


def probe(kubectl: Kubectl, model: Object | None, name: str, arguments: Sequence[str], claim: str = "") -> Probed:
    """Run `etl check` with these arguments in a pod, with the volume of `claim` as staging if given."""
    if model is None:
        return Probed(reason=f"there is no Deployment {MODEL}, from which the probe pod is copied.")
    made = _pod(model, f"doctor-{name}-{secrets.token_hex(3)}", arguments, claim)
    try:
        with kubectl.temporary_pod(made) as pod:
            return _await(kubectl, pod)
    except DeployError as error:
        return Probed(reason=f"the probe pod could not be created: {reason(error)}")


def probe_metadata(kubectl: Kubectl, seen: Snapshot) -> Probed:
    """Test the metadata database from a running pod of Airflow, as its components do at their start."""
    pods = {labels_of(pod).get(NAME): pod for pod in seen.of_kind("Pod") if _runs(pod)}
    pod = next((pods[name] for name in AIRFLOW_SERVERS if name in pods), None)
    if pod is None:
        return Probed(reason="no pod of Airflow runs, from which it could be tested.")
    name, command = pod["metadata"]["name"], ("--", "python", "-m", "etl_airflow.probe", "migrated")
    try:
        kubectl.run("--namespace", NAMESPACE, "exec", name, *command)
    except DeployError as error:
        _, found, message = str(error).partition("The metadata database ")
        if not found:
            return Probed(reason=f"it could not be tested from {name}: {reason(error)}")
        message = found + message.partition("\ncommand terminated")[0]
        problem = next((problem for sign, problem in _PROBLEMS.items() if sign in message), "port")
        return Probed({"metadata": Answer("", problem, shorten(message))})
    return Probed({"metadata": Answer("")})


def _runs(pod: Object) -> bool:
    statuses = pod.get("status", {}).get("containerStatuses") or []
    is_deleted = pod["metadata"].get("deletionTimestamp")
    return not is_deleted and bool(statuses) and all("running" in status.get("state", {}) for status in statuses)


def _pod(model: Object, name: str, arguments: Sequence[str], claim: str) -> Object:
    spec = step_spec(model, ["etl", "check", *arguments], claim) | {
        "activeDeadlineSeconds": 60,  # in case it is not deleted
        "terminationGracePeriodSeconds": 1,
        # A DNS timeout within the time of the probe.
        "dnsConfig": {"options": [{"name": "timeout", "value": "1"}, {"name": "attempts", "value": "2"}]},
    }
    return new("Pod", name, metadata={"labels": _LABELS}, spec=spec)


def _await(kubectl: Kubectl, name: str) -> Probed:
    began = time.monotonic()
    while True:
        pod = kubectl.get("pod", name, "--namespace", NAMESPACE) or {"metadata": {"name": name}, "status": {}}
        if pod["status"].get("phase") in ("Succeeded", "Failed") and container_statuses(pod):
            return _result(kubectl, pod)
        waited = time.monotonic() - began
        late = waited > _SECONDS
        if late or _cannot_start(pod) or waited > _MOUNT_SECONDS:
            events = kubectl.items(
                "events", "--namespace", NAMESPACE, f"--field-selector=type=Warning,involvedObject.name={name}"
            )
            if late or _cannot_start(pod) or any(event.get("reason") == "FailedMount" for event in events):
                return Probed(pod=pod, events=events, reason="the probe pod does not start.")
        time.sleep(_POLL_SECONDS)


def _cannot_start(pod: Object) -> bool:
    if condition(pod, "PodScheduled").get("reason") == "Unschedulable":
        return True
    return any("waiting" in one.get("state", {}) and not is_starting(one) for one in container_statuses(pod))


def _result(kubectl: Kubectl, pod: Object) -> Probed:
    log = kubectl.run("--namespace", NAMESPACE, "logs", pod["metadata"]["name"])
    answers = dict(_answers(log))
    if answers:
        return Probed(answers=answers)
    last = (log.strip() or "nothing").splitlines()[-1]
    if "No such command" in log:
        last = "its image is older than this checkout and has no `etl check`; run scripts/apply-all.sh."
    return Probed(reason=f"the probe pod gave no result: {last}")


def _answers(log: str) -> Iterator[tuple[str, Answer]]:
    for line in log.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and "check" in entry:
            room = (int(entry.get("free_bytes", 0)), int(entry.get("size_bytes", 0)))
            yield entry["check"], Answer(entry["where"], entry["problem"], entry["words"], *room)
