"""The first process in a node's namespaces: prepares them, starts the components, and watches over them.

Started by `supervisor`. It ends when its stdin is closed, or when a component ends; with it the kernel ends all others
in the namespaces, and removes their mounts, interfaces and rules. A killed kubelet is restarted, as by the service
manager of a node: tests kill it.
"""

import http.client
import json
import os
import select
import signal
import socket
import ssl
import subprocess
import sys
import time
import traceback
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NoReturn

from tests.cluster.errors import ClusterError, end_of
from tests.cluster.node import network
from tests.cluster.node.configuration import Configuration, Place
from tests.cluster.node.control_plane import ControlPlane, server_url

REPORTED = 3
"""The exit status after a failure that was reported on stdout."""
_KERNEL_SETTINGS = {
    # The kubelet requires these, and would otherwise set them for the whole machine.
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}


class Components:
    """The running components, as children of this process."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._running: dict[int, tuple[str, list[str], subprocess.Popen[bytes]]] = {}
        # The end of a child must interrupt every wait.
        self._ended, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def start(self, name: str, command: list[str]) -> None:
        """Start a component; its output goes to a log file."""
        environment = os.environ | {"TMPDIR": str(self._place.cluster / "tmp")}
        with self._log(name).open("ab") as log:
            process = subprocess.Popen(
                command, cwd=self._place.folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._running[process.pid] = (name, command, process)

    def wait_until(self, name: str, ready: Callable[[], bool], seconds: float = 60) -> None:
        """Wait until a component is ready. Raises ClusterError if any component ends, or on a timeout."""
        deadline = time.monotonic() + seconds
        while not ready():
            self._wait(0.1)
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"{name} was not ready within {seconds:.0f} s; its log ends:\n{end_of(self._log(name))}"
                )

    def serve(self) -> None:
        """Watch the components until stdin is closed. Raises ClusterError if one ends before."""
        while True:
            self._wait(None)

    def _wait(self, seconds: float | None) -> None:
        """Wait for an event: the end of any child, or of the cluster (raises SystemExit)."""
        events, _, _ = select.select([sys.stdin, self._ended], [], [], seconds)
        if sys.stdin in events:
            raise SystemExit
        if self._ended in events:
            os.read(self._ended, 4096)
            self._reap()

    def _reap(self) -> None:
        """Reap all children that ended: components, and orphans of other processes."""
        while True:
            try:
                process, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if process == 0:
                return
            if process in self._running:
                name, command, _ = self._running.pop(process)
                code = os.waitstatus_to_exitcode(status)
                if name == "kubelet" and code == -signal.SIGKILL:
                    self.start(name, command)
                    continue
                raise ClusterError(f"{name} ended (exit status {code}); its log ends:\n{end_of(self._log(name))}")

    def _log(self, name: str) -> Path:
        return self._place.logs / f"{name}.log"


def main(place: Place, cgroup: str, outside: int, programs: dict[str, str]) -> None:
    """Run a node until its end; report on stdout when it is ready or what failed.

    `outside` is a network namespace: for the first node that of the machine, for a further one that of the first.
    """
    try:
        _prepare_mounts(place.folder)
        components = Components(place)
        # containerd finds its shim, and runc, by the PATH.
        os.environ["PATH"] = f"{Path(programs['containerd']).parent}:{os.environ['PATH']}:/usr/sbin:/sbin"
        if place.number:
            address, server = network.join(outside, place.number), network.Cable.read(place.cluster).node_address
        else:
            cable = network.connect(outside, cgroup)
            cable.write(place.cluster)
            address = server = cable.node_address
            _start(components, ControlPlane(place.cluster, server, programs).commands(), place, server)
        os.close(outside)
        _start(components, Configuration(place, server, address, cgroup, programs).commands(), place, server)
        _report(ready=True)
        components.serve()
    except ClusterError as error:
        _fail(str(error))
    except Exception:
        _fail(f"The first process of {place.name} failed:\n{traceback.format_exc()}")


def _start(components: Components, commands: Iterable[tuple[str, list[str]]], place: Place, server: str) -> None:
    """Start components one after the other, and wait for those that others need at once."""
    trusted = str(place.cluster / "certificates" / "ca.crt")
    readiness: dict[str, Callable[[], bool]] = {
        "etcd": lambda: _answers("http://127.0.0.1:2379/health"),
        "containerd": lambda: _accepts(place.containerd_socket),
        "apiserver": lambda: _answers(f"{server_url(server)}/readyz", trusted),
    }
    for name, command in commands:
        components.start(name, command)
        if ready := readiness.get(name):
            components.wait_until(name, ready)


def _answers(url: str, authority: str | None = None) -> bool:
    context = ssl.create_default_context(cafile=authority) if authority else None
    handlers = [urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)]
    try:
        with urllib.request.build_opener(*handlers).open(url, timeout=5) as response:
            return bool(response.status == http.client.OK)
    except (OSError, http.client.HTTPException):
        return False


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def _prepare_mounts(folder: Path) -> None:
    """Mount private folders for the components, so that they change nothing of the machine."""
    # Volumes that the kubelet mounts must show up in containers, here but not outside.
    _mount("--make-rshared", "/")
    _mount("-t", "tmpfs", "-o", "mode=0755", "run", "/run")
    _mount("-t", "tmpfs", "-o", "mode=0755", "logs", "/var/log")
    _shadow(Path("/var/lib"), folder / "var-lib")
    for name, value in _KERNEL_SETTINGS.items():
        file = folder / "kernel" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(value)
        _mount("--bind", str(file), f"/proc/sys/{name}")


def _shadow(original: Path, aside: Path) -> None:
    """Keep the content of a folder, but create new files in memory.

    The kubelet's sockets for devices and the results of CNI are in /var/lib, wherever everything else is.
    """
    aside.mkdir()
    _mount("--rbind", str(original), str(aside))
    _mount("-t", "tmpfs", "-o", "mode=0755", "shadow", str(original))
    for entry in sorted(aside.iterdir()):
        if entry.is_symlink():
            (original / entry.name).symlink_to(entry.readlink())
        elif entry.is_dir() and entry.name not in ("kubelet", "cni"):
            (original / entry.name).mkdir()
            _mount("--rbind", str(entry), str(original / entry.name))


def _mount(*arguments: str) -> None:
    ran = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if ran.returncode:
        raise ClusterError(f"The cluster's mounts could not be made: `mount {' '.join(arguments)}`: {ran.stderr}")


def _fail(reason: str) -> NoReturn:
    _report(failed=reason)
    sys.exit(REPORTED)


def _report(**what: object) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main(Place(Path(sys.argv[1]), int(sys.argv[2])), sys.argv[3], int(sys.argv[4]), json.loads(sys.argv[5]))
