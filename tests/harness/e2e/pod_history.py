"""The history of pods: most live for seconds, so they are watched from the beginning."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.harness.e2e.pod_events import PodEvents


class PodWatch:
    """Every pod of the namespace as last seen, by name. All events are also in a file, as evidence."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._pods: dict[str, dict[str, Any]] = {}

    def take(self, event: dict[str, Any]) -> None:
        """Take note of an event."""
        self._pods[event["object"]["metadata"]["name"]] = event["object"]
        with self._file.open("a") as file:
            file.write(json.dumps(event) + "\n")

    def pods(self) -> dict[str, dict[str, Any]]:
        """The pods so far."""
        return dict(self._pods)

    def workers(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """The pods in which the KubernetesExecutor ran the tasks of a run."""
        return [
            pod
            for pod in self.pods().values()
            if pod["metadata"].get("labels", {}).get("kubernetes_executor") == "True" and _is_of(pod, dag_id, run_id)
        ]

    def steps(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """The pods that KubernetesPodOperator made for the steps of a run."""
        return [
            pod
            for pod in self.pods().values()
            if pod["metadata"].get("labels", {}).get("kubernetes_pod_operator") == "True"
            and pod["metadata"]["labels"]["dag_id"] == dag_id
            and _run_argument(pod) == run_id
        ]


@contextmanager
def watch_pods(namespace: str, file: Path, environment: dict[str, str]) -> Iterator[PodWatch]:
    """Watch until the block ends; the events go to a file, which stays as evidence."""
    watch = PodWatch(file)
    events = PodEvents(namespace, environment, watch.take)
    events.start()
    try:
        yield watch
    finally:
        events.stop()


def _is_of(pod: dict[str, Any], dag_id: str, run_id: str) -> bool:
    annotations = pod["metadata"].get("annotations", {})
    return (annotations.get("dag_id"), annotations.get("run_id")) == (dag_id, run_id)


def _run_argument(pod: dict[str, Any]) -> str | None:
    words = pod["spec"]["containers"][0].get("args", [])
    return words[words.index("--run-id") + 1] if "--run-id" in words else None
