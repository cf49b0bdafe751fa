"""install-k3s.sh on a machine of folders, with doubles of systemd and of K3s: what is installed, and how often."""

import hashlib
import re
from pathlib import Path

import pytest
import yaml

from tests.doubles.bare_machine import AGENT, AGENT_UNIT, CONFIG, IMAGES, PINNED, ROOT, SCRIPT, SUMS, UNIT, BareMachine

MAJOR, MINOR, PATCH = PINNED.partition("+")[0].split(".")
NEWER = f"{MAJOR}.{MINOR}.{int(PATCH) + 1}+k3s1"


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


# --- what is installed


def test_installs_what_was_verified_and_starts_it(machine: BareMachine) -> None:
    with machine.mirror() as mirror:
        said = machine.succeed("--mirror", mirror)
    binary = machine.root / "usr/local/bin/k3s"
    assert binary.read_text() == (machine.release / PINNED / "k3s").read_text()
    assert mode(binary) == 0o755
    assert "ExecStart=/usr/local/bin/k3s server\n" in machine.read(UNIT)
    assert hashlib.sha256(binary.read_bytes()).hexdigest() in machine.read(UNIT)
    started = [call for call in machine.calls_of("systemctl") if "is-active" not in call]
    assert started == [
        "systemctl daemon-reload",
        "systemctl enable --quiet k3s",
        "systemctl restart --no-block k3s",
    ]
    assert f"K3s {PINNED} is ready" in said
    assert not list((machine.root / "var/lib").glob("install-k3s*")), "nothing is left of the download"


def test_a_binary_that_is_not_the_one_that_this_project_knows_is_refused_also_with_checksums_of_its_own(
    machine: BareMachine,
) -> None:
    released = hashlib.sha256((machine.release / PINNED / "k3s").read_bytes()).hexdigest()
    known = machine.write("sha256sums", f"# A comment.\n{NEWER} k3s {'0' * 64}\n{PINNED} k3s {'1' * 64}\n")
    with machine.mirror() as mirror:
        for options in (["--mirror", mirror], ["--from-files", machine.release / PINNED]):
            code, said = machine.run(*options)
            assert (code, f"k3s does not match {known}" in said) == (1, True), said
        assert not (machine.root / "usr/local/bin/k3s").exists()
        machine.write("sha256sums", f"{PINNED} k3s {released}\n")
        machine.succeed("--mirror", mirror)


def test_the_project_knows_the_binary_of_the_version_that_it_installs() -> None:
    known = (ROOT / "ops" / "k3s" / "sha256sums").read_text().splitlines()[1:]
    assert all(re.fullmatch(r"v[\d.]+\+k3s\d+ k3s\S* [0-9a-f]{64}", line) for line in known)
    assert any(line.startswith(f"{PINNED} k3s ") for line in known)


def test_kubeconfig_is_for_its_owner_only_and_secrets_are_encrypted(machine: BareMachine) -> None:
    machine.install()
    assert 'write-kubeconfig-mode: "0600"\n' in machine.read(CONFIG)
    assert "secrets-encryption: true\n" in machine.read(CONFIG)
    assert mode(machine.root / CONFIG) == 0o600


def test_a_server_writes_down_who_asked_the_kubernetes_api_for_what(machine: BareMachine) -> None:
    (machine.root / CONFIG).parent.mkdir(parents=True, exist_ok=True)
    (machine.root / CONFIG).write_text("kube-apiserver-arg: [v=1]\n")
    said = machine.install()
    assert "is kept" in said
    settings = yaml.safe_load(machine.read("etc/rancher/k3s/config.yaml.d/audit.yaml"))
    told = dict(argument.split("=", 1) for argument in settings["kube-apiserver-arg+"])
    assert told["audit-log-path"] == "/var/log/kubernetes/audit.log"
    assert int(told["audit-log-maxsize"]) * (int(told["audit-log-maxbackup"]) + 1) == 1100
    policy = machine.root / told["audit-policy-file"].lstrip("/")
    assert yaml.safe_load(policy.read_text())["rules"][-1] == {"level": "Metadata"}
    assert {mode(policy), mode(machine.root / "etc/rancher/k3s/config.yaml.d/audit.yaml")} == {0o600}


@pytest.mark.parametrize("file", ["k3s", IMAGES])
def test_a_wrong_checksum_installs_nothing(machine: BareMachine, file: str) -> None:
    before = machine.content()
    with (machine.release / PINNED / file).open("a") as changed:
        changed.write("# and more")
    code, said = machine.run("--from-files", machine.release / PINNED)
    assert code == 1
    assert f"{file} does not match {SUMS}" in said
    assert machine.content() == before


