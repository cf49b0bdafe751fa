"""install-k3s.sh killed after any one step, and run again: the machine is as after an undisturbed run."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.doubles.bare_machine import CONFIG, PINNED, SCRIPT, BareMachine
from tests.doubles.firewalls import turn_on

# What changes a machine. After the step whose number is in $STOP_AT, all processes of the run are killed.
STEPS = (
    "chmod",
    "cp",
    "firewall-cmd",
    "install",
    "journalctl",
    "ln",
    "mkdir",
    "mktemp",
    "mv",
    "rm",
    "rmdir",
    "systemctl",
)
COUNTED = """#!/bin/sh
"{real}" "$@"
ended=$?
echo step >>"$STEPS"
if [ "$(wc -l <"$STEPS")" = "$STOP_AT" ]; then kill -KILL 0; fi
exit $ended
"""


def prepare(folder: Path) -> BareMachine:
    folder.mkdir()
    machine = BareMachine(folder)
    turn_on(machine, "firewalld")
    machine.run_service("systemd-logind")
    machine.write("etc/machine-id", "0123abcd\n")
    machine.double("journalctl", 'mkdir "$K3S_ROOT/var/log/journal/0123abcd" 2>/dev/null || true')
    machine.environment = {"HTTPS_PROXY": "http://proxy:3128"}
    (folder / "steps").mkdir()
    (folder / "steps" / "wc").symlink_to(str(shutil.which("wc")))
    for step in STEPS:
        (folder / "steps" / step).write_text(COUNTED.format(real=machine.bin / step))
        (folder / "steps" / step).chmod(0o755)
    return machine


def steps_of(machine: BareMachine, *options: str | Path, stop_at: int = 0) -> int:
    """The number of steps of a run that is killed after this one."""
    folder = machine.root.parent
    count = folder / "count"
    count.write_text("")
    path = f"{folder / 'steps'}:{machine.bin}"
    own = {"PATH": path, "K3S_ROOT": str(machine.root), "CALLS": str(machine.calls)}
    environment = {**machine.environment, **own, "STEPS": str(count), "STOP_AT": str(stop_at)}
    command = ["bash", str(SCRIPT), *map(str, options)]
    ended = subprocess.run(command, env=environment, start_new_session=True, capture_output=True, timeout=60)
    assert ended.returncode == (-9 if stop_at else 0), ended.stderr
    return len(count.read_text().splitlines())


def prepare_running(folder: Path, installed: Path) -> BareMachine:
    """A machine on which K3s runs, with settings that the next run changes."""
    machine = prepare(folder)
    shutil.rmtree(machine.root)
    shutil.copytree(installed, machine.root, symlinks=True)
    machine.environment = {"HTTPS_PROXY": "http://another:3128"}
    machine.write(CONFIG, "node-name: mine\n")
    return machine


@pytest.mark.parametrize("running", [False, True], ids=["new", "running"])
def test_a_run_that_was_killed_is_finished_by_the_next(tmp_path: Path, running: bool) -> None:
    first = prepare(tmp_path / "first")
    files = shutil.copytree(first.release / PINNED, tmp_path / "files")
    options = ("--from-files", files, "--open-firewall", "--overwrite-config")
    first.succeed(*options)

    def begin(name: str) -> BareMachine:
        return prepare_running(tmp_path / name, first.root) if running else prepare(tmp_path / name)

    whole = begin("whole")
    steps = steps_of(whole, *options)
    assert steps > 10
    for step in range(1, steps + 1):
        machine = begin(str(step))
        steps_of(machine, *options, stop_at=step)
        machine.succeed(*options)
        assert (machine.root / "run/version").stat().st_mtime_ns > newest(machine), f"not restarted, step {step}"
        assert machine.content() == whole.content(), f"killed after step {step} of {steps}"


def newest(machine: BareMachine) -> int:
    """The time of the last change of files that K3s reads at its start."""
    folders = [machine.root / name for name in ("etc/rancher", "etc/systemd", "usr", "var/lib/rancher")]
    return max(path.stat().st_mtime_ns for folder in folders for path in folder.rglob("*") if path.is_file())


def test_an_uninstallation_that_was_killed_is_finished_by_the_next(tmp_path: Path) -> None:
    options = ("--uninstall", "--delete-data")
    installed = prepare(tmp_path / "installed")
    installed.install("--open-firewall")
    whole = prepare_running(tmp_path / "whole", installed.root)
    steps = steps_of(whole, *options)
    for step in range(1, steps + 1):
        machine = prepare_running(tmp_path / str(step), installed.root)
        steps_of(machine, *options, stop_at=step)
        machine.succeed(*options)
        assert machine.content() == whole.content(), f"killed after step {step} of {steps}"
