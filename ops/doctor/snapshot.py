"""The state of a deployment at one moment: the input of the checks."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ops.cluster.kubectl import NAMESPACE, NAMESPACES, Object
from ops.cluster.log_lines import shorten
from ops.cluster.names import SERVICE_NAME
from ops.cluster.objects import labels_of
from ops.cluster.pages import PageProblem
from ops.cluster.policy_probe import PolicyProbe

API = ("kubernetes", "default")
"""The Service of the Kubernetes API, and its namespace."""
USER = "the user of this kubeconfig"
"""Its certificate is made by K3s."""


@dataclass(frozen=True)
class Secret:
    """The keys of a Secret, and the time of its last change. Never the values."""

    keys: frozenset[str]
    changed: datetime | None = None


@dataclass(frozen=True)
class Disk:
    """A file system of a node, and the claims on it."""

    node: str
    free: int
    size: int
    claims: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """The result of `etl check` for source, sink, metadata database or staging."""

    where: str
    problem: str = ""
    message: str = ""
    free: int = 0
    size: int = 0


@dataclass(frozen=True)
class FailedRun:
    """A failed last run of a DAG: its first failed task, and the last message of that task."""

    run_id: str
    task: str
    message: str


@dataclass
class Airflow:
    """Responses of Airflow's API."""

    health: dict[str, Any] = field(default_factory=dict)
    down: str = ""
    """Why the API server does not answer, if so."""
    refused: str = ""
    """Why the administrator cannot log in, if so."""
    import_errors: list[dict[str, Any]] = field(default_factory=list)
    pools: list[dict[str, Any]] = field(default_factory=list)
    dags: list[dict[str, Any]] = field(default_factory=list)
    waiting: list[dict[str, Any]] = field(default_factory=list)
    """Task instances that wait for a slot or for their worker."""
    failed: dict[str, FailedRun] = field(default_factory=dict)
    """By DAG."""


@dataclass
class Snapshot:
    """The whole state. `unseen` has the parts that could not be read, with the reason."""

    now: datetime
    place: str
    objects: list[Object] = field(default_factory=list)
    events: list[Object] = field(default_factory=list)
    secrets: dict[tuple[str, str], Secret] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)
    """The last messages of failed containers, by pod and container."""
    disks: list[Disk] = field(default_factory=list)
    answers: dict[str, Answer] = field(default_factory=dict)
    airflow: Airflow = field(default_factory=Airflow)
    loki: str = ""
    """Why Loki is not ready, if so."""
    targets: list[dict[str, Any]] = field(default_factory=list)
    alerts: list[dict[str, Any]] = field(default_factory=list)
    policies: list[PolicyProbe] = field(default_factory=list)
    """The test of network policies on each node."""
    pages: list[PageProblem] = field(default_factory=list)
    """Why login pages do not open, if so."""
    identity: list[str] = field(default_factory=list)
    """Why people cannot sign in at the identity provider, if one is set, seen from the API server."""
    certificates: dict[str, datetime] = field(default_factory=dict)
    """The end of validity by owner."""
    unseen: dict[str, str] = field(default_factory=dict)

    def of_kind(self, *kinds: str, namespaces: tuple[str, ...] = NAMESPACES) -> Iterator[Object]:
        """The objects of some kinds in the deployment's namespaces, and those without a namespace."""
        for item in self.objects:
            if item["kind"] in kinds and item["metadata"].get("namespace", namespaces[0]) in namespaces:
                yield item

    def find(self, kind: str, name: str, namespace: str = NAMESPACE) -> Object | None:
        """One object."""
        found = (item for item in self.of_kind(kind, namespaces=(namespace,)) if item["metadata"]["name"] == name)
        return next(found, None)

    def settings(self, name: str) -> dict[str, str]:
        """The data of a ConfigMap; empty if there is none."""
        return dict((self.find("ConfigMap", name) or {}).get("data") or {})

    def ready_endpoints(self, service: str, namespace: str = NAMESPACE) -> list[str]:
        """The ready addresses behind a Service."""
        return [
            address
            for item in self.of_kind("EndpointSlice", namespaces=(namespace,))
            if labels_of(item).get(SERVICE_NAME) == service
            for endpoint in item.get("endpoints") or []
            if (endpoint.get("conditions") or {}).get("ready", True)
            for address in endpoint["addresses"]
        ]

    def warning(self, item: Object, *reasons: str) -> str:
        """The message of the latest warning event of an object with one of the reasons; empty if there is none."""
        meta = item["metadata"]
        found = [
            event
            for event in self.events
            if event.get("reason") in reasons
            and event["involvedObject"].get("name") == meta["name"]
            and event["involvedObject"].get("kind") == item["kind"]
            and event["involvedObject"].get("namespace") == meta.get("namespace")
            # A pod of a StatefulSet has the name of its predecessor.
            and event["involvedObject"].get("uid", meta.get("uid")) == meta.get("uid")
        ]
        latest = max(found, key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "", default={})
        return shorten(latest.get("message") or "")

    def age(self, text: str | None) -> float:
        """The seconds since a time in an object."""
        when = time_of(text)
        return (self.now - when).total_seconds() if when else 0.0


def subject(kind: str, name: str, namespace: str | None = None) -> str:
    """The name of an object in findings."""
    return f"{kind.lower()} {namespace}/{name}" if namespace else f"{kind.lower()} {name}"


def subject_of(item: Object) -> str:
    """The name of an object in findings."""
    return subject(item["kind"], item["metadata"]["name"], item["metadata"].get("namespace"))


def time_of(text: str | None) -> datetime | None:
    """A time in the format of Kubernetes and Airflow."""
    if not text:
        return None
    when = datetime.fromisoformat(text)
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def format_duration(seconds: float) -> str:
    """Seconds as text."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.0f} hours"