def test_a_download_with_a_wrong_checksum_installs_nothing(machine: BareMachine, tmp_path: Path) -> None:
    before = machine.content()
    sums = machine.release / PINNED / SUMS
    sums.write_text(f"{'0' * 64}  k3s\n{'0' * 64}  {IMAGES}\n")
    with machine.mirror() as mirror:
        code, said = machine.run("--mirror", mirror)
        assert (code, f"k3s does not match {SUMS}" in said) == (1, True), said
        assert machine.content() == before
        code, said = machine.run("--mirror", mirror, "--download-to", tmp_path / "files")
        assert (code, f"k3s does not match {SUMS}: deleted" in said) == (1, True), said
        assert not (tmp_path / "files" / "k3s").exists()
        sums.write_text(f"{'0' * 64}  k3s-arm64\n")
        code, said = machine.run("--mirror", mirror, "--download-to", tmp_path / "files")
    assert (code, f"k3s does not match {SUMS}" in said) == (1, True), said


def test_a_file_without_a_checksum_is_not_installed(machine: BareMachine) -> None:
    (machine.release / PINNED / SUMS).write_text(f"{'0' * 64}  k3s-arm64\n")
    code, said = machine.run("--from-files", machine.release / PINNED)
    assert (code, f"k3s does not match {SUMS}" in said) == (1, True), said
    assert not (machine.root / "usr").exists()


def test_files_of_another_version_are_refused(machine: BareMachine) -> None:
    code, said = machine.run("--from-files", machine.publish(NEWER))
    assert (code, f"k3s is {NEWER}, not {PINNED}" in said) == (1, True), said
    assert not (machine.root / "usr").exists()


def test_kubectl_is_linked_only_where_it_is_missing(machine: BareMachine) -> None:
    machine.double("kubectl", "")
    machine.install()
    link = machine.root / "usr/local/bin/kubectl"
    assert not link.is_symlink()
    (machine.bin / "kubectl").unlink()
    machine.install()
    assert link.readlink() == Path("k3s")


# --- again


def test_twice_is_once(machine: BareMachine) -> None:
    machine.install()
    machine.calls.write_text("")
    machine.listen(6443)
    before = machine.content()
    machine.double("curl", "exit 6")
    assert "there is nothing to do" in machine.succeed(), "the port is K3s' own"
    assert "there is nothing to do" in machine.install()
    assert machine.content() == before
    assert not [call for call in machine.calls_of("systemctl") if "is-active" not in call]


def test_what_was_stopped_is_started_again(machine: BareMachine) -> None:
    machine.install()
    (machine.root / "run/version").unlink()
    assert "is ready" in machine.install()


def test_an_upgrade_replaces_the_binary_and_restarts(machine: BareMachine) -> None:
    machine.install()
    machine.publish(NEWER)
    machine.calls.write_text("")
    with machine.mirror() as mirror:
        said = machine.succeed("--mirror", mirror, "--version", NEWER)
    assert f"K3s {NEWER} is ready" in said
    assert NEWER in machine.read("usr/local/bin/k3s")
    assert "systemctl restart --no-block k3s" in machine.calls_of("systemctl")
    assert f"served /{NEWER.replace('+', '%2B')}/k3s" in machine.calls.read_text()


def test_an_upgrade_that_was_interrupted_is_finished(machine: BareMachine) -> None:
    machine.install()
    machine.write("run/version", "v1.30.1+k3s1\n")
    assert "is ready" in machine.install()
    assert machine.read("run/version") == f"{PINNED}\n"


def test_a_binary_that_is_no_longer_what_was_verified_is_replaced(machine: BareMachine) -> None:
    machine.install()
    binary = machine.root / "usr/local/bin/k3s"
    binary.write_text(binary.read_text() + "# somebody else's\n")
    machine.install()
    assert "somebody else" not in binary.read_text()


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("v1.30.1+k3s1", "cannot go back to v1.30.1+k3s1"),
        ("v1.99.0+k3s1", f"must not skip v1.{int(MINOR) + 1} on its way to v1.99.0+k3s1"),
    ],
)
def test_a_version_that_kubernetes_cannot_move_to_is_refused(machine: BareMachine, version: str, said: str) -> None:
    machine.install()
    before = machine.content()
    code, output = machine.run("--version", version)
    assert (code, said in output) == (1, True), output
    assert machine.content() == before


