"""Loki, Prometheus and its alerts."""

from collections.abc import Iterator

from ops.cluster.kubectl import OBSERVABILITY
from ops.cluster.log_lines import shorten
from ops.cluster.names import NAME
from ops.cluster.objects import labels_of
from ops.doctor.checks.cluster import DNS
from ops.doctor.findings import Finding
from ops.doctor.snapshot import Snapshot, subject_of

_DISTINGUISHING = ("dag_id", "task_id", "pipeline", "pod", "persistentvolumeclaim", "job", "instance", "device")
"""Labels that distinguish alerts of the same name."""


def loki_away(seen: Snapshot) -> Iterator[Finding]:
    """Loki is not ready."""
    if seen.loki:
        yield _away(
            "Loki",
            f"Loki is not ready: {shorten(seen.loki)} Airflow cannot show task logs; workers keep them for minutes.",
        )


def prometheus_away(seen: Snapshot) -> Iterator[Finding]:
    """Prometheus does not answer, so that no alert fires."""
    if "prometheus" in seen.unseen:
        yield _away("Prometheus", f"{shorten(seen.unseen['prometheus'])} Nothing is measured, and no alert fires.")


def target_down(seen: Snapshot) -> Iterator[Finding]:
    """A target of Prometheus that is down."""
    for target in seen.targets:
        if target["health"] != "down":
            continue
        job, instance = target["labels"]["job"], target["labels"].get("instance", "")
        servers = {
            subject_of(item)
            for item in seen.of_kind("Deployment", "StatefulSet", "DaemonSet", "Pod", "Service")
            if job in (item["metadata"]["name"], labels_of(item).get(NAME))
        }
        yield Finding(
            f"target {job}",
            f"{job} at {instance} gives Prometheus no metrics: {shorten(target.get('lastError') or 'no answer')}",
            f"`kubectl get pods --all-namespaces --selector {NAME}={job}` and its log. What it measures is not seen,"
            " and the alerts that rest on it are blind.",
            explained_by={DNS, f"node {instance}", *servers},
        )


def _away(name: str, what: str) -> Finding:
    server = name.lower()
    return Finding(
        name,
        what,
        f"`kubectl --namespace {OBSERVABILITY} logs statefulset/{server} --tail=50` says why.",
        explained_by={f"{kind} {OBSERVABILITY}/{server}" for kind in ("service", "statefulset")}
        | {f"namespace {OBSERVABILITY}"},
    )


def alert_firing(seen: Snapshot) -> Iterator[Finding]:
    """A firing alert that no other finding explains."""
    for alert in seen.alerts:
        if alert["state"] != "firing":
            continue
        labels = alert["labels"]
        name, about = labels["alertname"], f"pod {labels.get('namespace')}/{labels.get('pod')}"
        summary = alert.get("annotations", {}).get("summary", "")
        yield Finding(
            " ".join(["alert", name, *(labels[key] for key in _DISTINGUISHING if key in labels)]),
            f"Prometheus says: {shorten(summary) or name}",
            f"docs/runbooks/{name}.md says what to look at. It ends a few minutes after its cause.",
            explained_by={f"alert {name}", about},
        )
