"""The nodes of a running cluster: import of images, reboot and loss."""

import os
import signal
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.errors import ClusterError
from tests.cluster.node import cgroups, network
from tests.cluster.node.configuration import Place


@dataclass(frozen=True)
class Node:
    """A node that runs."""

    place: Place
    cgroup: str
    """Below which its pods run."""
    namespaces: int
    """A process in its network and mounts."""
    ctr: Path

    @property
    def name(self) -> str:
        """Its name in the cluster."""
        return self.place.name

    @property
    def import_command(self) -> list[str]:
        """Takes the archive of an image as one more argument."""
        # On a busy machine the client's own 10 s were not enough.
        patient = ["--connect-timeout", "60s"]
        connect = [str(self.ctr), *patient, "--address", str(self.place.containerd_socket), "--namespace", "k8s.io"]
        # Half the work of the import in the daemon, which would also read existing layers again.
        return [*connect, "images", "import", "--local"]

    def import_images(self, archives: Iterable[Path]) -> None:
        """Import the archives of images. Raises ClusterError."""
        for archive in archives:
            imported = subprocess.run([*self.import_command, archive], capture_output=True, text=True, check=False)
            if imported.returncode:
                raise ClusterError(f"containerd does not take the image {archive}: {imported.stderr.strip()}")

    def restart(self) -> None:
        """Kill all its containers, and the kubelet, which is restarted: a reboot, as pods see it."""
        kubelet = _processes_with(f"--root-dir={self.place.folder}/kubelet")
        for process in (*kubelet, *cgroups.processes(self.cgroup)):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def lose(self) -> int:
        """Cut the node off and kill all its processes at once, as on a power failure: no other node is notified.

        Returns a file descriptor of its network, which lasts, and swallows what is sent to it, until that is closed.
        """
        namespace = os.open(f"/proc/{self.namespaces}/ns/net", os.O_RDONLY)
        network.unplug(namespace)
        os.kill(self.namespaces, signal.SIGKILL)
        return namespace


def _processes_with(word: str) -> list[int]:
    """The processes that have a word in their command line."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if word in (entry / "cmdline").read_text().split("\0"):
                found.append(int(entry.name))
    return found
