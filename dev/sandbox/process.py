"""Helpers for processes, shared by tests and the demo."""

import ctypes
import errno
import os
import random
import signal
import socket
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """For `preexec_fn`: the kernel ends this child when its parent dies (prctl(2))."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def kill_session(leader: int) -> None:
    """Kill all processes of a session (setsid(2)), as the end of a container does.

    A signal to the leader's group does not reach a supervised task: Airflow gives it another group.
    """
    while found := _processes_of_session(leader):
        for process in found:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


def _processes_of_session(leader: int) -> list[int]:
    """Running processes of a session; zombies have ended."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended meanwhile
            state, _parent, _group, session = file.read_text().rpartition(")")[2].split()[:4]
            if int(session) == leader and state not in "ZX":
                found.append(int(file.parent.name))
    return found


def free_port(wanted: int = 0) -> int:
    """A TCP port on loopback that was free a moment ago: the wanted one or the next above it; 0: any."""
    # Any: below the ports that the kernel gives to connections, which could take it until a server listens.
    port = wanted or random.randrange(10_000, 30_000)
    with socket.socket() as probe:
        # As servers do: a connection that ended a moment ago keeps no port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        while True:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                port += 1
