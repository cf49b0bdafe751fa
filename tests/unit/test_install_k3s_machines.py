"""install-k3s.sh on machines as distributions ship them: what each lacks is printed as commands, or done."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.doubles.bare_machine import (
    AGENT,
    AGENT_UNIT,
    CONFIG,
    DISTRIBUTIONS,
    INOTIFY,
    PINNED,
    ROOT,
    SCRIPT,
    UNIT,
    BareMachine,
)

PROXY = Path("etc/systemd/system/k3s.service.env")
DROP_IN = "etc/rancher/k3s/config.yaml.d/50-selinux.yaml"


def refuse(machine: BareMachine) -> str:
    """Run it, and see that it refuses before it has changed anything."""
    before = machine.content()
    code, said = machine.run("--from-files", machine.release / PINNED)
    assert code == 1, said
    assert machine.content() == before
    return said


# --- a proxy


def test_a_proxy_is_passed_on_and_its_password_shown_nowhere(machine: BareMachine) -> None:
    machine.note_every_call()
    machine.environment = {"https_proxy": "http://me:hunter2@proxy:3128", "NO_PROXY": "10.0.0.0/8"}
    said = machine.install()
    assert (machine.root / PROXY).stat().st_mode & 0o777 == 0o600
    lines = machine.read(PROXY).splitlines()
    assert lines[1:] == [
        'HTTPS_PROXY="http://me:hunter2@proxy:3128"',
        'NO_PROXY="10.0.0.0/8,127.0.0.0/8,localhost,10.42.0.0/16,10.43.0.0/16,.svc,.cluster.local"',
    ]
    assert f"EnvironmentFile=-/{PROXY}\n" in machine.read(UNIT)
    assert "hunter2" not in said + machine.calls.read_text()


def test_a_proxy_outlives_a_run_that_sudo_gives_none(machine: BareMachine) -> None:
    machine.environment = {"HTTPS_PROXY": "http://proxy:3128"}
    machine.install()
    machine.environment = {}
    assert "nothing to do" in machine.install()
    machine.environment = {"HTTPS_PROXY": "http://another:3128"}
    assert "Start k3s." in machine.install(), "only then does K3s take it"
    assert "another" in machine.read(PROXY)
    machine.succeed("--uninstall")
    assert not (machine.root / PROXY).exists()


def test_a_proxy_of_containerd_alone_is_not_that_of_k3s(machine: BareMachine) -> None:
    machine.environment = {"CONTAINERD_HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "example.com"}
    machine.install()
    assert re.findall("^[A-Z_]+", machine.read(PROXY), re.MULTILINE) == [
        "CONTAINERD_HTTPS_PROXY",
        "CONTAINERD_NO_PROXY",
    ]


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://192.0.2.1:6443", "192.0.2.1"),
        ("https://k3s.example.com", "k3s.example.com"),
        ("https://[2001:db8::1]:6443/", "2001:db8::1"),
    ],
)
def test_an_agent_reaches_its_server_without_the_proxy(
    machine: BareMachine, tmp_path: Path, url: str, host: str
) -> None:
    (tmp_path / "token").write_text("hunter2\n")
    machine.environment = {"HTTP_PROXY": "http://proxy:3128"}
    machine.install("--server", url, "--token-file", tmp_path / "token")
    assert f',{host}"' in machine.read(f"{AGENT_UNIT}.env")


def test_a_proxy_is_written_so_that_systemd_reads_it_back(machine: BareMachine) -> None:
    machine.environment = {"HTTP_PROXY": r"""http://me:a"b\c$d`e'f#g@proxy"""}
    machine.install()
    written = machine.read(PROXY).splitlines()[1].removeprefix("HTTP_PROXY=")
    assert shlex.split(written.replace("\\$", "$").replace("\\`", "`")) == [machine.environment["HTTP_PROXY"]]


def test_a_proxy_of_two_lines_is_refused_unseen(machine: BareMachine) -> None:
    machine.environment = {"HTTP_PROXY": "http://hunter2\nEVIL=1"}
    said = refuse(machine)
    assert ("HTTP_PROXY has a line break" in said, "hunter2" in said) == (True, False), said


def test_without_a_proxy_there_is_no_such_file(machine: BareMachine) -> None:
    machine.environment = {"NO_PROXY": "example.com"}
    machine.install()
    assert not (machine.root / PROXY).exists()


# --- kubectl


@pytest.mark.parametrize("other", ["program", "link", "broken link"])
def test_what_is_at_the_place_of_kubectl_stays(machine: BareMachine, other: str) -> None:
    path = machine.root / "usr/local/bin/kubectl"
    path.parent.mkdir(parents=True)
    if other == "program":
        path.write_text("somebody's")
    else:
        path.symlink_to("/bin/true" if other == "link" else "/nowhere")
    before = path.lstat().st_ino
    machine.install()
    assert path.lstat().st_ino == before
    machine.succeed("--uninstall")
    assert path.lstat().st_ino == before


# --- SELinux


