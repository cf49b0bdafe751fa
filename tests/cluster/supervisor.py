"""The client side of the supervisor process."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dev.sandbox.process import die_with_parent
from tests.cluster.errors import ClusterError, end_of
from tests.cluster.node.cgroups import name_for
from tests.cluster.node.configuration import Place
from tests.cluster.node.supervisor import cgroup_of, clean_up, remove_folder
from tests.cluster.nodes import Node

_ROOT = Path(__file__).resolve().parents[2]


class Supervisor:
    """The supervisor process as a context manager: on exit the cluster has ended."""

    def __init__(self, folder: Path, programs: dict[str, Path], logs: Path | None) -> None:
        self._folder = folder
        self._logs = logs
        self._ctr = programs["ctr"]
        names = json.dumps({name: str(path) for name, path in programs.items()})
        with (folder / "logs" / "node.log").open("wb") as log:
            # In a new session: Ctrl-C is for the parent, which then ends it in order.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.cluster.node.supervisor", folder, names],
                cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                preexec_fn=die_with_parent, start_new_session=True, env=_without_proxies(),
            )  # fmt: skip

    def __enter__(self) -> "Supervisor":
        return self

    def first_node(self) -> Node:
        """The first node, once its components run. Raises ClusterError if one does not."""
        return self._started(Place(self._folder))

    def start_node(self, number: int) -> Node:
        """Start a further node. Raises ClusterError if one of its components does not run."""
        assert self._process.stdin
        self._process.stdin.write(f"{number}\n")
        self._process.stdin.flush()
        return self._started(Place(self._folder, number))

    def _started(self, place: Place) -> Node:
        namespaces = 0
        for message in self._messages():
            namespaces = message.get("namespaces", namespaces)
            if message.get("ready"):
                return Node(place, cgroup_of(name_for(self._process.pid), place), namespaces, self._ctr)
        raise ClusterError(f"The cluster ended before it was ready:\n{end_of(self._folder / 'logs' / 'node.log')}")

    def __exit__(self, *_: object) -> None:
        try:
            if self._logs:
                shutil.copytree(self._folder / "logs", self._logs, dirs_exist_ok=True)
        finally:
            self._end()

    def _end(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        try:
            for _ in self._messages():
                pass
        finally:
            killed = self._process.wait() != 0
            # All of this is done already, unless the supervisor was killed.
            clean_up(name_for(self._process.pid))
            remove_folder(self._folder)
        if killed:
            raise ClusterError("The supervisor of the cluster was killed.")

    def _messages(self) -> Iterator[dict[str, Any]]:
        assert self._process.stdout
        for line in self._process.stdout:
            message = json.loads(line)
            if "failed" in message:
                raise ClusterError(message["failed"])
            yield message


def _without_proxies() -> dict[str, str]:
    """The environment without proxies: components reach each other directly."""
    return {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
