"""The pods as they are now, from a watch, so that a fault finds one that lives for seconds."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from tests.harness.e2e.pod_events import PodEvents


@dataclass(frozen=True)
class Pod:
    """The state of a pod that faults and invariants use."""

    namespace: str
    name: str
    role: str
    """The step of a step's pod, `worker`, or the name of the server."""
    phase: str
    ready: bool
    going: bool
    """Whether it is terminating."""
    container: str
    """The id of its running container, as in the names of its cgroups."""
    restarts: int
    dag_id: str = ""
    run_id: str = ""
    task_id: str = ""

    def __str__(self) -> str:
        return self.name

    @property
    def runs(self) -> bool:
        """Whether it has a process."""
        return bool(self.container) and not self.going

    @property
    def of_a_run(self) -> bool:
        """Whether it is there for one task, and must go with it."""
        return bool(self.dag_id)


class Pods:
    """The pods of some namespaces, while they are watched."""

    def __init__(self) -> None:
        self._pods: dict[str, dict[tuple[str, str], Pod]] = {}

    def all(self) -> list[Pod]:
        """All of them, by name."""
        found = [pod for pods in list(self._pods.values()) for pod in list(pods.values())]
        return sorted(found, key=lambda pod: pod.name)

    def of(self, role: str) -> list[Pod]:
        """Those of a role whose container runs."""
        return [pod for pod in self.all() if pod.role == role and pod.runs]

    def begin(self, namespace: str) -> None:
        """Clear the state: a new watch sends it again."""
        self._pods[namespace] = {}

    def take(self, event: dict[str, Any]) -> None:
        """Take note of an event of a watch."""
        pod = read_pod(event["object"])
        pods = self._pods[pod.namespace]
        if event["type"] == "DELETED":
            pods.pop((pod.namespace, pod.name), None)
        else:
            pods[pod.namespace, pod.name] = pod


@contextmanager
def watching_pods(namespaces: list[str], environment: dict[str, str]) -> Iterator[Pods]:
    """Watch the pods of namespaces until the block ends."""
    pods = Pods()
    watches = [PodEvents(name, environment, pods.take, partial(pods.begin, name)) for name in namespaces]
    for watch in watches:
        watch.start()
    try:
        yield pods
    finally:
        for watch in watches:
            watch.stop()


def read_pod(item: dict[str, Any]) -> Pod:
    """Parse a pod of the API."""
    metadata, status = item["metadata"], item.get("status", {})
    labels, annotations = metadata.get("labels", {}), metadata.get("annotations", {})
    containers = status.get("containerStatuses") or [{}]
    running = "running" in containers[0].get("state", {})
    pod = Pod(
        namespace=metadata["namespace"],
        name=metadata["name"],
        role=labels.get("app.kubernetes.io/name") or labels.get("k8s-app", ""),
        phase=status.get("phase", "Pending"),
        ready=bool(containers[0].get("ready")),
        going="deletionTimestamp" in metadata,
        container=containers[0].get("containerID", "").rpartition("/")[2] if running else "",
        restarts=int(containers[0].get("restartCount", 0)),
    )
    if labels.get("kubernetes_executor") == "True":
        annotated = {name: annotations.get(name, "") for name in ("dag_id", "run_id", "task_id")}
        return Pod(**{**pod.__dict__, "role": "worker", **annotated})
    if labels.get("kubernetes_pod_operator") == "True":
        annotated = {"dag_id": labels.get("dag_id", ""), "task_id": labels.get("task_id", "")}
        annotated["run_id"] = annotations.get("run_id", "")
        return Pod(**{**pod.__dict__, "role": labels.get("app.kubernetes.io/component", ""), **annotated})
    return pod