@pytest.mark.parametrize(
    ("distribution", "folder", "install"),
    [
        ("rocky 9", "yum.repos.d centos/9", "dnf install --assumeyes"),
        ("rhel 10", "yum.repos.d centos/10", "dnf install --assumeyes"),
        ("fedora 42", "yum.repos.d centos/8", "dnf install --assumeyes"),
        ("leap 15", "zypp/repos.d microos", "zypper install"),
    ],
)
def test_the_policy_of_selinux_is_missing(machine: BareMachine, distribution: str, folder: str, install: str) -> None:
    machine.write("etc/os-release", DISTRIBUTIONS[distribution])
    machine.write("sys/fs/selinux/enforce", "1")
    said = refuse(machine)
    repositories, path = folder.split()
    assert f"tee /etc/{repositories}/rancher-k3s-common.repo" in said
    assert f"baseurl=https://rpm.rancher.io/k3s/stable/common/{path}/noarch\n" in said
    assert f"\n{install} container-selinux k3s-selinux\n" in said
    assert "Without internet" in said


def test_no_package_is_named_where_there_is_none(machine: BareMachine) -> None:
    machine.write("etc/os-release", DISTRIBUTIONS["debian 12"])
    machine.write("sys/fs/selinux/enforce", "1")
    assert "no such package for this distribution" in refuse(machine)


def test_containers_are_confined_where_selinux_is_enforcing(machine: BareMachine, tmp_path: Path) -> None:
    machine.write("usr/share/selinux/packages/k3s.pp", "")
    machine.install()
    assert not (machine.root / DROP_IN).exists()
    machine.write("sys/fs/selinux/enforce", "1")
    assert "Start k3s." in machine.install()
    assert yaml.safe_load(machine.read(DROP_IN)) == {"selinux": True}
    machine.succeed("--uninstall")
    assert not (machine.root / DROP_IN).exists()
    (tmp_path / "token").write_text("hunter2\n")
    machine.install(*AGENT, tmp_path / "token")
    assert yaml.safe_load(machine.read(DROP_IN)) == {"selinux": True}


def test_a_download_says_what_else_selinux_needs(machine: BareMachine, tmp_path: Path) -> None:
    with machine.mirror() as mirror:
        said = machine.succeed("--mirror", mirror, "--download-to", tmp_path / "files")
    assert "container-selinux and k3s-selinux" in said


# --- the network


def test_without_a_default_route_the_commands_for_one_are_printed(machine: BareMachine) -> None:
    machine.route()
    assert "ip route add default via 203.0.113.255 dev dummy0 metric 1000\nThey last until" in refuse(machine)
    machine.run_service("NetworkManager")
    assert "nmcli connection add type dummy" in refuse(machine)
    machine.route("dummy0\t00000000\tFF7100CB\t0003\t0\t0\t1000\t00000000")
    machine.install()


def test_a_route_to_half_of_all_addresses_is_no_default_route(machine: BareMachine) -> None:
    machine.route("tun0\t00000000\t0108000A\t0003\t0\t0\t0\t00000080")
    assert "There is no default route" in refuse(machine)


