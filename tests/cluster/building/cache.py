"""The cache of binaries and images between runs: each in a folder named after a hash of its inputs."""

import fcntl
import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path


def cache_folder() -> Path:
    """The folder of everything that is kept between runs. It may be deleted while no cluster is up."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "orders-to-sql-server" / "cluster"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def made(name: str, *decides: str, make: Callable[[Path], None]) -> Path:
    """The folder of an artifact, after `make` has filled it unless it exists.

    `decides` are all inputs of the content. `make` fills a temporary folder, so an existing folder is complete.
    """
    digest = hashlib.sha256("\0".join((name, *decides)).encode()).hexdigest()[:12]
    folder = cache_folder() / f"{name}-{digest}"
    if folder.exists():
        return folder
    # Tests run in several processes: one makes it, the others wait.
    with (cache_folder() / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            say(f"{name}: making it once, for this and all later runs")
            started = time.monotonic()
            _fill(folder, make)
            say(f"{name}: made in {time.monotonic() - started:.0f} s")
    return folder


def _fill(folder: Path, make: Callable[[Path], None]) -> None:
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
        content = Path(temporary) / "content"
        content.mkdir()
        make(content)
        content.rename(folder)


def say(message: str) -> None:
    """Print progress. On stderr: stdout is read by programs."""
    print(message, file=sys.stderr, flush=True)
