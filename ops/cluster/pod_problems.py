"""Which pods are not well, and why: what a person would look up one after the other."""

from collections.abc import Iterable, Iterator

from ops.cluster.console import Console, DeployError, table
from ops.cluster.images import WAITING, explain
from ops.cluster.kubectl import Kubectl, Object
from ops.cluster.objects import container_statuses

AFTER = ", before that "
"""What follows in a reason changes while the reason stays the same."""
NOT_READY = "runs but is not ready"
_LOG_LINES = 20
_EVENTS = 15
_BEGINNINGS = ("PodInitializing", "ContainerCreating", None)


def pod_troubles(pods: Iterable[Object], *, starting: bool = False) -> Iterator[tuple[Object, str]]:
    """The pods that are not well, oldest first, with the reason. `starting` counts those that only begin."""
    for pod in sorted(pods, key=lambda one: str(one["metadata"].get("creationTimestamp"))):
        reasons = [reason for reason in _reasons(pod, starting) if reason]
        if reasons:
            yield pod, ", ".join(reasons)


def show_troubles(console: Console, kubectl: Kubectl) -> None:
    """Print the pods that are not well with their reasons, the end of their logs, and the latest warnings."""
    try:
        troubles = list(pod_troubles(kubectl.everywhere("pods"), starting=True))
        if troubles:
            console.show("\nPods that are not well:")
            console.show(table([("POD", "WHY"), *((pod["metadata"]["name"], why) for pod, why in troubles)]))
        # Of pods with the same reason one is enough, the last.
        for pod in {why: pod for pod, why in troubles}.values():
            show_logs(console, kubectl, pod, _LOG_LINES)
        _show_events(console, kubectl)
    except DeployError as error:
        console.show(f"Nothing more can be said about the pods: {error}")


def show_logs(console: Console, kubectl: Kubectl, pod: Object, lines: int) -> None:
    """Print the end of the logs of the containers that are not well."""
    for container in container_statuses(pod):
        if _container_reason(container):
            _show_log(console, kubectl, pod["metadata"], container["name"], lines)


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
        yield _container_reason(container, starting)


def _container_reason(container: Object, starting: bool = False) -> str:
    """Why a container is not well; nothing where it is, or unless `starting` where it has only begun."""
    name, state = container["name"], container.get("state", {})
    waiting, ended = state.get("waiting"), state.get("terminated")
    reason = ""
    if waiting and (starting or waiting.get("reason") not in _BEGINNINGS):
        reason = f"{name} {waiting.get('reason', 'waiting')}"
        if waiting.get("message") and waiting.get("reason") in WAITING:
            reason += f": {explain(waiting['message'])}"
        elif waiting.get("message") and "BackOff" not in reason:
            reason += f" ({waiting['message'][:200]})"
    elif ended and ended.get("exitCode"):
        reason = f"{name} ended: {ending(ended)}"
    elif "running" in state and not container.get("ready", True) and not container.get("init"):
        reason = f"{name} {NOT_READY}"
    last = container.get("lastState", {}).get("terminated")
    if reason and last:
        reason += f"{AFTER}{ending(last)}, {container.get('restartCount', 0)} restarts"
    return reason


def ending(terminated: Object) -> str:
    """How a container ended, in words."""
    return f"{terminated.get('reason', 'Error')}, exit code {terminated.get('exitCode')}"


def _show_log(console: Console, kubectl: Kubectl, pod: Object, container: str, lines: int) -> None:
    for flags in ((), ("--previous",)):
        try:
            log = kubectl.run(
                *("--namespace", pod["namespace"], "logs", pod["name"]),
                *(f"--container={container}", f"--tail={lines}", *flags),
            )
        except DeployError:
            continue  # it has not run before, or not at all
        if log.strip():
            console.show(f"\nEnd of the log of {pod['name']}, container {container}:")
            console.show("\n".join(f"  {line}" for line in log.rstrip().splitlines()))
            console.show()
            return


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
