"""The record of the last `make acceptance`: a table of every test with its outcome and duration, as Markdown."""

import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dev.sandbox.stack import ROOT
from tests.harness.e2e.images import loki_description

_OUTCOMES = ("passed", "failed", "error", "skipped")
_HEAD = """# Acceptance

Written by `make acceptance`: every test of a deployment on a real Kubernetes, with the double in place of SQL Server.
{loki}

{day}, at commit {commit}: {counts}, in {minutes}.

| test | outcome | seconds |
|---|---|---|
"""


def write_figures(file: Path, reports: Iterable[tuple[str, pytest.TestReport]], seconds: float) -> None:
    """Write the record; `reports` are pairs of an outcome and a phase of a test, in the order in which they ran.

    A test's seconds are those of its set-up, its call and its tear-down.
    """
    outcomes: dict[str, str] = {}
    durations: dict[str, float] = {}
    for outcome, report in reports:
        durations[report.nodeid] = durations.get(report.nodeid, 0.0) + report.duration
        if outcome in _OUTCOMES:
            outcomes[report.nodeid] = outcome
    found = list(outcomes.values())
    counts = ", ".join(f"{found.count(outcome)} {outcome}" for outcome in _OUTCOMES if outcome in found)
    rows = (
        f"| `{name.removeprefix('tests/e2e/').replace('|', '/')}` | {outcome} | {durations[name]:.1f} |"
        for name, outcome in outcomes.items()
    )
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    minutes = f"{seconds // 60:.0f}:{seconds % 60:02.0f} minutes"
    day, loki = datetime.now(UTC).date(), loki_description()
    head = _HEAD.format(day=day, loki=loki, commit=commit or "unknown", counts=counts, minutes=minutes)
    file.write_text(head + "\n".join(rows) + "\n")
