"""Servers of tests as processes."""

import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

import httpx

from dev.sandbox.process import die_with_parent
from dev.sandbox.waiting import came_true
from tests.cluster.errors import end_of

Process: TypeAlias = subprocess.Popen[bytes]


@contextmanager
def running(
    command: Sequence[str | Path],
    log: Path,
    is_up: Callable[[], object],
    seconds: float = 60,
    end: Callable[[Process], None] = subprocess.Popen.terminate,
    **options: Any,
) -> Iterator[Process]:
    """Run a server, wait until it is up, and end it with the block. Raises RuntimeError if it does not start."""
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, preexec_fn=die_with_parent, **options)

    def is_up_or_ended() -> bool:
        with suppress(OSError, httpx.HTTPError):
            if is_up():
                return True
        return process.poll() is not None

    try:
        if not came_true(is_up_or_ended, seconds, 0.1) or process.poll() is not None:
            raise RuntimeError(f"{Path(command[0]).name} did not start; its log ends:\n{end_of(log)}")
        yield process
    finally:
        end(process)
        process.wait()
