"""Supervises a cluster's namespaces: creates them, ends them with the process that started it, and cleans up.

It is a separate process, outside of the namespaces, so that this also happens when its parent is killed. A number on
stdin starts a further node; closing stdin ends the cluster. Stdout has the messages of `init`.
"""

import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from tests.cluster.errors import ClusterError
from tests.cluster.node import cgroups, network
from tests.cluster.node.configuration import Place
from tests.cluster.node.init import REPORTED

_LONGEST_END = 60
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_UNSHARE = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--")


def main(folder: Path, programs: str) -> None:
    """Keep the cluster in a folder until it ends or stdin is closed, then remove the folder."""
    # Orphans are reparented to this process and not to the machine's init, so it can wait for the last to end.
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    cgroup = cgroups.name_for(os.getpid())
    try:
        _remove_stale()
        cgroups.create(cgroup)
        _keep(folder, cgroup, programs)
    except ClusterError as error:
        _report(failed=str(error))
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        # If the kernel takes longer, the process that waits for this one must learn that something is left.
        signal.alarm(_LONGEST_END)
        _end_children()
        signal.alarm(0)
        clean_up(cgroup)
        # The parent may still read the logs.
        sys.stdin.read()
        remove_folder(folder)


def cgroup_of(cluster: str, place: Place) -> str:
    """The cgroup of a node in a cluster of that cgroup."""
    return f"{cluster}/{place.name}" if place.number else cluster


def clean_up(cgroup: str) -> None:
    """Remove leftovers of an ended cluster outside its namespaces and its folder."""
    network.remove(cgroup)
    cgroups.remove(cgroup)


def remove_folder(folder: Path, seconds: float = 20) -> None:
    """Remove a folder into which processes that are just being killed may still write."""
    deadline = time.monotonic() + seconds
    while folder.exists() and time.monotonic() < deadline:
        shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        raise ClusterError(f"{folder} could not be removed.")


def _remove_stale() -> None:
    """Remove leftovers of earlier clusters whose supervisor was killed together with its parent."""
    for name in filter(cgroups.is_stale, {*cgroups.names(), *network.owners().values()}):
        network.remove(name)
        # If pods are still ending, the next cluster does it.
        with suppress(ClusterError):
            cgroups.remove(name, seconds=0)


def _keep(folder: Path, cgroup: str, programs: str) -> None:
    first = _start_node(Place(folder), cgroup, Path("/proc/self/ns/net"), programs)
    nodes = [first]
    events = select.poll()
    events.register(sys.stdin, select.POLLIN)
    events.register(os.pidfd_open(first.pid), select.POLLIN)
    while sys.stdin.fileno() in (ended := dict(events.poll())) and (number := sys.stdin.readline()):
        place = Place(folder, int(number))
        for path in (place.folder, place.logs):
            path.mkdir()
        cgroups.create(cgroup_of(cgroup, place))
        nodes.append(_start_node(place, cgroup, Path(f"/proc/{first.pid}/ns/net"), programs))
    # `unshare` takes the first process in the namespaces with it, and the kernel all others.
    for node in nodes:
        node.kill()
    if first.wait() != REPORTED and sys.stdin.fileno() not in ended:
        _report(failed="The cluster's first process was killed.")


def _start_node(place: Place, cgroup: str, outside: Path, programs: str) -> "subprocess.Popen[bytes]":
    namespace, own = os.open(outside, os.O_RDONLY), cgroup_of(cgroup, place)
    command = [sys.executable, "-m", "tests.cluster.node.init", place.cluster, place.number, own, namespace, programs]
    node = subprocess.Popen(
        [*_UNSHARE, *map(str, command)], stdin=subprocess.PIPE,
        pass_fds=[namespace], preexec_fn=lambda: _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL),
    )  # fmt: skip
    os.close(namespace)
    _report(namespaces=node.pid)
    return node


def _end_children() -> None:
    """Wait for `unshare` and for the first process in its namespaces, which is the last to be gone."""
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return


def _report(**what: object) -> None:
    # The clean-up goes on when the parent has ended.
    with suppress(BrokenPipeError):
        print(json.dumps(what), flush=True)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
