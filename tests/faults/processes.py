"""The processes of a container, seen from the machine that the node runs on: signals, and too little memory.

A process is known by its cgroup, whose path holds the id of its container: no other process can be meant.
"""

import os
import signal
from contextlib import suppress
from pathlib import Path

_ROOMS = (64, 1024, 4096)
"""KiB left above what a container has: version 1 refuses a limit that cannot be reached by swapping out."""


def of_container(container: str) -> list[int]:
    """The processes of a container, none where it has ended."""
    return [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/cgroup") if container in _read(path)]


def kill(processes: list[int], number: signal.Signals) -> int:
    """Send a signal to processes; returns how many there still were."""
    reached = 0
    for process in processes:
        with suppress(ProcessLookupError):  # it went with the first one of its container
            os.kill(process, number)
            reached += 1
    return reached


def with_words(*words: str) -> list[int]:
    """The processes whose command line has each of these words in it."""
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
    """The limit of a container's memory, as the kernel has it: the kubelet would not go below what is in use."""

    def __init__(self, container: str) -> None:
        self._file = _limit_of(container)
        self._before = _read(self._file).strip() if self._file else ""

    def squeeze(self) -> bool:
        """Leave hardly more than what the processes hold, so that soon they ask for too much; whether that was done."""
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
        """Give back what there was, where the container is still there."""
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
