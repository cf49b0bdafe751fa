"""The memory of this process: how long a row it has room for, and giving back what long rows took."""

import ctypes
import os
from contextlib import suppress
from pathlib import Path

# What a step takes for ordinary rows, and how many copies of one long row there are at once (tests/bench/test_memory.py
# measures it). In `extract` libpq holds the row, the driver the next one, Arrow the batch, Parquet three copies while
# it writes, and a file in a bucket one more; in `run` the driver of the sink has three beside the first three. One to
# spare.
ORDINARY_BYTES = 250_000_000
COPIES = 8
_LEAST = 1_000_000
_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")
"""Of the container: cgroup version 2 and 1."""

# Options of glibc's mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGE_BYTES = 4 * 1024 * 1024
"""More than the buffers of an ordinary batch have, which are used again and again."""


def give_memory_back() -> None:
    """Let memory that is freed go back to the system, for the whole process; call it before anything is allocated."""
    # Arrow's own allocator keeps what one thread has allocated and another has freed; the system's gives it back.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    # Else glibc takes one large block that is freed as a sign to keep all of up to that size.
    with suppress(AttributeError, OSError):  # not glibc
        options = ctypes.CDLL(None).mallopt
        options(_MMAP_THRESHOLD, _LARGE_BYTES)
        options(_TRIM_THRESHOLD, 2 * _LARGE_BYTES)


def longest_row(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """The longest row, in bytes, that fits with its copies in the container's memory, or else in the machine's."""
    return max(_LEAST, (_memory(cgroup) - ORDINARY_BYTES) // COPIES)


def _memory(cgroup: Path) -> int:
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    texts = [file.read_text().strip() for name in _LIMITS if (file := cgroup / name).is_file()]
    return min([machine, *(int(text) for text in texts if text.isdecimal())])  # "max" is no limit
