"""The processes of a container, from outside the node's namespaces: signals, and limits of memory.

A process is identified by its cgroup, whose path holds the id of its container: no other process can match.
"""

import os
import signal
from contextlib import suppress
from pathlib import Path

_ROOMS = (64, 1024, 4096)
"""KiB above a container's usage: version 1 refuses a limit that reclaim cannot reach."""


def of_container(container: str) -> list[int]:
    """The processes of a container; none if it has ended."""
    return [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/cgroup") if container in _read(path)]


def kill(processes: list[int], number: signal.Signals) -> int:
    """Send a signal to processes; returns the number of those that still ran."""
    reached = 0
    for process in processes:
        with suppress(ProcessLookupError):  # ended with the first process of its container
            os.kill(process, number)
            reached += 1
    return reached


def with_arguments(*words: str) -> list[int]:
    """The processes whose command line contains each of these words."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        line = _read(path).replace("\0", " ")
        if all(word in line for word in words):
            found.append(int(path.parent.name))
    return found


def started(process: int) -> str:
    """Start time of a process in the kernel's ticks; with its number that identifies it."""
    words = _read(Path("/proc", str(process), "stat")).rpartition(")")[2].split()
    return words[19] if len(words) > 19 else ""


class MemoryLimit:
    """A container's memory limit, set in its cgroup: the kubelet would not go below the usage."""

    def __init__(self, container: str) -> None:
        self._file = _limit_of(container)
        self._before = _read(self._file).strip() if self._file else ""

    def squeeze(self) -> bool:
        """Limit the memory to little more than the usage, so that new allocations exceed it; whether that was done."""
        if self._file is None:
            return False
        words = _read(self._file.with_name("memory.stat")).split()
        held = int(words[words.index("anon" if self._file.name == "memory.max" else "rss") + 1]) if words else 0
        for room in _ROOMS:
            with suppress(OSError):
                self._file.write_text(str(held // 4096 * 4096 + room * 1024))
                return True
        return False

    def restore(self) -> None:
        """Restore the limit, if the container still exists."""
        if self._file is not None:
            with suppress(OSError):
                self._file.write_text(self._before)


def _limit_of(container: str) -> Path | None:
    for process in of_container(container):
        for line in _read(Path("/proc", str(process), "cgroup")).splitlines():
            _, controllers, path = line.split(":", 2)
            for root, name in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
                file = Path(root, path.lstrip("/"), name)
                if controllers in ("memory", "") and file.exists():
                    return file
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
