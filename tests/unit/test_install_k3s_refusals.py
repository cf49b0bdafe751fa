"""install-k3s.sh refuses, with sentences, before it changes anything."""

from pathlib import Path

import pytest

from tests.doubles.bare_machine import AGENT, IMAGES, PINNED, SUMS, BareMachine


def break_machine(machine: BareMachine, how: str) -> None:
    match how:
        case "user":
            machine.double("id", "echo 1000")
        case "systemd":
            (machine.root / "run/systemd/system").rmdir()
        case "wsl":
            (machine.root / "run/systemd/system").rmdir()
            machine.write("proc/sys/kernel/osrelease", "6.6.87.2-microsoft-standard-WSL2\n")
        case "systemctl" | "curl":
            (machine.bin / how).unlink()
        case "arch":
            machine.double("uname", '[ "$1" = -s ] && echo Linux || echo riscv64')
        case "network":
            machine.double("curl", "echo 'curl: (6) Could not resolve host' >&2; exit 6")
        case "memory":
            machine.write("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io pids\n")
        case "cgroup":
            (machine.root / "sys/fs/cgroup/cgroup.controllers").unlink()
        case "selinux":
            machine.write("sys/fs/selinux/enforce", "1")
        case "8472":
            machine.listen(8472, "udp")
        case _:
            machine.listen(int(how))


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ("user", "Only root may do this: run it again with sudo."),
        ("systemd", "not started by systemd"),
        ("wsl", "[boot]\nsystemd=true\n"),
        ("systemctl", "not started by systemd"),
        ("curl", "curl is missing: install it, or use --from-files."),
        ("arch", "K3s is installed here on Linux for amd64 or arm64; this is Linux on riscv64."),
        ("network", "--from-files FOLDER here"),
        ("memory", "without the cgroup controller for memory"),
        ("cgroup", "needs cgroup v2"),
        ("selinux", "k3s-selinux"),
        *((port, f"ss -ltnp 'sport = :{port}'") for port in ("6443", "6444", "10010", "10248", "10249", "10250")),
        ("8472", "needs UDP port 8472, which something else has taken"),
        *((port, f"K3s needs TCP port {port}, which") for port in ("10256", "10257", "10258", "10259")),
    ],
)
def test_what_a_machine_lacks_is_said_in_a_sentence_before_anything_changes(
    machine: BareMachine, broken: str, told: str
) -> None:
    break_machine(machine, broken)
    before = machine.content()
    code, said = machine.run()
    assert (code, told in said) == (1, True), said
    assert machine.content() == before


@pytest.mark.parametrize("missing", ["k3s", SUMS, IMAGES])
def test_a_folder_that_lacks_a_file_is_said_to(machine: BareMachine, missing: str) -> None:
    (machine.release / PINNED / missing).unlink()
    code, said = machine.run("--from-files", machine.release / PINNED)
    assert (code, f"lacks {missing}; --download-to gets all that is needed" in said) == (1, True), said
    assert not (machine.root / "usr").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--quick",), "There is no option --quick."),
        (("--version",), "--version needs a value."),
        (("--version", "latest"), "latest is no version"),
        (("--mirror", "http://mirror.example/k3s"), "begins with https://"),
        (("--server", "http://192.0.2.1:6443", "--token-file", "x"), "begins with https://"),
        (("--server", "https://192.0.2.1:6443"), "--server and --token-file belong together."),
        (("--token-file", "x"), "--server and --token-file belong together."),
        (("--timeout", "soon"), "number of seconds"),
        (("--delete-data",), "--delete-data belongs to --uninstall."),
        (("--download-to", "x", "--uninstall"), "installs and removes nothing"),
    ],
)
def test_options_that_make_no_sense_are_refused(machine: BareMachine, options: tuple[str, ...], told: str) -> None:
    before = machine.content()
    code, said = machine.run(*options)
    assert (code, told in said) == (2, True), said
    assert machine.content() == before


@pytest.mark.parametrize("content", [None, "", "\n"])
def test_a_token_that_cannot_be_read_is_said_to(machine: BareMachine, tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "token").write_text(content)
    code, said = machine.run(*AGENT, tmp_path / "token")
    assert (code, "server's token" in said) == (1, True), said
    assert not (machine.root / "etc").exists()
