"""install-k3s.sh --uninstall removes K3s, nothing else, and no data unless asked to."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.doubles.bare_machine import AGENT, CONFIG, IMAGES, UNIT, BareMachine


def test_uninstall_removes_what_was_installed_and_keeps_data(machine: BareMachine) -> None:
    before = machine.content()
    machine.install()
    machine.write("etc/rancher/k3s/k3s.yaml", "the administrator's")
    machine.write("run/k3s/containerd/socket", "")
    data = "var/lib/rancher/k3s/server/db/state.db"
    machine.write(data, "rows")
    said = machine.succeed("--uninstall")
    assert "is kept in /var/lib/rancher/k3s" in said
    kept = machine.content()
    assert set(kept) - set(before) == {data, f"var/lib/rancher/k3s/agent/images/{IMAGES}"}
    assert "systemctl disable --quiet --now k3s" in machine.calls_of("systemctl")
    assert "nothing to remove" in machine.succeed("--uninstall")
    assert machine.content() == kept
    machine.succeed("--uninstall", "--delete-data")
    machine.restart()
    assert machine.content() == before


def test_an_agent_leaves_no_token_behind(machine: BareMachine, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hunter2\n")
    before = machine.content()
    machine.install(*AGENT, tmp_path / "token")
    machine.succeed("--uninstall", "--delete-data")
    machine.restart()
    assert machine.content() == before


def test_what_was_changed_by_hand_outlives_uninstall(machine: BareMachine) -> None:
    machine.install()
    machine.write(CONFIG, "node-name: mine\n")
    (machine.root / "usr/local/bin/kubectl").unlink()
    machine.write("usr/local/bin/kubectl", "mine")
    machine.succeed("--uninstall")
    assert machine.read(CONFIG) == "node-name: mine\n"
    assert machine.read("usr/local/bin/kubectl") == "mine"


def test_only_containers_of_k3s_are_ended(machine: BareMachine) -> None:
    machine.install()
    shim = machine.root / "var/lib/rancher/k3s/data/abc/bin/containerd-shim-runc-v2"
    shim.parent.mkdir(parents=True)
    shutil.copy("/bin/bash", shim)
    other = shutil.copy("/bin/sleep", shim.with_name("other"))
    ended = subprocess.Popen([shim, "-c", "/bin/sleep 600 & echo $!; wait"], stdout=subprocess.PIPE, text=True)
    assert ended.stdout
    child = int(ended.stdout.readline())
    innocent: list[subprocess.Popen[bytes]] = [
        subprocess.Popen(["/bin/sleep", "600"]),
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", shim]),
        subprocess.Popen([shim, "600"], executable="/bin/sleep"),
        subprocess.Popen([other, "600"]),
    ]
    for process in [ended.pid, child, *(process.pid for process in innocent)]:
        (machine.root / f"proc/{process}").symlink_to(f"/proc/{process}")
    try:
        machine.succeed("--uninstall")
        assert ended.wait(timeout=5) == -9
        assert ended.stdout.read() == "", "its child, which held the same pipe, is gone too"
        assert not Path(f"/proc/{child}/exe").exists()
        assert [process.poll() for process in innocent] == [None] * 4
    finally:
        ended.kill()
        for left in innocent:
            left.kill()
            left.wait()


def test_only_mounts_and_interfaces_of_k3s_are_removed(machine: BareMachine) -> None:
    machine.install()
    ours = [
        "/run/k3s/containerd/rootfs",
        "/var/lib/kubelet/pods/1/volume",
        "/var/lib/kubelet/pods/1/volume/deep\\040er",
    ]
    others = ["/home", "/var/lib/rancher/k3s/storage", "/var/lib/kubelet"]
    machine.mount(*ours, *others)
    machine.write("sys/class/net/eth0/mtu", "1500")
    for interface in ("flannel.1", "cni0/brif/veth1"):
        machine.write(f"sys/class/net/{interface}/mtu", "1450")
    machine.succeed("--uninstall")
    unmounted = [call.removeprefix(f"umount {machine.root}") for call in machine.calls_of("umount")]
    assert unmounted == [path.replace("\\040", " ") for path in sorted(ours, reverse=True)]
    assert sorted(machine.calls_of("ip")) == [f"ip link delete {name}" for name in ("cni0", "flannel.1", "veth1")]


def test_a_volume_that_is_still_mounted_is_never_deleted(machine: BareMachine) -> None:
    machine.install()
    file = "var/lib/kubelet/pods/1/volume/orders.mdf"
    machine.write(file, "rows")
    machine.mount("/var/lib/kubelet/pods/1/volume")
    machine.double("umount", "exit 32")
    code, said = machine.run("--uninstall", "--delete-data")
    assert (code, "these are mounted there:\n/var/lib/kubelet/pods/1/volume\n" in said) == (1, True), said
    assert machine.read(file) == "rows"
    machine.mount()
    machine.succeed("--uninstall", "--delete-data")
    assert not (machine.root / file).exists()


@pytest.mark.parametrize("options", [(), ("--uninstall",), ("--uninstall", "--delete-data")])
def test_what_something_else_installed_is_left_alone(machine: BareMachine, options: tuple[str, ...]) -> None:
    machine.write(UNIT, "[Service]\nExecStart=/usr/local/bin/k3s server\n")
    machine.write("usr/local/bin/k3s", "another")
    before = machine.content()
    code, said = machine.run(*options)
    assert (code, "Something else installed K3s here" in said) == (1, True), said
    assert machine.content() == before
