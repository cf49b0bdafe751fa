"""Runs commands: kubectl, image builders, the import into the node."""

import os
import shlex
import subprocess
import tempfile
from collections.abc import Collection, Mapping, Sequence
from typing import IO

from ops.cluster.console import Console, DeployError

PROGRESS_SECONDS = 15.0
"""The interval of progress lines of a long command."""
_TAIL_BYTES = 8000


def run(
    command: Sequence[str], *, stdin: str | None = None, timeout: float | None = None, hide: Collection[str] = ()
) -> str:
    """Run a command; returns standard output. Raises DeployError, with the texts in `hide` redacted."""
    try:
        done = subprocess.run(
            command, input=stdin or "", capture_output=True, text=True, errors="replace", timeout=timeout, check=False
        )
    except FileNotFoundError:
        raise DeployError(f"The command {command[0]} is not on PATH.") from None
    except subprocess.TimeoutExpired:
        raise DeployError(f"`{shlex.join(command)}` gave no answer within {timeout:.0f} s.") from None
    if done.returncode:
        output = done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}"
        raise failure(command, output, hide)
    return done.stdout


def failure(command: Sequence[str], output: str, hide: Collection[str] = ()) -> DeployError:
    """The error of a command that failed, with its last lines."""
    lines = "\n".join(output.splitlines()[-10:])
    for text in hide:
        lines = lines.replace(text, "***")
    return DeployError(f"`{shlex.join(command)}` failed: {lines}")


def run_on(command: Sequence[str], content: IO[bytes]) -> str | None:
    """Run a command with a file as standard input; returns its last line if it fails, else None."""
    done = subprocess.run(command, stdin=content, capture_output=True, text=True, errors="replace", check=False)
    lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return (lines[-1] if lines else f"exit code {done.returncode}") if done.returncode else None


def works(command: Sequence[str], timeout: float = 20) -> bool:
    """Whether a command succeeds."""
    try:
        run(command, timeout=timeout)
    except DeployError:
        return False
    return True


def output(command: Sequence[str], timeout: float = 20) -> str:
    """The standard output of a command, whatever its exit code; empty if it cannot be run."""
    try:
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def follow(console: Console, what: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
    """Run a long command: prints progress, and its output only if it fails."""
    console.say(f"{what} …")
    with tempfile.TemporaryFile() as output, _start(what, command, output, environment=environment) as process:
        code = _wait(console, process, output)
        if code:
            raise _failure(console, what, command, code, output)


def follow_pipe(console: Console, what: str, writer: Sequence[str], reader: Sequence[str]) -> None:
    """Run `writer | reader` as `follow` does."""
    console.say(f"{what} …")
    with (
        tempfile.TemporaryFile() as output,
        _start(what, writer, output, stdout=subprocess.PIPE) as first,
        _start(what, reader, output, stdin=first.stdout) as second,
    ):
        if first.stdout:
            first.stdout.close()  # so that the writer fails if the reader ends
        codes = _wait(console, second, output), _wait(console, first, output)
        for code, command in zip(codes, (reader, writer), strict=True):
            if code:
                raise _failure(console, what, command, code, output)


def _start(
    what: str,
    command: Sequence[str],
    output: IO[bytes],
    *,
    stdin: "int | IO[bytes] | None" = subprocess.DEVNULL,
    stdout: "int | IO[bytes] | None" = None,
    environment: Mapping[str, str] | None = None,
) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(
            command,
            stdin=stdin,
            stdout=output if stdout is None else stdout,
            stderr=output,
            env=os.environ | dict(environment or {}),
        )
    except FileNotFoundError:
        raise DeployError(f"{what}: the command {command[0]} is not on PATH.") from None


def _failure(console: Console, what: str, command: Sequence[str], code: int, output: IO[bytes]) -> DeployError:
    console.show("\n".join(_tail(output, 40)))
    return DeployError(f"{what} failed (`{shlex.join(command)}`, exit code {code}); its last lines are above.")


def _wait(console: Console, process: "subprocess.Popen[bytes]", output: IO[bytes]) -> int:
    while True:
        try:
            return process.wait(timeout=PROGRESS_SECONDS)
        except subprocess.TimeoutExpired:
            for line in _tail(output, 1):
                console.say(f"  … {line[:110]}")


def _tail(output: IO[bytes], lines: int) -> list[str]:
    """The last lines of a file that a command still writes; its position is not moved."""
    size = os.fstat(output.fileno()).st_size
    text = os.pread(output.fileno(), _TAIL_BYTES, max(0, size - _TAIL_BYTES)).decode(errors="replace")
    return [line.rstrip() for line in text.splitlines() if line.strip()][-lines:]
