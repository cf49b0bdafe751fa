"""Applies objects part by part, and waits for each with progress and the reasons of problems."""

import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from ops.cluster.console import Console, DeployError
from ops.cluster.kubectl import Kubectl, Object, name_of
from ops.cluster.objects import condition, is_true
from ops.cluster.pod_problems import AFTER, NOT_READY, pod_problems, show_logs, show_pod_problems
from ops.deploy.manifests.rendering import FINGERPRINT, WORKLOADS, is_observability

POLL_SECONDS = 2.0
_PROGRESS_SECONDS = 30.0
"""The interval of progress lines while nothing changes."""


class NotReadyError(DeployError):
    """Something did not become ready in time."""


class JobFailedError(DeployError):
    """A Job has failed finally."""


def apply_and_wait(console: Console, kubectl: Kubectl, part: str, objects: list[Object], timeout: float) -> None:
    """Apply objects and wait until those that Airflow needs are ready. Raises DeployError after `timeout` seconds."""
    awaited = [item for item in objects if item["kind"] in (*WORKLOADS, "Job")]
    needed = [item for item in awaited if not is_observability(item)]
    names = ", ".join(map(name_of, awaited or objects[:1])) + (" …" if not awaited and objects[1:] else "")
    console.say(f"Applying {part}: {names}")
    _remove_changed_jobs(console, kubectl, objects)
    kubectl.apply(objects)
    if needed:
        wait_until_ready(console, kubectl, needed, timeout)


def run_once(
    console: Console, kubectl: Kubectl, part: str, job: Object, timeout: float, show_log: Callable[[], None]
) -> None:
    """Run a Job of a command anew, and wait until it has ended.

    If it fails, show its log, if its pod is still there. Raises JobFailedError, or DeployError for other reasons.
    """
    kubectl.delete([job], timeout)
    try:
        apply_and_wait(console, kubectl, part, [job], timeout)
    except JobFailedError:
        with suppress(DeployError):  # after its deadline the pod is deleted
            show_log()
        raise
    except DeployError:
        show_pod_problems(console, kubectl)
        raise


def _remove_changed_jobs(console: Console, kubectl: Kubectl, objects: Iterable[Object]) -> None:
    """Delete live Jobs that failed or are of another build: Jobs are immutable and run once."""
    for job in objects:
        if job["kind"] != "Job":
            continue
        name, namespace = job["metadata"]["name"], job["metadata"]["namespace"]
        live = kubectl.get("job", name, "--namespace", namespace)
        if live is None:
            continue
        mine, theirs = (one["metadata"].get("annotations", {}).get(FINGERPRINT) for one in (job, live))
        if mine != theirs or is_true(live, "Failed"):
            console.say(f"Removing the earlier Job {name}.")
            kubectl.delete([job], seconds=120)


def wait_until_ready(console: Console, kubectl: Kubectl, awaited: list[Object], timeout: float) -> None:
    """Wait until workloads are ready and Jobs complete. Raises DeployError after `timeout` seconds."""
    began, printed_at, printed, known = time.monotonic(), time.monotonic(), "", set[str]()
    while True:
        try:
            waiting = unready(kubectl, awaited)
        except JobFailedError:
            raise
        except DeployError as error:
            # K3s may be restarting.
            waiting = [f"the API server does not answer ({str(error).splitlines()[-1][:100]})"]
        now = time.monotonic()
        if not waiting:
            console.say(f"  ready after {now - began:.0f} s")
            return
        text = "; ".join(waiting)
        if now - began > timeout:
            raise NotReadyError(f"Not ready after {timeout:.0f} s: {text}.")
        if text != printed or now - printed_at > _PROGRESS_SECONDS:
            console.say(f"  waiting: {text}")
            _look_at_pods(console, kubectl, awaited, known, lasting=text == printed)
            printed, printed_at = text, now
        time.sleep(POLL_SECONDS)


def unready(kubectl: Kubectl, awaited: Iterable[Object]) -> list[str]:
    """Names and progress of workloads that are not ready. Raises JobFailedError."""
    namespaces = {item["metadata"]["namespace"] for item in awaited}
    live = {
        (item["kind"], item["metadata"]["namespace"], item["metadata"]["name"]): item
        for namespace in sorted(namespaces)
        for item in kubectl.items("deployments,statefulsets,daemonsets,jobs", "--namespace", namespace)
    }
    waiting = []
    for item in awaited:
        found = live.get((item["kind"], item["metadata"]["namespace"], item["metadata"]["name"]))
        progress = progress_of(found) if found else "not there yet"
        if progress:
            waiting.append(f"{item['metadata']['name']} {progress}")
    return waiting


