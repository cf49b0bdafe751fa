"""install-k3s.sh with an active firewall: no installation that could not work, and no rule without consent."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.doubles.bare_machine import AGENT, PINNED, BareMachine
from tests.doubles.firewalls import turn_on

FIREWALLS = ("firewalld", "ufw")
PROGRAMS = ("firewall-cmd", "ufw")


def commands_in(said: str) -> list[str]:
    return [line for line in said.splitlines() if line.startswith(PROGRAMS) and "would keep" not in line]


def run_all(machine: BareMachine, commands: list[str]) -> None:
    environment = {**os.environ, "PATH": str(machine.bin), "K3S_ROOT": str(machine.root), "CALLS": str(machine.calls)}
    for command in commands:
        subprocess.run(["/bin/sh", "-c", command], env=environment, check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("firewall", FIREWALLS)
def test_the_commands_that_a_firewall_needs_are_printed_and_nothing_is_changed(
    machine: BareMachine, firewall: str
) -> None:
    turn_on(machine, firewall)
    before = machine.content()
    code, said = machine.run("--from-files", machine.release / PINNED)
    assert code == 1
    assert f"{firewall} would keep pods from the API server and from DNS.\n" in said
    assert "--open-firewall" in said
    assert machine.content() == before
    run_all(machine, commands_in(said))
    assert "is ready" in machine.install()


@pytest.mark.parametrize("firewall", FIREWALLS)
def test_open_firewall_runs_them_once(machine: BareMachine, firewall: str) -> None:
    turn_on(machine, firewall)
    assert "Let pods through the firewall." in machine.install("--open-firewall")
    after = machine.content()
    assert "nothing to do" in machine.install("--open-firewall")
    assert "nothing to do" in machine.install()
    assert machine.content() == after


@pytest.mark.parametrize("firewall", FIREWALLS)
def test_uninstall_prints_how_to_remove_its_rules(machine: BareMachine, firewall: str) -> None:
    turn_on(machine, firewall)
    before = machine.content()
    machine.install("--open-firewall")
    said = machine.succeed("--uninstall", "--delete-data")
    assert "The firewall still lets pods in." in said
    run_all(machine, commands_in(said))
    machine.restart()
    machine.run_service(firewall)
    assert machine.content() == before


def test_rules_that_hold_only_until_a_restart_are_not_enough(machine: BareMachine) -> None:
    turn_on(machine, "firewalld")
    machine.write("etc/firewalld.now", "10.42.0.0/16\n10.43.0.0/16\n")
    assert machine.run()[0] == 1


def test_an_agent_lets_its_server_in_too(machine: BareMachine, tmp_path: Path) -> None:
    turn_on(machine, "ufw")
    (tmp_path / "token").write_text("hunter2\n")
    _, said = machine.run(*AGENT, tmp_path / "token")
    assert commands_in(said)[-1] == "ufw allow from 192.0.2.1"


@pytest.mark.parametrize("firewall", FIREWALLS)
def test_a_firewall_that_is_off_is_left_alone(machine: BareMachine, firewall: str) -> None:
    turn_on(machine, firewall)
    if firewall == "firewalld":
        (machine.root / "run/active/firewalld").unlink()
    else:
        machine.write("etc/ufw/ufw.conf", "ENABLED=no\n")
    machine.install()
    assert not machine.calls_of("firewall-cmd") + machine.calls_of("ufw ")


def test_a_firewall_is_found_where_path_lacks_its_folder(machine: BareMachine) -> None:
    turn_on(machine, "firewalld")
    (machine.root / "usr/sbin").mkdir(parents=True)
    (machine.bin / "firewall-cmd").rename(machine.root / "usr/sbin/firewall-cmd")
    assert "firewalld would keep pods" in machine.run()[1]


def test_a_rule_that_the_firewall_refuses_is_an_error(machine: BareMachine) -> None:
    turn_on(machine, "ufw")
    machine.double("ufw", '[ "$1" = show ]')
    code, said = machine.run("--from-files", machine.release / PINNED, "--open-firewall")
    assert (code, "'ufw allow from 10.42.0.0/16' failed" in said) == (1, True), said
    assert not (machine.root / "usr").exists()


def test_dns_is_awaited_and_what_keeps_it_is_said(machine: BareMachine, tmp_path: Path) -> None:
    machine.write("run/dns", "False")
    code, said = machine.run("--from-files", machine.release / PINNED, "--timeout", "1")
    assert code == 1
    assert "Wait for the cluster's DNS (CoreDNS) to be Available" in said
    assert "The cluster's DNS (CoreDNS) is not Available after 1 seconds (it says: False)." in said
    assert "a firewall keeps pods from the API server" in said
    machine.write("etc/rancher/k3s/config.yaml.d/mine.yaml", "disable: [coredns]\n")
    machine.install()


def test_an_agent_waits_for_its_node_alone(machine: BareMachine, tmp_path: Path) -> None:
    machine.write("run/dns", "False")
    (tmp_path / "token").write_text("hunter2\n")
    machine.install(*AGENT, tmp_path / "token")