def test_a_configuration_changed_by_hand_is_kept_until_told_otherwise(machine: BareMachine) -> None:
    machine.write(CONFIG, "node-name: mine\n")
    assert "is kept; --overwrite-config replaces it" in machine.install()
    assert machine.read(CONFIG) == "node-name: mine\n"
    assert f"K3s {PINNED} is ready" in machine.install("--overwrite-config"), "restarted, to take effect"
    assert "secrets-encryption: true" in machine.read(CONFIG)


# --- without internet, and more nodes


def test_air_gapped_needs_no_network(machine: BareMachine, tmp_path: Path) -> None:
    files = tmp_path / "files"
    machine.double("id", "echo 1000")
    with machine.mirror() as mirror:
        machine.succeed("--mirror", mirror, "--download-to", files)
        machine.calls.write_text("")
        machine.succeed("--mirror", mirror, "--download-to", files)
        assert [call.rpartition("/")[2] for call in machine.calls_of("served")] == [SUMS], (
            "what is there is not fetched again"
        )
    machine.double("id", "echo 0")
    machine.double("curl", "exit 6")
    machine.succeed("--from-files", files, script=files / "install-k3s" / SCRIPT.name)
    assert machine.read(f"var/lib/rancher/k3s/agent/images/{IMAGES}") == f"images of {PINNED}"
    assert machine.read("run/version") == f"{PINNED}\n"


def test_an_agent_keeps_its_token_out_of_sight(machine: BareMachine, tmp_path: Path) -> None:
    machine.note_every_call()
    secret = "K10aa::node:hunter2"
    (tmp_path / "token").write_text(secret + "\n")
    said = machine.install(*AGENT, tmp_path / "token")
    kept = machine.root / "etc/rancher/k3s/agent-token"
    assert kept.read_text() == secret + "\n"
    assert mode(kept) == 0o600
    command = "/usr/local/bin/k3s agent --server https://192.0.2.1:6443 --token-file /etc/rancher/k3s/agent-token\n"
    assert f"ExecStart={command}" in machine.read(AGENT_UNIT)
    assert secret not in machine.read(AGENT_UNIT) + said + machine.calls.read_text()
    assert "systemctl restart --no-block k3s-agent" in machine.calls_of("systemctl")


def test_a_machine_is_a_server_or_an_agent(machine: BareMachine, tmp_path: Path) -> None:
    machine.install()
    (tmp_path / "token").write_text("hunter2\n")
    code, said = machine.run(*AGENT, tmp_path / "token")
    assert (code, "runs k3s already" in said) == (1, True), said
    assert not (machine.root / AGENT_UNIT).exists()


# --- what is said


def check_dry_run(machine: BareMachine, told: str, *options: str | Path) -> None:
    before = machine.content()
    machine.calls.write_text("")
    machine.double("id", "echo 1000")
    machine.double("curl", "exit 6")
    assert told in machine.succeed("--dry-run", *options)
    assert machine.content() == before
    assert not machine.calls_of("curl")
    assert not [call for call in machine.calls_of("systemctl") if "is-active" not in call]


def test_dry_run_changes_nothing(machine: BareMachine) -> None:
    check_dry_run(machine, "Would start k3s.")
    check_dry_run(machine, "Would start k3s.", "--from-files", machine.release / PINNED)
    check_dry_run(machine, "Would download", "--download-to", machine.root / "files")
    machine.double("id", "echo 0")
    machine.install()
    check_dry_run(machine, f"Would install {NEWER} as /usr/local/bin/k3s.", "--version", NEWER)
    check_dry_run(machine, "nothing to do", "--from-files", machine.release / PINNED)
    check_dry_run(machine, "Would delete the cluster's data.", "--uninstall", "--delete-data")


def test_a_node_that_does_not_become_ready_is_an_error_that_says_where_to_look(machine: BareMachine) -> None:
    machine.write("run/ready", "False")
    code, said = machine.run("--from-files", machine.release / PINNED, "--timeout", "1")
    assert code == 1
    assert f"Wait for the node to be {PINNED} and Ready" in said
    assert f"not Ready after 1 seconds (it says: {PINNED} False)" in said
    assert "journalctl --unit k3s" in said
    (machine.root / "run/ready").unlink()
    assert "nothing to do" in machine.install()


def test_help_lists_every_option(machine: BareMachine) -> None:
    said = machine.succeed("--help")
    options = re.findall(r"^ *(--[a-z].*)\)", SCRIPT.read_text(), re.MULTILINE)
    named = re.findall(r"--[a-z-]+", " ".join(options))
    assert {"--version", "--dry-run", "--help"} <= set(named)
    assert [option for option in named if f"  {option} " not in said] == []