def test_an_agent_leaves_the_ports_of_the_servers_own_parts_alone(machine: BareMachine, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hunter2\n")
    machine.listen(10257)
    machine.install(*AGENT, tmp_path / "token")


def test_settings_of_ones_own_are_never_touched(machine: BareMachine) -> None:
    mine = machine.write("etc/rancher/k3s/config.yaml.d/network.yaml", "node-ip: 192.0.2.7\nflannel-iface: eth1\n")
    before = mine.stat()
    machine.install()
    machine.install("--overwrite-config")
    machine.succeed("--uninstall", "--delete-data")
    assert mine.stat().st_mtime_ns == before.st_mtime_ns
    assert not (machine.root / CONFIG).exists()


# --- the kernel


@pytest.mark.parametrize(
    ("distribution", "command"),
    [
        ("ubuntu 24.04", "apt-get install linux-modules-extra-6.8"),
        ("rhel 10", "dnf install kernel-modules-extra-6.8"),
        ("leap 15", "zypper install kernel-default"),
        ("alpine", "install the package that has them"),
    ],
)
def test_modules_that_linux_lacks_are_named(machine: BareMachine, distribution: str, command: str) -> None:
    machine.write("etc/os-release", DISTRIBUTIONS[distribution])
    machine.double("uname", "case $1 in -s) echo Linux ;; -r) echo 6.8 ;; *) echo x86_64 ;; esac")
    machine.double("modprobe", "case $* in *vxlan|*xt_set) exit 1 ;; esac")
    machine.install()
    machine.succeed("--uninstall", "--delete-data")
    machine.write("lib/modules/6.8/modules.dep", "")
    assert f"(vxlan xt_set): {command}" in refuse(machine)


def test_limits_of_inotify_are_raised_for_good(machine: BareMachine) -> None:
    machine.install()
    kept = machine.read("etc/sysctl.d/90-k3s.conf")
    for name, limit in INOTIFY.items():
        raised = int(machine.read(name))
        assert raised >= 16 * limit
        assert f"{name.removeprefix('proc/sys/').replace('/', '.')} = {raised}\n" in kept
    machine.succeed("--uninstall")
    assert not (machine.root / "etc/sysctl.d/90-k3s.conf").exists()


def test_limits_that_are_higher_already_stay(machine: BareMachine) -> None:
    instances, watches = INOTIFY
    machine.write(instances, "8192\n")
    machine.write(watches, "1048576\n")
    machine.install()
    assert not (machine.root / "etc/sysctl.d/90-k3s.conf").exists()
    machine.write(instances, "128\n")
    machine.install()
    assert machine.read(watches) == "1048576\n"
    assert "max_user_watches = 1048576\n" in machine.read("etc/sysctl.d/90-k3s.conf")


# --- a shutdown


def test_pods_are_given_time_to_end_at_a_shutdown(machine: BareMachine) -> None:
    machine.run_service("systemd-logind")
    machine.install()
    kubelet = yaml.safe_load(machine.read("var/lib/rancher/k3s/agent/etc/kubelet.conf.d/50-shutdown.conf"))
    assert (kubelet["apiVersion"], kubelet["kind"]) == ("kubelet.config.k8s.io/v1beta1", "KubeletConfiguration")
    total, critical = (
        int(kubelet[name].removesuffix("s")) for name in ("shutdownGracePeriod", "shutdownGracePeriodCriticalPods")
    )
    texts = "".join(path.read_text() for path in (ROOT / "k8s").rglob("*.yaml"))
    longest = max(map(int, re.findall(r"terminationGracePeriodSeconds: (\d+)", texts)))
    assert total - critical >= longest >= 60
    (file,) = (machine.root / "etc/systemd/logind.conf.d").iterdir()
    assert f"[Login]\nInhibitDelayMaxSec={total}\n" in file.read_text()
    assert file.name > "unattended-upgrades-logind-maxdelay.conf" > "99-kubelet.conf"
    assert machine.calls_of("systemctl kill") == ["systemctl kill --signal=HUP systemd-logind"]


# --- the journal


def test_the_journal_is_kept_on_disk_where_fluent_bit_reads_it(machine: BareMachine) -> None:
    machine.write("etc/machine-id", "0123abcd\n")
    machine.double("systemd-tmpfiles", "")
    machine.double("journalctl", 'mkdir "$K3S_ROOT/var/log/journal/0123abcd"')
    machine.write("var/log/journal/.empty", "")
    machine.install()
    machine.install()
    assert machine.calls_of("journalctl") == ["journalctl --flush"]
    assert machine.calls_of("systemd-tmpfiles") == ["systemd-tmpfiles --create --prefix /var/log/journal"]


def test_a_journal_that_stays_in_memory_is_said_to(machine: BareMachine) -> None:
    machine.write("etc/machine-id", "0123abcd\n")
    machine.double("journalctl", "")
    assert "the node's own log will not be in Loki" in machine.install()


# --- certificates


@pytest.mark.parametrize(("days", "restarted"), [("80", True), ("200", False)])
def test_a_run_renews_certificates_that_end_soon(machine: BareMachine, days: str, restarted: bool) -> None:
    machine.install()
    (machine.bin / "openssl").symlink_to(str(shutil.which("openssl")))
    certificate = machine.root / "var/lib/rancher/k3s/agent/serving-kubelet.crt"
    make_certificate(certificate, days)
    machine.calls.write_text("")
    said = machine.install()
    assert ("systemctl restart --no-block k3s" in machine.calls_of("systemctl")) == restarted, said


def make_certificate(path: Path, days: str) -> None:
    key = path.with_suffix(".key")
    command = ["openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-days", days, "-subj", "/CN=node", "-keyout", str(key), "-out", str(path)]
    subprocess.run(command, check=True, capture_output=True)


# --- who runs it, and from where


def test_umask_does_not_matter(machine: BareMachine) -> None:
    wrapper = machine.root.parent / "strict.sh"
    wrapper.write_text(f'umask 077\nexec bash "{SCRIPT}" "$@"\n')
    machine.succeed("--from-files", machine.release / PINNED, script=wrapper)
    modes = {
        name: (machine.root / name).stat().st_mode & 0o777
        for name in ("usr/local/bin/k3s", "etc/sysctl.d/90-k3s.conf", str(UNIT), str(CONFIG), "etc/systemd/system")
    }
    assert list(modes.values()) == [0o755, 0o644, 0o644, 0o600, 0o755]


def test_names_may_have_spaces(tmp_path: Path) -> None:
    folder = tmp_path / "a folder; with $names"
    folder.mkdir()
    machine = BareMachine(folder)
    shutil.copytree(SCRIPT.parent, folder / "my scripts")
    script = folder / "my scripts" / SCRIPT.name
    with machine.mirror() as mirror:
        machine.succeed("--mirror", mirror, "--download-to", folder / "my files", script=script)
    machine.succeed("--from-files", folder / "my files", script=folder / "my files" / "install-k3s" / SCRIPT.name)
    machine.succeed("--uninstall", "--delete-data", script=script)
    assert not (machine.root / "usr/local/bin/k3s").exists()
