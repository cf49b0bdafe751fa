"""What was gathered of a deployment at one moment: all that the checks know."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ops.cluster.kubectl import NAMESPACE, NAMESPACES, Object
from ops.cluster.log_lines import short
from ops.cluster.names import SERVICE_NAME
from ops.cluster.objects import labels_of
from ops.cluster.pages import Trouble
from ops.cluster.policy_probe import Tried

API = ("kubernetes", "default")
"""The Service of the Kubernetes API, and its namespace."""
USER = "the user of this kubeconfig"
"""Whose certificate K3s made with its own."""


@dataclass(frozen=True)
class Secret:
    """Of a Secret: the names of its keys, and when one of their values was last changed. Never the values."""

    keys: frozenset[str]
    changed: datetime | None = None


@dataclass(frozen=True)
class Disk:
    """The room on a file system of a node, and the claims that lie on it."""

    node: str
    free: int
    size: int
    claims: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """What a pod beside the steps found when it tried one of their ends, as `etl check` tells it."""

    where: str
    problem: str = ""
    words: str = ""
    free: int = 0
    size: int = 0


@dataclass(frozen=True)
class FailedRun:
    """The last run of a DAG, where it failed: its first failed task, and the last words of its log."""

    run_id: str
    task: str
    words: str


@dataclass
class Airflow:
    """What Airflow's API says. The lists are as the API has them."""

    health: dict[str, Any] = field(default_factory=dict)
    down: str = ""
    """Why the API server does not answer, where it does not."""
    refused: str = ""
    """Why the administrator may not log in, where that is so."""
    import_errors: list[dict[str, Any]] = field(default_factory=list)
    pools: list[dict[str, Any]] = field(default_factory=list)
    dags: list[dict[str, Any]] = field(default_factory=list)
    waiting: list[dict[str, Any]] = field(default_factory=list)
    """Task instances that wait for a slot or for their worker."""
    failed: dict[str, FailedRun] = field(default_factory=dict)
    """By DAG, where its last run failed."""


@dataclass
class Snapshot:
    """Everything. What could not be looked at is named in `unseen`, each with the reason."""

    now: datetime
    place: str
    objects: list[Object] = field(default_factory=list)
    events: list[Object] = field(default_factory=list)
    secrets: dict[tuple[str, str], Secret] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)
    """The last words of containers that are not well, by pod and container."""
    disks: list[Disk] = field(default_factory=list)
    answers: dict[str, Answer] = field(default_factory=dict)
    airflow: Airflow = field(default_factory=Airflow)
    loki: str = ""
    """Why Loki is not ready, where it is not."""
    targets: list[dict[str, Any]] = field(default_factory=list)
    alerts: list[dict[str, Any]] = field(default_factory=list)
    policies: list[Tried] = field(default_factory=list)
    """What a pod on each node came to that tried to get past the network policies."""
    pages: list[Trouble] = field(default_factory=list)
    """Why the UI does not open, where it does not."""
    identity: list[str] = field(default_factory=list)
    """Why people cannot sign in at the identity provider, where one is set, seen from the API server."""
    certificates: dict[str, datetime] = field(default_factory=dict)
    """Until when each is valid, by whose it is."""
    unseen: dict[str, str] = field(default_factory=dict)

    def of_kind(self, *kinds: str, namespaces: tuple[str, ...] = NAMESPACES) -> Iterator[Object]:
        """The objects of some kinds in the deployment's namespaces, and those that are in none."""
        for item in self.objects:
            if item["kind"] in kinds and item["metadata"].get("namespace", namespaces[0]) in namespaces:
                yield item

    def find(self, kind: str, name: str, namespace: str = NAMESPACE) -> Object | None:
        """One object."""
        found = (item for item in self.of_kind(kind, namespaces=(namespace,)) if item["metadata"]["name"] == name)
        return next(found, None)

    def settings(self, name: str) -> dict[str, str]:
        """The data of a ConfigMap; nothing where there is none."""
        return dict((self.find("ConfigMap", name) or {}).get("data") or {})

    def ready_endpoints(self, service: str, namespace: str = NAMESPACE) -> list[str]:
        """The addresses that a Service leads to now."""
        return [
            address
            for item in self.of_kind("EndpointSlice", namespaces=(namespace,))
            if labels_of(item).get(SERVICE_NAME) == service
            for endpoint in item.get("endpoints") or []
            if (endpoint.get("conditions") or {}).get("ready", True)
            for address in endpoint["addresses"]
        ]

    def warning(self, item: Object, *reasons: str) -> str:
        """The message of the latest warning about an object with one of the reasons; nothing where there is none."""
        meta = item["metadata"]
        found = [
            event
            for event in self.events
            if event.get("reason") in reasons
            and event["involvedObject"].get("name") == meta["name"]
            and event["involvedObject"].get("kind") == item["kind"]
            and event["involvedObject"].get("namespace") == meta.get("namespace")
            # A pod of a StatefulSet has the name of the one before it.
            and event["involvedObject"].get("uid", meta.get("uid")) == meta.get("uid")
        ]
        latest = max(found, key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "", default={})
        return short(latest.get("message") or "")

    def age(self, text: str | None) -> float:
        """How many seconds ago a time in an object was."""
        when = time_of(text)
        return (self.now - when).total_seconds() if when else 0.0


def subject(kind: str, name: str, namespace: str | None = None) -> str:
    """An object as findings name it."""
    return f"{kind.lower()} {namespace}/{name}" if namespace else f"{kind.lower()} {name}"


def subject_of(item: Object) -> str:
    """An object as findings name it."""
    return subject(item["kind"], item["metadata"]["name"], item["metadata"].get("namespace"))


def time_of(text: str | None) -> datetime | None:
    """A time as Kubernetes and Airflow write it."""
    if not text:
        return None
    when = datetime.fromisoformat(text)
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def spoken(seconds: float) -> str:
    """A span of time in words."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.0f} hours"
