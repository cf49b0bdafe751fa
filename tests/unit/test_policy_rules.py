"""What the tests' cluster makes of NetworkPolicies, and of the packets that its rules note."""

import time
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.connections import Connection, ConnectionLog, read_connections
from tests.cluster.packet_log import Packet
from tests.cluster.policy_rules import CHAIN, Pod, chains, pods_by_address, restore

NAMESPACES = {
    name: {"metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}}} for name in ("here", "there")
}
DENY = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def pod(name: str, address: str, namespace: str = "here", phase: str = "Running", **spec: Any) -> dict[str, Any]:
    metadata = {"name": f"{name}-0", "namespace": namespace, "labels": {"app.kubernetes.io/name": name}}
    return {"metadata": metadata, "spec": spec, "status": {"podIP": address, "phase": phase}}


def policy(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "here"}, "spec": spec}


def labelled(name: str) -> dict[str, Any]:
    return {"podSelector": {"matchLabels": {"app.kubernetes.io/name": name}}}


@pytest.fixture
def pods() -> dict[str, Pod]:
    found = [
        pod("web", "10.42.0.2"),
        pod("data", "10.42.0.3"),
        pod("web", "10.42.0.4", namespace="there"),
        pod("ended", "10.42.0.5", phase="Succeeded"),
        pod("of-the-node", "10.99.0.2", hostNetwork=True),
    ]
    return pods_by_address(found, NAMESPACES)


def test_a_pod_that_ended_or_has_the_address_of_the_node_is_none(pods: dict[str, Pod]) -> None:
    assert set(pods) == {"10.42.0.2", "10.42.0.3", "10.42.0.4"}


def test_whom_no_policy_selects_is_let_through(pods: dict[str, Pod]) -> None:
    found = chains(pods, [policy("deny", DENY)])
    assert found.keys() == {CHAIN} | {f"{way}-10.42.0.{end}" for way in ("in", "out") for end in (2, 3)}


def test_what_no_rule_lets_through_is_noted_and_refused(pods: dict[str, Pod]) -> None:
    noted = "-m conntrack --ctstate NEW -j NFLOG --nflog-group 1 --nflog-prefix refused"
    assert chains(pods, [policy("deny", DENY)])["in-10.42.0.2"] == [noted, "-j REJECT"]


def test_a_rule_lets_through_pods_by_label_at_its_ports(pods: dict[str, Pod]) -> None:
    rule = {"from": [labelled("web")], "ports": [{"port": 1433}, {"port": 53, "protocol": "UDP"}]}
    allowed = chains(pods, [policy("data", {**labelled("data"), "ingress": [rule]})])["in-10.42.0.3"][:-2]
    # Of the same name in another namespace is somebody else.
    assert allowed == [
        '-s 10.42.0.2 -p tcp --dport 1433 -m comment --comment "data: web" -j RETURN',
        '-s 10.42.0.2 -p udp --dport 53 -m comment --comment "data: web" -j RETURN',
    ]


def test_a_namespace_may_be_named_too(pods: dict[str, Pod]) -> None:
    there = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "there"}}, **labelled("web")}
    spec = {**labelled("data"), "policyTypes": ["Egress"], "egress": [{"to": [there]}]}
    allowed = chains(pods, [policy("data", spec)])["out-10.42.0.3"][:-2]
    assert allowed == ['-d 10.42.0.4 -m comment --comment "data: web" -j RETURN']


def test_addresses_are_let_through_but_for_exceptions(pods: dict[str, Pod]) -> None:
    block = {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.64.0.0/10", "10.0.0.0/10"]}}
    spec = {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [block], "ports": [{"port": 443}]}]}
    allowed = chains(pods, [policy("outside", spec)])["out-10.42.0.2"][:-2]
    assert [rule.split()[1] for rule in allowed] == ["10.128.0.0/9"]


def test_rules_are_replaced_in_one_step_and_chains_of_nobody_removed(pods: dict[str, Pod]) -> None:
    lines = restore({CHAIN: ["-j one"], "one": ["-j REJECT"]}, [CHAIN, "two"]).splitlines()
    assert lines[0] == "*filter"
    assert {":POLICIES - [0:0]", ":one - [0:0]", ":two - [0:0]"} == set(lines[1:4])
    assert lines[4:] == ["-A POLICIES -j one", "-A one -j REJECT", "-X two", "COMMIT"]


def pass_seconds(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    later = time.monotonic() + seconds
    monkeypatch.setattr("time.monotonic", lambda: later)


def settled_log(tmp_path: Path, pods: dict[str, Pod], monkeypatch: pytest.MonkeyPatch) -> ConnectionLog:
    """One whose rules have known the pods for some time."""
    log = ConnectionLog(tmp_path / "connections")
    log.know(pods)
    pass_seconds(monkeypatch, 2)
    return log


def test_a_connection_is_written_once_and_a_refusal_always(
    tmp_path: Path, pods: dict[str, Pod], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = settled_log(tmp_path, pods, monkeypatch)
    passed, refused = (Packet(word, "10.42.0.2", "10.42.0.3", "TCP 1433") for word in ("passed", "refused"))
    for packet in (passed, passed, refused, refused):
        log.note(packet)
    log.note(Packet("passed", "10.42.0.2", "192.0.2.7", "TCP 5432"))
    log.write()
    told = Connection("web", "data", "TCP 1433", refused=False, settled=True, pods=("here/web-0", "here/data-0"))
    denied = Connection("web", "data", "TCP 1433", refused=True, settled=True, pods=("here/web-0", "here/data-0"))
    outside = Connection("web", "192.0.2.7", "TCP 5432", refused=False, settled=True, pods=("here/web-0", ""))
    assert read_connections(tmp_path / "connections") == [told, denied, denied, outside]


def test_a_pod_is_named_when_it_is_known_and_nothing_is_held_against_it_before(
    tmp_path: Path, pods: dict[str, Pod], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = ConnectionLog(tmp_path / "connections")
    log.know({"10.42.0.3": pods["10.42.0.3"]})
    log.note(Packet("refused", "10.42.0.2", "10.42.0.3", "TCP 1433"))
    log.write()
    assert read_connections(tmp_path / "connections") == []
    log.know(pods)
    log.write()
    (told,) = read_connections(tmp_path / "connections")
    assert (told.source, told.settled) == ("web", False)


def test_nothing_is_held_against_a_pod_that_is_gone_from_the_moment_its_rules_may_be_replaced(
    tmp_path: Path, pods: dict[str, Pod], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = settled_log(tmp_path, pods, monkeypatch)
    log.expect({address: pod for address, pod in pods.items() if pod.app != "data"})
    log.note(Packet("refused", "10.42.0.2", "10.42.0.3", "TCP 1433"))
    log.note(Packet("refused", "10.42.0.2", "10.42.0.4", "TCP 1433"))
    pass_seconds(monkeypatch, 11)
    log.write()
    assert [one.settled for one in read_connections(tmp_path / "connections")] == [False, True]


def test_an_address_that_stays_unknown_is_written_as_it_is(
    tmp_path: Path, pods: dict[str, Pod], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = settled_log(tmp_path, pods, monkeypatch)
    log.note(Packet("refused", "10.42.0.3", "10.42.0.9", "TCP 1433"))
    pass_seconds(monkeypatch, 11)
    log.write()
    (told,) = read_connections(tmp_path / "connections")
    assert (told.source, told.target, told.settled) == ("data", "10.42.0.9", False)
