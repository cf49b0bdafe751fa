"""Pods with problems, and why."""

from collections.abc import Iterable, Iterator
from enum import Enum
from typing import NamedTuple

from ops.cluster.console import Console, DeployError, table
from ops.cluster.images import WAITING, explain
from ops.cluster.kubectl import Kubectl, Object
from ops.cluster.objects import container_statuses, is_starting

AFTER = ", before that "
"""The text after it changes while the reason stays the same."""
NOT_READY = "runs but is not ready"
_LOG_LINES = 20
_EVENTS = 15


class Kind(Enum):
    """Kinds of problems that a container's status shows."""

    STARTING = "starting"
    IMAGE = "image cannot be pulled"
    CRASHING = "ends again and again"
    REFUSED = "cannot be started"
    ENDED = "ended with an error"
    NOT_READY = "runs and is not ready"


class ContainerProblem(NamedTuple):
    """A container that does not work: the kind of problem, its status, and what the kubelet says."""

    kind: Kind
    container: Object
    reason: str = ""
    message: str = ""


def pod_problems(pods: Iterable[Object], *, starting: bool = False) -> Iterator[tuple[Object, str]]:
    """Pods with problems, oldest first, with the reason. `starting` includes those that only start."""
    for pod in sorted(pods, key=lambda one: str(one["metadata"].get("creationTimestamp"))):
        reasons = [reason for reason in _reasons(pod, starting) if reason]
        if reasons:
            yield pod, ", ".join(reasons)


def show_pod_problems(console: Console, kubectl: Kubectl) -> None:
    """Print pods with problems, the end of their logs, and the latest warning events."""
    try:
        problems = list(pod_problems(kubectl.everywhere("pods"), starting=True))
        if problems:
            console.show("\nPods that are not well:")
            console.show(table([("POD", "WHY"), *((pod["metadata"]["name"], why) for pod, why in problems)]))
        # One log for each reason.
        for pod in {why: pod for pod, why in problems}.values():
            show_logs(console, kubectl, pod, _LOG_LINES)
        _show_events(console, kubectl)
    except DeployError as error:
        console.show(f"Nothing more can be said about the pods: {error}")


def show_logs(console: Console, kubectl: Kubectl, pod: Object, lines: int) -> None:
    """Print the end of the logs of containers with problems."""
    for container in container_statuses(pod):
        problem = container_problem(container)
        if problem and problem.kind is not Kind.STARTING:
            log = kubectl.container_log(pod, container["name"], lines, ("", "--previous"))
            if log:
                console.show(f"\nEnd of the log of {pod['metadata']['name']}, container {container['name']}:")
                console.show("\n".join(f"  {line}" for line in log.rstrip().splitlines()))
                console.show()


def container_problem(container: Object) -> ContainerProblem | None:
    """The problem of a container, by its status alone; None if it runs and is ready, or has ended well."""
    state = container.get("state", {})
    waiting, ended = state.get("waiting"), state.get("terminated")
    if waiting is not None:
        return _waiting(container, waiting.get("reason", ""), waiting.get("message", ""))
    if ended:
        return ContainerProblem(Kind.ENDED, container, ending(ended)) if ended.get("exitCode") else None
    if "running" in state and not container.get("ready", True) and not container.get("init"):
        return ContainerProblem(Kind.NOT_READY, container)
    return None


def _waiting(container: Object, reason: str, message: str) -> ContainerProblem:
    if is_starting(container):
        return ContainerProblem(Kind.STARTING, container, reason, message)
    if reason in WAITING:
        return ContainerProblem(Kind.IMAGE, container, reason, message)
    return ContainerProblem(Kind.CRASHING if reason == "CrashLoopBackOff" else Kind.REFUSED, container, reason, message)


def last_end(container: Object) -> Object:
    """How a container ended last, this time or before; empty if it never did."""
    ends = (container.get(name, {}).get("terminated") for name in ("state", "lastState"))
    return next((end for end in ends if end), {})


def ending(terminated: Object) -> str:
    """Reason and exit code of a container that ended."""
    return f"{terminated.get('reason', 'Error')}, exit code {terminated.get('exitCode')}"


def _reasons(pod: Object, starting: bool) -> Iterator[str]:
    status = pod.get("status", {})
    phase = status.get("phase")
    if phase == "Succeeded":
        return
    statuses = container_statuses(pod)
    if phase == "Pending" and not statuses:
        conditions = status.get("conditions") or []
        yield next((c.get("message", "") for c in conditions if c.get("status") == "False"), "") or "Pending"
    if phase == "Failed" and not statuses:
        yield f"{status.get('reason', 'Failed')}: {status.get('message', '')}"
    for container in statuses:
        problem = container_problem(container)
        if problem and (starting or problem.kind is not Kind.STARTING):
            yield _text(problem)


def _text(problem: ContainerProblem) -> str:
    container, text = problem.container, f"{problem.container['name']} {problem.reason or 'waiting'}"
    if problem.kind is Kind.IMAGE and problem.message:
        text += f": {explain(problem.message)}"
    elif problem.kind in (Kind.REFUSED, Kind.STARTING) and problem.message:
        text += f" ({problem.message[:200]})"
    elif problem.kind is Kind.ENDED:
        text = f"{container['name']} ended: {problem.reason}"
    elif problem.kind is Kind.NOT_READY:
        text = f"{container['name']} {NOT_READY}"
    last = container.get("lastState", {}).get("terminated")
    return f"{text}{AFTER}{ending(last)}, {container.get('restartCount', 0)} restarts" if last else text


def _show_events(console: Console, kubectl: Kubectl) -> None:
    events = kubectl.everywhere("events", "--field-selector=type=Warning")
    events.sort(key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
    rows = [
        (
            f"{event['involvedObject']['kind']} {event['involvedObject'].get('name', '')}",
            event.get("reason", ""),
            " ".join((event.get("message") or "").split())[:200],
        )
        for event in events[-_EVENTS:]
    ]
    if rows:
        console.show("\nThe latest warnings:")
        console.show(table([("OBJECT", "REASON", "MESSAGE"), *rows]))
