"""Pods that are not well: each has one trouble, the first that keeps it from working."""

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from ops.cluster.images import is_local
from ops.cluster.kubectl import Object
from ops.cluster.log_lines import short
from ops.cluster.names import PART_OF
from ops.cluster.objects import condition, container_statuses, containers_of, labels_of
from ops.cluster.pod_problems import Kind, container_problem, ending, last_end
from ops.doctor.checks.references import rests_on
from ops.doctor.checks.workloads import is_owned_by, workload_of
from ops.doctor.findings import Finding
from ops.doctor.snapshot import Snapshot, spoken, subject, subject_of

_NODE_SHUTDOWN = ("Terminated", "NodeShutdown")
"""Ended, or not begun, because the node was being shut down: such pods stay listed after each restart."""
_NOT_STARTED = {Kind.IMAGE: "image", Kind.REFUSED: "start"}
_RECENT_SECONDS = 600
"""An end that is longer ago is no more the trouble of a container that runs."""
_CREATING_SECONDS = 60


class Trouble(NamedTuple):
    """What keeps a pod from working, for one of the checks below."""

    kind: str
    pod: Object
    container: str = ""
    words: str = ""


def image_missing(seen: Snapshot) -> Iterator[Finding]:
    """An image that the node has not and cannot get: one finding for all pods that wait for it."""
    waiting = defaultdict(list)
    for trouble in _troubles(seen, "image"):
        image = next(
            (one["image"] for one in containers_of(trouble.pod["spec"]) if one["name"] == trouble.container), ""
        )
        waiting[image].append(trouble)
    for image, troubles in waiting.items():
        first, *others = [subject_of(trouble.pod) for trouble in troubles]
        local = "It is built, never pulled: run scripts/apply-all.sh, which builds and imports it; every node needs it."
        pulled = (
            "Correct its name or version in k8s/components/images; or let the node reach the registry, or install from"
            " a bundle (scripts/apply-all.sh --from-bundle)."
        )
        yield _finding(
            seen,
            troubles[0],
            f"The node has no image {image} and cannot get it: {troubles[0].words}"
            + (f" Also {', '.join(others)} wait for it." if others else ""),
            local if is_local(image) else pulled,
            also=frozenset([first, *others]) | frozenset(workload_of(one.pod) for one in troubles),
        )


def unschedulable(seen: Snapshot) -> Iterator[Finding]:
    """A pod that no node takes."""
    for trouble in _troubles(seen, "unschedulable"):
        if "Insufficient" in trouble.words:
            advice = (
                "The nodes have no room for what it asks for: see what takes it (`kubectl describe nodes`), end what"
                " is not needed, give default_pool fewer slots, or add memory or a node."
            )
        elif "affinity" in trouble.words or "selector" in trouble.words:
            advice = (
                "No node has the label that it needs. The volumes lie on the node with etl-poc/data=true: `kubectl"
                " label node NAME etl-poc/data=true`, or scripts/apply-all.sh."
            )
        else:
            advice = "Mend what it names; a taint of the node goes away with what made it (`kubectl describe nodes`)."
        yield _finding(seen, trouble, f"No node takes it: {trouble.words}", advice)


def mount_failing(seen: Snapshot) -> Iterator[Finding]:
    """A pod whose volume cannot be mounted."""
    for trouble in _troubles(seen, "mount"):
        yield _finding(
            seen,
            trouble,
            f"One of its volumes cannot be mounted: {trouble.words}",
            "A path that does not exist: the folder or its disk is gone from the node with the data: mount the disk, or"
            " restore the folder; only where its data may be lost, scripts/apply-all.sh makes an empty one.",
        )


def cannot_start(seen: Snapshot) -> Iterator[Finding]:
    """A container that Kubernetes does not even begin."""
    for trouble in _troubles(seen, "start"):
        yield _finding(
            seen,
            trouble,
            f"Its container {trouble.container} is not started: {trouble.words}",
            "Mend what it names; a Secret, a key or a ConfigMap that is missing makes scripts/apply-all.sh.",
        )


def oom_killed(seen: Snapshot) -> Iterator[Finding]:
    """A container that was killed because it took more memory than it may."""
    for trouble in _troubles(seen, "oom"):
        specs = {one["name"]: one for one in trouble.pod["spec"]["containers"]}
        limit = specs.get(trouble.container, {}).get("resources", {}).get("limits", {}).get("memory", "no limit")
        yield _finding(
            seen,
            trouble,
            f"Its container {trouble.container} was killed for its memory: it may take {limit}. {trouble.words}",
            "Raise its limit in its manifest (of steps: etl_airflow/pods/spec.py), or let it do less at once: fewer"
            " slots in default_pool, smaller partitions.",
        )


def crash_looping(seen: Snapshot) -> Iterator[Finding]:
    """A container that ends again and again."""
    for trouble in _troubles(seen, "crash"):
        meta = trouble.pod["metadata"]
        said = seen.logs.get(f"{meta['namespace']}/{meta['name']}/{trouble.container}", "nothing that is to be read")
        yield _finding(
            seen,
            trouble,
            f"Its container {trouble.container} ends again and again ({trouble.words}). It last said: {said}",
            f"Mend what it says; all of it: `kubectl --namespace {meta['namespace']} logs {meta['name']}"
            f" --container={trouble.container} --previous`.",
        )


