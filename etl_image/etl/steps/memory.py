"""Memory of this process: the longest row that fits, and returning freed memory to the system."""

import ctypes
import os
from contextlib import suppress
from pathlib import Path

# Memory of a step for ordinary rows, and the number of simultaneous copies of a long row, as measured by
# tests/bench/test_memory.py. In `extract` libpq holds the row, the driver the next one, Arrow the batch, Parquet three
# copies while it writes, and a file in a bucket one more; in `run` the sink's driver has three beside the first three.
# One is spare.
ORDINARY_BYTES = 250_000_000
COPIES = 8
_LEAST = 1_000_000
_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")
"""Limits of the container, in cgroup versions 2 and 1."""

# Options of glibc's mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGE_BYTES = 4 * 1024 * 1024
"""More than the buffers of an ordinary batch, which are reused."""


def give_memory_back() -> None:
    """Return freed memory to the system, in the whole process; to be called before anything is allocated."""
    # Arrow's own allocator keeps memory that one thread allocated and another freed; the system's returns it.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    # Otherwise glibc raises its threshold when a large block is freed, and keeps all blocks up to that size.
    with suppress(AttributeError, OSError):  # not glibc
        options = ctypes.CDLL(None).mallopt
        options(_MMAP_THRESHOLD, _LARGE_BYTES)
        options(_TRIM_THRESHOLD, 2 * _LARGE_BYTES)


def longest_row(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """The longest row, in bytes, that fits with its copies into the memory of the container, or of the machine."""
    return max(_LEAST, (_memory(cgroup) - ORDINARY_BYTES) // COPIES)


def _memory(cgroup: Path) -> int:
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    texts = [file.read_text().strip() for name in _LIMITS if (file := cgroup / name).is_file()]
    return min([machine, *(int(text) for text in texts if text.isdecimal())])  # "max" is no limit