def progress_of(item: Object) -> str | None:
    """Rollout progress as text; None when complete. Raises JobFailedError."""
    spec, status = item["spec"], item.get("status", {})
    if item["kind"] == "Job":
        if is_true(item, "Failed"):
            message = condition(item, "Failed").get("message", "no reason given")
            raise JobFailedError(f"Job {item['metadata']['name']} failed: {message}.")
        return None if is_true(item, "Complete") else "not complete"
    if status.get("observedGeneration", 0) < item["metadata"].get("generation", 0):
        return "not seen by its controller yet"
    wanted, updated, ready = _counts(item["kind"], spec, status)
    if updated < wanted:
        return f"{updated} of {wanted} updated"
    if ready < wanted:
        return f"{ready} of {wanted} ready"
    surplus = status.get("replicas", 0) - wanted
    return f"{surplus} old pods still there" if item["kind"] == "Deployment" and surplus > 0 else None


def _counts(kind: str, spec: Object, status: Object) -> tuple[int, int, int]:
    """The numbers of desired, updated and ready pods."""
    if kind == "DaemonSet":
        names = ("desiredNumberScheduled", "updatedNumberScheduled", "numberAvailable")
        wanted, updated, ready = (int(status.get(name, 0)) for name in names)
        return wanted, updated, ready
    wanted, updated = int(spec.get("replicas", 1)), int(status.get("updatedReplicas", 0))
    if kind == "StatefulSet" and status.get("currentRevision") == status.get("updateRevision"):
        updated = wanted  # the API omits the count once all pods have the same revision
    return wanted, updated, int(status.get("availableReplicas" if kind == "Deployment" else "readyReplicas", 0))


def _look_at_pods(console: Console, kubectl: Kubectl, awaited: list[Object], known: set[str], *, lasting: bool) -> None:
    """Print problems of awaited pods, and delete those that block their own replacement."""
    try:
        pods = kubectl.everywhere("pods")
        _end_outdated_pods(console, kubectl, awaited, pods)
    except DeployError:
        return  # the wait reports it if it lasts
    beginnings = tuple(f"{item['metadata']['name']}-" for item in awaited)
    by_reason: dict[str, list[Object]] = {}
    for pod, why in pod_problems(pods):
        # No pod is ready at first: only if that lasts it is worth a line.
        if pod["metadata"]["name"].startswith(beginnings) and (lasting or NOT_READY not in why):
            by_reason.setdefault(why, []).append(pod)
    for why, troubled in by_reason.items():
        more = f" (and {len(troubled) - 1} more)" if troubled[1:] else ""
        console.say(f"    {troubled[-1]['metadata']['name']}: {why}{more}")
        kind = why.partition(AFTER)[0]
        if kind not in known:
            known.add(kind)
            show_logs(console, kubectl, troubled[-1], lines=5)


def _end_outdated_pods(console: Console, kubectl: Kubectl, awaited: list[Object], pods: list[Object]) -> None:
    """Delete pods of a StatefulSet that have an earlier template and are not ready.

    Its controller waits until they are ready before it replaces them: for ever if their template is the problem
    (kubernetes/kubernetes#67250).
    """
    for item in awaited:
        if item["kind"] != "StatefulSet":
            continue
        name, namespace = item["metadata"]["name"], item["metadata"]["namespace"]
        live = kubectl.get("statefulset", name, "--namespace", namespace)
        newest = (live or {}).get("status", {}).get("updateRevision")
        for pod in pods:
            labels, owners = pod["metadata"].get("labels", {}), pod["metadata"].get("ownerReferences", [])
            outdated = newest and labels.get("controller-revision-hash") != newest
            if outdated and [owner["name"] for owner in owners] == [name] and not is_true(pod, "Ready"):
                console.say(f"    Ending {pod['metadata']['name']}, which is of an earlier template and not ready.")
                kubectl.run("delete", "pod", pod["metadata"]["name"], "--namespace", namespace, "--wait=false")
