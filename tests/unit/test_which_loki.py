"""Nothing is built from Loki's source, and whatever was tried with a double of its API says so."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dev.sandbox.stack import ROOT
from tests.harness.e2e.record import write_figures

DOUBLE = "a double of its API, not Loki"


def test_no_go_module_of_the_tests_needs_loki() -> None:
    files = [*(ROOT / "tests" / "cluster" / "go").rglob("go.mod"), *(ROOT / "tests" / "cluster").rglob("*.py")]
    assert len(files) > 5
    assert not [file for file in files if re.search(r"grafana/loki\b", file.read_text())]


@pytest.mark.parametrize(
    ("given", "told"), [({}, DOUBLE), ({"LOKI_PROGRAM": "/opt/a-real-loki"}, "a-real-loki")], ids=["none", "a program"]
)
def test_the_head_of_a_test_run_says_which_loki_there_is(given: dict[str, str], told: str) -> None:
    """The first line is that of every run, the second that of a deployment's tests."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LOKI_", "OVERLAY"))}
    command = [sys.executable, "-m", "pytest", "--collect-only", "-p", "no:cacheprovider", "tests/e2e/test_network.py"]
    ran = subprocess.run(command, env={**environment, **given}, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    lines = [line for line in ran.stdout.splitlines() if line.startswith("Loki")]
    assert len(lines) == 2
    assert all(told in line for line in lines)


def test_the_record_of_the_acceptance_tests_says_which_loki_there_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOKI_PROGRAM", "OVERLAY"):
        monkeypatch.delenv(name, raising=False)
    write_figures(tmp_path / "record.md", [], 0)
    assert f"Loki in the cluster: {DOUBLE}." in (tmp_path / "record.md").read_text()
    monkeypatch.setenv("OVERLAY", "single-node")
    write_figures(tmp_path / "record.md", [], 0)
    assert "Loki in the cluster: its own image." in (tmp_path / "record.md").read_text()
