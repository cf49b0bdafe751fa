"""Prometheus' and Alertmanager's own tools, of the versions that are deployed."""

import subprocess
from pathlib import Path

from tests.cluster.building.binaries import ALERTMANAGER, PROMETHEUS, build


def promtool(*arguments: str | Path) -> str:
    """Run promtool; returns its output. Raises AssertionError, with the output, if it fails."""
    return _call(build(PROMETHEUS) / "promtool", *arguments)


def amtool(*arguments: str | Path) -> str:
    """Run amtool; returns its output. Raises AssertionError, with the output, if it fails."""
    return _call(build(ALERTMANAGER) / "amtool", *arguments)


def _call(*command: str | Path) -> str:
    called = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert called.returncode == 0, called.stdout
    return called.stdout
