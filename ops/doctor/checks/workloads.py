"""Workloads that are missing, scaled to zero or without pods, and failed Jobs."""

from collections.abc import Iterator

from ops.cluster.kubectl import NAMESPACE, Object
from ops.cluster.names import MIGRATE, PREPARE
from ops.cluster.objects import condition, is_true
from ops.doctor.checks.references import rests_on
from ops.doctor.findings import Finding
from ops.doctor.snapshot import Snapshot, subject, subject_of

SERVERS = {
    "airflow-api-server": "Deployment",
    "airflow-scheduler": "Deployment",
    "airflow-dag-processor": "Deployment",
    "airflow-triggerer": "Deployment",
    "metadata-postgres": "StatefulSet",
}
"""The servers of every overlay, without which no run continues."""
APPLY = "Run scripts/apply-all.sh"


def workload_missing(seen: Snapshot) -> Iterator[Finding]:
    """A server that does not exist."""
    for name, kind in SERVERS.items():
        if seen.find(kind, name) is None:
            yield Finding(
                subject(kind, name, NAMESPACE),
                f"There is no {kind} {name}: it was never applied, or was deleted.",
                f"{APPLY}: it makes what is missing, and leaves data and passwords as they are.",
                explained_by={f"namespace {NAMESPACE}"},
            )


def scaled_to_zero(seen: Snapshot) -> Iterator[Finding]:
    """A workload scaled to zero."""
    for item in seen.of_kind("Deployment", "StatefulSet"):
        if item["spec"].get("replicas", 1) == 0:
            meta, kind = item["metadata"], item["kind"].lower()
            yield Finding(
                subject_of(item),
                f"{meta['name']} is scaled to 0, so none of it runs.",
                f"`kubectl --namespace {meta['namespace']} scale {kind}/{meta['name']} --replicas=1`, or"
                " scripts/apply-all.sh.",
            )


def pods_not_made(seen: Snapshot) -> Iterator[Finding]:
    """A workload whose pods the cluster refuses to create."""
    for item in seen.of_kind("Deployment", "StatefulSet", "DaemonSet"):
        status = item.get("status", {})
        failure = condition(item, "ReplicaFailure") if is_true(item, "ReplicaFailure") else {}
        message = failure.get("message", "")
        lacking = status.get("replicas", 0) < item["spec"].get("replicas", 1) and item["kind"] == "StatefulSet"
        lacking |= item["kind"] == "DaemonSet" and status.get("currentNumberScheduled", 0) < status.get(
            "desiredNumberScheduled", 0
        )
        message = message or (seen.warning(item, "FailedCreate") if lacking else "")
        if message:
            namespace = item["metadata"]["namespace"]
            yield Finding(
                subject_of(item),
                f"The cluster refuses to make pods of {item['metadata']['name']}: {message}",
                f"Mend what it names. A missing ServiceAccount or ConfigMap: {APPLY.lower()}; a pod that breaks the"
                " standard `restricted`: its manifest was changed.",
                explained_by={subject("ResourceQuota", namespace, namespace)},
            )


def migrations_failed(seen: Snapshot) -> Iterator[Finding]:
    """The Job that migrates the metadata database has failed."""
    return _failed_jobs(
        seen, {MIGRATE}, "The metadata database was not brought to this version of Airflow", {"metadata"}
    )


def sink_job_failed(seen: Snapshot) -> Iterator[Finding]:
    """The Job that prepares the sink has failed."""
    explained_by = {subject("Service", "mssql-svc", NAMESPACE)}
    return _failed_jobs(seen, {PREPARE}, "The sink was not prepared for the pipelines", explained_by)


def job_failed(seen: Snapshot) -> Iterator[Finding]:
    """Another Job has failed."""
    names = {item["metadata"]["name"] for item in seen.of_kind("Job")} - {MIGRATE, PREPARE}
    return _failed_jobs(seen, names, "Its work was not done", set())


def _failed_jobs(seen: Snapshot, names: set[str], meaning: str, explained_by: set[str]) -> Iterator[Finding]:
    for job in seen.of_kind("Job"):
        meta, status = job["metadata"], job.get("status", {})
        if meta["name"] not in names or is_true(job, "Complete"):
            continue
        given_up = is_true(job, "Failed")
        if (not given_up and not status.get("failed")) or _has_successor(seen, job):
            continue
        ended = "has failed" if given_up else f"has failed {status['failed']} times and is tried again"
        last = _last_message(seen, job) or condition(job, "Failed").get("message") or "nothing that is still to be read"
        where = f"`kubectl --namespace {meta['namespace']} logs job/{meta['name']}`"
        yield Finding(
            subject_of(job),
            f"The Job {meta['name']} {ended}. {meaning}. It last said: {last}",
            f"Mend what it says (all of it: {where}), then run scripts/apply-all.sh, which runs the Job again.",
            explained_by=explained_by | rests_on(seen, job["spec"]["template"], meta["namespace"]),
        )


def _has_successor(seen: Snapshot, job: Object) -> bool:
    """Whether a CronJob has created a later Job, whose state counts."""
    owners = [one["name"] for one in job["metadata"].get("ownerReferences") or [] if one["kind"] == "CronJob"]
    made = str(job["metadata"].get("creationTimestamp"))
    return any(
        is_owned_by(other, "CronJob", owner) and str(other["metadata"].get("creationTimestamp")) > made
        for owner in owners
        for other in seen.of_kind("Job", namespaces=(job["metadata"]["namespace"],))
    )


def _last_message(seen: Snapshot, job: Object) -> str:
    """The last message of the last failed pod of a Job."""
    meta, message = job["metadata"], ""
    own = seen.of_kind("Pod", namespaces=(meta["namespace"],))
    pods = [pod for pod in own if is_owned_by(pod, "Job", meta["name"])]
    for pod in sorted(pods, key=lambda one: str(one["metadata"].get("creationTimestamp"))):
        prefix = f"{meta['namespace']}/{pod['metadata']['name']}/"
        message = next((last for key, last in seen.logs.items() if key.startswith(prefix)), message)
    return message


def is_owned_by(item: Object, kind: str, name: str = "") -> bool:
    """Whether an object of a kind owns it; with `name`, the one of that name."""
    owners = [one for one in item["metadata"].get("ownerReferences") or [] if one["kind"] == kind]
    return any(not name or one["name"] == name for one in owners)


def workload_of(pod: Object) -> str:
    """The workload of a pod, as findings name it; empty if it has none."""
    namespace = pod["metadata"]["namespace"]
    for owner in pod["metadata"].get("ownerReferences") or []:
        if owner["kind"] == "ReplicaSet":
            return subject("Deployment", owner["name"].rpartition("-")[0], namespace)
        return subject(owner["kind"], owner["name"], namespace)
    return ""
