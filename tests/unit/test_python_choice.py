"""The scripts that start Python find one that is new enough, whatever it is called, or say what to install."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.doubles.bare_machine import DISTRIBUTIONS

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = {"apply-all.sh": 1, "doctor.sh": 2, "restore.sh": 1}


class Machine:
    """A PATH with the tools that the scripts use, and the pythons that a test puts there."""

    def __init__(self, folder: Path) -> None:
        self.bin, self.root = folder / "bin", folder / "root"
        self.bin.mkdir()
        (self.root / "etc").mkdir(parents=True)
        for tool in ("bash", "dirname", "sed", "make", "mkdir"):
            (self.bin / tool).symlink_to(str(shutil.which(tool)))

    def python(self, name: str, *, works: bool) -> None:
        body = f'exec "{sys.executable}" "$@"' if works else "exit 1"
        (self.bin / name).write_text(f"#!/bin/sh\n{body}\n")
        (self.bin / name).chmod(0o755)

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": str(self.bin), "K3S_ROOT": str(self.root), "HOME": os.environ.get("HOME", "/")}
        return subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("name", ["python3.11", "python3.12", "python3.14"])
def test_a_newer_python_beside_an_old_python3_is_taken(machine: Machine, script: str, name: str) -> None:
    machine.python("python3", works=False)
    machine.python(name, works=True)
    helped = machine.run(ROOT / "scripts" / script, "--help")
    assert (helped.returncode, helped.stdout.startswith("usage: ")) == (0, True), helped.stderr


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize(
    ("distribution", "install"),
    [
        ("debian 12", "Install it: sudo apt-get install python3."),
        ("ubuntu 22.04", "Install it: sudo apt-get install python3.11."),
        ("rocky 9", "Install it: sudo dnf install python3.11."),
        ("rhel 10", "Install it: sudo dnf install python3."),
        ("fedora 42", "Install it: sudo dnf install python3."),
        ("leap 15", "Install it: sudo zypper install python311."),
        ("alpine", "Install it."),
    ],
)
def test_without_one_the_command_of_the_distribution_is_named(
    machine: Machine, script: str, distribution: str, install: str
) -> None:
    (machine.root / "etc/os-release").write_text(DISTRIBUTIONS[distribution])
    machine.python("python3", works=False)
    refused = machine.run(ROOT / "scripts" / script, "--help")
    assert refused.returncode == SCRIPTS[script]
    assert refused.stderr.startswith("Python 3.11 or later is needed as python3, or as python3.11 to python3.14.")
    assert refused.stderr.endswith(f" {install}\n")


def test_a_machine_that_nothing_describes_is_told_all_the_same(machine: Machine) -> None:
    refused = machine.run(ROOT / "scripts" / "apply-all.sh")
    assert (refused.returncode, refused.stderr.endswith("python3.14. Install it.\n")) == (1, True), refused.stderr


def test_make_takes_the_same(machine: Machine, tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    for folder in ("scripts", "ops/k3s"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    machine.python("python3", works=False)
    refused = machine.run("make", "--directory", tmp_path, ".uv/bin/uv")
    assert "Python 3.11 or later is needed" in refused.stderr
    (machine.bin / "python3.12").write_text('#!/bin/sh\n[ "$1" = -c ]\n')
    (machine.bin / "python3.12").chmod(0o755)
    refused = machine.run("make", "--directory", tmp_path, ".uv/bin/uv")
    assert "Install the venv module first (Debian: apt-get install python3.12-venv)." in refused.stderr