def evicted(seen: Snapshot) -> Iterator[Finding]:
    """A pod that ended as a whole and is not replaced."""
    for trouble in _troubles(seen, "ended"):
        meta = trouble.pod["metadata"]
        yield _finding(
            seen,
            trouble,
            f"It has ended: {trouble.words}",
            f"`kubectl --namespace {meta['namespace']} delete pod {meta['name']}` once what ended it is mended: free"
            " room where its node was short of disk or memory.",
        )


def not_ready(seen: Snapshot) -> Iterator[Finding]:
    """A server that runs and does not do its work, or not yet."""
    for trouble in _troubles(seen, "not ready"):
        meta = trouble.pod["metadata"]
        yield _finding(
            seen,
            trouble,
            f"Its container {trouble.container} {trouble.words}",
            "Within the first minutes: wait, it is starting. Else its log says why: `kubectl --namespace"
            f" {meta['namespace']} logs {meta['name']} --container={trouble.container} --tail=50`.",
        )


def _troubles(seen: Snapshot, kind: str) -> Iterator[Trouble]:
    for pod in seen.of_kind("Pod"):
        trouble = trouble_of(seen, pod)
        if trouble and trouble.kind == kind:
            yield trouble


def trouble_of(seen: Snapshot, pod: Object) -> Trouble | None:
    """The first trouble of a pod; None where it is well, or on its way, or not ours to judge."""
    phase = pod.get("status", {}).get("phase")
    if phase == "Succeeded" or pod["metadata"].get("deletionTimestamp"):
        return None
    if phase == "Failed":
        return _of_failed(pod)
    if not container_statuses(pod):
        scheduled = condition(pod, "PodScheduled")
        if scheduled.get("status") == "False":
            return Trouble("unschedulable", pod, words=short(scheduled.get("message") or "it waits."))
        return None
    found = (_of_container(seen, pod, container) for container in container_statuses(pod))
    return next((trouble for trouble in found if trouble), None)


def _of_failed(pod: Object) -> Trouble | None:
    for container in container_statuses(pod):
        ended = container.get("state", {}).get("terminated") or {}
        if ended.get("reason") == "OOMKilled" and not is_owned_by(pod, "Job"):
            return Trouble("oom", pod, container["name"], "")
    status = pod["status"]
    if status.get("reason") in _NODE_SHUTDOWN:
        return None  # whatever it belongs to has made another, or tells of it
    if status.get("reason") and not is_owned_by(pod, "Job"):
        return Trouble("ended", pod, words=short(f"{status['reason']}. {status.get('message', '')}"))
    return None  # a task's, or a Job's, which tell of it themselves


def _of_container(seen: Snapshot, pod: Object, container: Object) -> Trouble | None:
    name, ended, problem = container["name"], last_end(container), container_problem(container)
    if problem and problem.kind in _NOT_STARTED:
        return Trouble(_NOT_STARTED[problem.kind], pod, name, short(f"{problem.reason}. {problem.message}"))
    if problem and problem.kind is Kind.STARTING:
        return _of_starting(seen, pod, name)
    if problem and problem.kind is Kind.ENDED and is_owned_by(pod, "Job"):
        return None
    was_killed = ended.get("reason") == "OOMKilled"
    recent = bool(ended.get("exitCode")) and seen.age(ended.get("finishedAt")) < _RECENT_SECONDS
    if (problem and problem.kind in (Kind.CRASHING, Kind.ENDED)) or (recent and (problem or was_killed)):
        restarts = f"{container.get('restartCount', 0)} restarts, last: {ending(ended)}" if ended else ""
        return Trouble("oom" if was_killed else "crash", pod, name, restarts)
    if not problem or is_of_task(pod):
        return None
    started = container["state"]["running"].get("startedAt")
    since = seen.age(condition(pod, "Ready").get("lastTransitionTime") or started)
    probe = seen.warning(pod, "Unhealthy")
    return Trouble("not ready", pod, name, f"has not been ready for {spoken(since)}. {probe}".strip())


def _of_starting(seen: Snapshot, pod: Object, name: str) -> Trouble | None:
    if mount := seen.warning(pod, "FailedMount", "FailedAttachVolume"):
        return Trouble("mount", pod, name, mount)
    age = seen.age(pod["metadata"].get("creationTimestamp"))
    sandbox = seen.warning(pod, "FailedCreatePodSandBox")
    if sandbox or age > _CREATING_SECONDS:
        return Trouble("start", pod, name, sandbox or f"it has been made for {spoken(age)}, which is too long.")
    return None if is_of_task(pod) else Trouble("not ready", pod, name, f"is being made, for {spoken(age)} now.")


def is_of_task(pod: Object) -> bool:
    """Whether a pod is a task's worker, a step or our own: here for seconds."""
    return not pod["metadata"].get("ownerReferences") or is_owned_by(pod, "Job")


def _finding(seen: Snapshot, trouble: Trouble, what: str, advice: str, also: frozenset[str] = frozenset()) -> Finding:
    pod = trouble.pod
    because = rests_on(seen, pod, pod["metadata"]["namespace"])
    if labels_of(pod).get(PART_OF) == "airflow":
        because |= {"metadata", subject("Deployment", "pgbouncer", pod["metadata"]["namespace"])}
    return Finding(subject_of(pod), what, advice, (also | {workload_of(pod)}) - {""}, because)
