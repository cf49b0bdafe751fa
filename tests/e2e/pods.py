"""What pods there were: most of them live for seconds, so they are watched from the beginning."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.process import die_with_parent


class PodWatch:
    """Every pod of the namespace as it was last seen, by name."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def pods(self) -> dict[str, dict[str, Any]]:
        """The pods so far."""
        found: dict[str, dict[str, Any]] = {}
        for line in self._file.read_text().splitlines(keepends=True):
            # An event each; the last one may still be being written.
            if line.startswith("{") and line.endswith("\n"):
                pod = json.loads(line)["object"]
                found[pod["metadata"]["name"]] = pod
        return found

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
    command = ["kubectl", "--namespace", namespace, "get", "pods", "--watch", "--output-watch-events", "--output=json"]
    with file.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, preexec_fn=die_with_parent)
    try:
        yield PodWatch(file)
    finally:
        process.terminate()
        process.wait()


def _is_of(pod: dict[str, Any], dag_id: str, run_id: str) -> bool:
    annotations = pod["metadata"].get("annotations", {})
    return (annotations.get("dag_id"), annotations.get("run_id")) == (dag_id, run_id)


def _run_argument(pod: dict[str, Any]) -> str | None:
    words = pod["spec"]["containers"][0].get("args", [])
    return words[words.index("--run-id") + 1] if "--run-id" in words else None
