"""Problems of pods: for each the first one."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Set
from typing import NamedTuple

from ops.cluster.images import is_local
from ops.cluster.kubectl import Object
from ops.cluster.log_lines import shorten
from ops.cluster.names import PART_OF
from ops.cluster.objects import condition, container_statuses, containers_of, labels_of
from ops.cluster.pod_problems import Kind, container_problem, ending, last_end
from ops.doctor.checks.references import rests_on
from ops.doctor.checks.workloads import is_owned_by, workload_of
from ops.doctor.findings import Finding
from ops.doctor.snapshot import Snapshot, format_duration, subject, subject_of

_NODE_SHUTDOWN = ("Terminated", "NodeShutdown")
"""Reasons of pods that a shutdown of the node ended or prevented: they stay listed after each restart."""
_NOT_STARTED = {Kind.IMAGE: "image", Kind.REFUSED: "start"}
_RECENT_SECONDS = 600
"""Earlier failures of a running container are no problem."""
_CREATING_SECONDS = 60


class PodProblem(NamedTuple):
    """The problem of a pod, for one of the checks below."""

    kind: str
    pod: Object
    container: str = ""
    message: str = ""


def _problems(seen: Snapshot, kind: str) -> Iterator[PodProblem]:
    for pod in seen.of_kind("Pod"):
        found = problem_of(seen, pod)
        if found and found.kind == kind:
            yield found


def image_missing(seen: Snapshot) -> Iterator[Finding]:
    """An image that the node lacks and cannot pull: one finding for all its pods."""
    waiting = defaultdict(list)
    for found in _problems(seen, "image"):
        image = next((one["image"] for one in containers_of(found.pod["spec"]) if one["name"] == found.container), "")
        waiting[image].append(found)
    for image, problems in waiting.items():
        first, *others = [subject_of(found.pod) for found in problems]
        local = "It is built, never pulled: run scripts/apply-all.sh, which builds and imports it; every node needs it."
        pulled = (
            "Correct its name or version in k8s/components/images; or let the node reach the registry, or install from"
            " a bundle (scripts/apply-all.sh --from-bundle)."
        )
        yield _finding(
            seen,
            problems[0],
            f"The node has no image {image} and cannot get it: {problems[0].message}"
            + (f" Also {', '.join(others)} wait for it." if others else ""),
            local if is_local(image) else pulled,
            also={first, *others, *(workload_of(one.pod) for one in problems)},
        )


def unschedulable(seen: Snapshot) -> Iterator[Finding]:
    """A pod that cannot be scheduled."""
    for found in _problems(seen, "unschedulable"):
        if "Insufficient" in found.message:
            advice = (
                "The nodes have no room for what it asks for: see what takes it (`kubectl describe nodes`), end what"
                " is not needed, give default_pool fewer slots, or add memory or a node."
            )
        elif "affinity" in found.message or "selector" in found.message:
            advice = (
                "No node has the label that it needs. The volumes lie on the node with etl-poc/data=true: `kubectl"
                " label node NAME etl-poc/data=true`, or scripts/apply-all.sh."
            )
        else:
            advice = "Mend what it names; a taint of the node goes away with what made it (`kubectl describe nodes`)."
        yield _finding(seen, found, f"No node takes it: {found.message}", advice)


def oom_killed(seen: Snapshot) -> Iterator[Finding]:
    """A container that was killed at its memory limit."""
    for found in _problems(seen, "oom"):
        specs = {one["name"]: one for one in found.pod["spec"]["containers"]}
        limit = specs.get(found.container, {}).get("resources", {}).get("limits", {}).get("memory", "no limit")
        yield _finding(
            seen,
            found,
            f"Its container {found.container} was killed for its memory: it may take {limit}. {found.message}",
            "Raise its limit in its manifest (of steps: etl_airflow/pods/spec.py), or let it do less at once: fewer"
            " slots in default_pool, smaller partitions.",
        )


def _problems_of(kind: str, what: str, do: str) -> Callable[[Snapshot], Iterator[Finding]]:
    """The check for a kind of problem. Both texts may have {container}, {message}, {namespace}, {pod} and {last}."""

    def find(seen: Snapshot) -> Iterator[Finding]:
        for found in _problems(seen, kind):
            namespace, pod = found.pod["metadata"]["namespace"], found.pod["metadata"]["name"]
            last = seen.logs.get(f"{namespace}/{pod}/{found.container}", "nothing that is to be read")
            facts = {"container": found.container, "message": found.message, "namespace": namespace, "pod": pod}
            yield _finding(seen, found, what.format(**facts, last=last), do.format(**facts))

    return find


mount_failing = _problems_of(
    "mount",
    "One of its volumes cannot be mounted: {message}",
    "A path that does not exist: the folder or its disk is gone from the node with the data: mount the disk, or restore"
    " the folder; only where its data may be lost, scripts/apply-all.sh makes an empty one.",
)
cannot_start = _problems_of(
    "start",
    "Its container {container} is not started: {message}",
    "Mend what it names; a Secret, a key or a ConfigMap that is missing makes scripts/apply-all.sh.",
)
crash_looping = _problems_of(
    "crash",
    "Its container {container} ends again and again ({message}). It last said: {last}",
    "Mend what it says; all of it: `kubectl --namespace {namespace} logs {pod} --container={container} --previous`.",
)
# Such as an evicted pod: nothing replaces it.
evicted = _problems_of(
    "ended",
    "It has ended: {message}",
    "`kubectl --namespace {namespace} delete pod {pod}` once what ended it is mended: free room where its node was"
    " short of disk or memory.",
)
not_ready = _problems_of(
    "not ready",
    "Its container {container} {message}",
    "Within the first minutes: wait, it is starting. Else its log says why: `kubectl --namespace {namespace} logs {pod}"
    " --container={container} --tail=50`.",
)


def problem_of(seen: Snapshot, pod: Object) -> PodProblem | None:
    """The first problem of a pod; None if it has none, is starting, or belongs to a task or Job."""
    phase = pod.get("status", {}).get("phase")
    if phase == "Succeeded" or pod["metadata"].get("deletionTimestamp"):
        return None
    if phase == "Failed":
        return _of_failed(pod)
    if not container_statuses(pod):
        scheduled = condition(pod, "PodScheduled")
        if scheduled.get("status") == "False":
            return PodProblem("unschedulable", pod, message=shorten(scheduled.get("message") or "it waits."))
        return None
    found = (_of_container(seen, pod, container) for container in container_statuses(pod))
    return next(filter(None, found), None)


def _of_failed(pod: Object) -> PodProblem | None:
    for container in container_statuses(pod):
        ended = container.get("state", {}).get("terminated") or {}
        if ended.get("reason") == "OOMKilled" and not is_owned_by(pod, "Job"):
            return PodProblem("oom", pod, container["name"], "")
    status = pod["status"]
    if status.get("reason") in _NODE_SHUTDOWN:
        return None  # its owner has replaced it, or has a finding
    if status.get("reason") and not is_owned_by(pod, "Job"):
        return PodProblem("ended", pod, message=shorten(f"{status['reason']}. {status.get('message', '')}"))
    return None  # checks of tasks and Jobs report it


def _of_container(seen: Snapshot, pod: Object, container: Object) -> PodProblem | None:
    name, ended, problem = container["name"], last_end(container), container_problem(container)
    if problem and problem.kind in _NOT_STARTED:
        return PodProblem(_NOT_STARTED[problem.kind], pod, name, shorten(f"{problem.reason}. {problem.message}"))
    if problem and problem.kind is Kind.STARTING:
        return _of_starting(seen, pod, name)
    if problem and problem.kind is Kind.ENDED and is_owned_by(pod, "Job"):
        return None
    was_killed = ended.get("reason") == "OOMKilled"
    recent = bool(ended.get("exitCode")) and seen.age(ended.get("finishedAt")) < _RECENT_SECONDS
    if (problem and problem.kind in (Kind.CRASHING, Kind.ENDED)) or (recent and (problem or was_killed)):
        restarts = f"{container.get('restartCount', 0)} restarts, last: {ending(ended)}" if ended else ""
        return PodProblem("oom" if was_killed else "crash", pod, name, restarts)
    if not problem or is_of_task(pod):
        return None
    started = container["state"]["running"].get("startedAt")
    since = seen.age(condition(pod, "Ready").get("lastTransitionTime") or started)
    probe = seen.warning(pod, "Unhealthy")
    return PodProblem("not ready", pod, name, f"has not been ready for {format_duration(since)}. {probe}".strip())


def _of_starting(seen: Snapshot, pod: Object, name: str) -> PodProblem | None:
    if mount := seen.warning(pod, "FailedMount", "FailedAttachVolume"):
        return PodProblem("mount", pod, name, mount)
    age = seen.age(pod["metadata"].get("creationTimestamp"))
    sandbox = seen.warning(pod, "FailedCreatePodSandBox")
    if sandbox or age > _CREATING_SECONDS:
        return PodProblem(
            "start", pod, name, sandbox or f"it has been made for {format_duration(age)}, which is too long."
        )
    if is_of_task(pod):
        return None
    return PodProblem("not ready", pod, name, f"is being created, for {format_duration(age)} now.")


def is_of_task(pod: Object) -> bool:
    """Whether a pod is short-lived: a worker, a step or a probe."""
    return not pod["metadata"].get("ownerReferences") or is_owned_by(pod, "Job")


def _finding(seen: Snapshot, found: PodProblem, what: str, advice: str, also: Set[str] = frozenset()) -> Finding:
    pod = found.pod
    explained_by = rests_on(seen, pod, pod["metadata"]["namespace"])
    if labels_of(pod).get(PART_OF) == "airflow":
        explained_by |= {"metadata", subject("Deployment", "pgbouncer", pod["metadata"]["namespace"])}
    return Finding(subject_of(pod), what, advice, (also | {workload_of(pod)}) - {""}, explained_by)
