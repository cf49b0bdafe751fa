"""What watches the pipelines: whether it is there, sees everything, and what it says."""

from collections.abc import Iterator

from ops.cluster.kubectl import OBSERVABILITY
from ops.cluster.log_lines import short
from ops.cluster.names import NAME
from ops.cluster.objects import labels_of
from ops.doctor.checks.cluster import DNS
from ops.doctor.findings import Finding
from ops.doctor.snapshot import Snapshot, subject_of

_TELLING = ("dag_id", "task_id", "pipeline", "pod", "persistentvolumeclaim", "job", "instance", "device")
"""The labels that tell one alert from another of its name."""


def loki_away(seen: Snapshot) -> Iterator[Finding]:
    """Loki takes no logs, and shows none."""
    if seen.loki:
        yield Finding(
            "Loki",
            f"Loki is not ready: {short(seen.loki)} Airflow cannot show logs of tasks; workers keep them for minutes.",
            f"`kubectl --namespace {OBSERVABILITY} logs statefulset/loki --tail=50` says why.",
            because=_because("loki"),
        )


def prometheus_away(seen: Snapshot) -> Iterator[Finding]:
    """Nobody measures, and no alert fires."""
    if "prometheus" in seen.unseen:
        yield Finding(
            "Prometheus",
            f"{short(seen.unseen['prometheus'])} Nothing is measured, and no alert fires.",
            f"`kubectl --namespace {OBSERVABILITY} logs statefulset/prometheus --tail=50` says why.",
            because=_because("prometheus"),
        )


def target_down(seen: Snapshot) -> Iterator[Finding]:
    """Something that Prometheus asks and that does not answer."""
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
            f"{job} at {instance} gives Prometheus no metrics: {short(target.get('lastError') or 'no answer')}",
            f"`kubectl get pods --all-namespaces --selector {NAME}={job}` and its log. What it measures is not seen,"
            " and the alerts that rest on it are blind.",
            because=frozenset({DNS, f"node {instance}"} | servers),
        )


def _because(server: str) -> frozenset[str]:
    """What a server of the namespace rests on."""
    objects = {f"{kind} {OBSERVABILITY}/{server}" for kind in ("service", "statefulset")}
    return frozenset(objects | {f"namespace {OBSERVABILITY}"})


def alert_firing(seen: Snapshot) -> Iterator[Finding]:
    """An alert that fires and that nothing else here tells of."""
    for alert in seen.alerts:
        if alert["state"] != "firing":
            continue
        labels = alert["labels"]
        name, about = labels["alertname"], f"pod {labels.get('namespace')}/{labels.get('pod')}"
        summary = alert.get("annotations", {}).get("summary", "")
        yield Finding(
            " ".join(["alert", name, *(labels[key] for key in _TELLING if key in labels)]),
            f"Prometheus says: {short(summary) or name}",
            f"docs/runbooks/{name}.md says what to look at. It ends a few minutes after its cause.",
            because=frozenset({f"alert {name}", about}),
        )
