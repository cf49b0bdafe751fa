"""Errors of the cluster, as sentences."""

from pathlib import Path


class ClusterError(RuntimeError):
    """The cluster cannot be brought up here, or something in it ended."""


def end_of(log: Path, lines: int = 20) -> str:
    """The last lines of a log."""
    written = log.read_text(errors="replace") if log.exists() else ""
    return "\n".join(written.splitlines()[-lines:]) or "(nothing)"
