"""Evidence after a failure: events, the state of every pod, and the logs, in one folder."""

import subprocess
from pathlib import Path

from ops.cluster import kubectl

NAMESPACES = (*kubectl.NAMESPACES, "kube-system")


def collect(folder: Path, environment: dict[str, str]) -> None:
    """Write the output of kubectl. Never fails: it is called after a failure."""
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "events.txt", environment, "get", "events", "--all-namespaces", "--sort-by=.lastTimestamp")
    _write(folder / "pods.txt", environment, "get", "pods", "--all-namespaces", "--output=wide")
    _write(folder / "nodes.txt", environment, "describe", "nodes")
    for namespace in NAMESPACES:
        scope = ("--namespace", namespace)
        _write(folder / f"{namespace}-pods.txt", environment, *scope, "describe", "pods")
        listed = _run(environment, *scope, "get", "pods", "--output=name")
        for pod in listed.split():
            name = f"{namespace}-{pod.removeprefix('pod/')}"
            flags = ("--all-containers", "--prefix", "--timestamps", "--tail=5000")
            _write(folder / f"{name}.log", environment, *scope, "logs", pod, *flags)
            previous = _run(environment, *scope, "logs", pod, *flags, "--previous")
            if previous and not previous.startswith("Error"):
                (folder / f"{name}.previous.log").write_text(previous)


def _write(file: Path, environment: dict[str, str], *arguments: str) -> None:
    file.write_text(_run(environment, *arguments))


def _run(environment: dict[str, str], *arguments: str) -> str:
    try:
        ran = subprocess.run(
            ["kubectl", "--request-timeout=20s", *arguments],
            env=environment, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"Error: {error}"
    return ran.stdout + ran.stderr
