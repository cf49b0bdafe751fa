"""NetworkPolicies as rules of iptables, for the addresses that pods have now.

One chain says what a pod may send, one what it admits, as with the controller in K3s: what no rule lets through is
refused. A new connection is noted in a group of NFLOG with what became of it.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any

from tests.cluster import network
from tests.support.network_policies import DIRECTIONS, Member, Object, Rule, rules

CHAIN = "POLICIES"
HOOKS = ("INPUT", "FORWARD")
"""What pods send to the node itself, and what they send elsewhere or get; what the node sends is let through."""
NFLOG_GROUP = 1
PASSED, REFUSED = "passed", "refused"
_OWN, _FAR, _WAY = (dict(zip(DIRECTIONS, words, strict=True)) for words in (("-d", "-s"), ("-s", "-d"), ("in", "out")))


@dataclass(frozen=True)
class Pod:
    """A pod that has an address of its own."""

    address: str
    name: str
    """With its namespace."""
    app: str
    """What it is a pod of, as people call it."""
    member: Member


def pods_by_address(objects: Iterable[Object], namespaces: Mapping[str, Object]) -> dict[str, Pod]:
    """The pods that run. The address of one that has ended may be another's already; the node's is no pod's."""
    found = {}
    for item in objects:
        metadata, spec, status = item["metadata"], item["spec"], item.get("status", {})
        address, namespace = status.get("podIP"), namespaces.get(metadata["namespace"])
        if address and namespace and not spec.get("hostNetwork") and status["phase"] not in ("Succeeded", "Failed"):
            labels = metadata.get("labels") or {}
            app = labels.get("app.kubernetes.io/name") or labels.get("k8s-app") or metadata["name"]
            member = Member(metadata["namespace"], labels, namespace["metadata"].get("labels") or {})
            found[address] = Pod(address, f"{metadata['namespace']}/{metadata['name']}", app, member)
    return found


def chains(pods: Mapping[str, Pod], policies: Collection[Object]) -> dict[str, list[str]]:
    """The rules of each chain."""
    found = {CHAIN: [*_common()]}
    for pod in pods.values():
        for direction in DIRECTIONS:
            applied = rules(policies, pod.member, direction)
            if applied is not None:
                chain = f"{_WAY[direction]}-{pod.address}"
                found[chain] = [*_allowed(applied, direction, pods), _noted(REFUSED), "-j REJECT"]
                found[CHAIN].append(f"{_OWN[direction]} {pod.address} -j {chain}")
    found[CHAIN].append(_noted(PASSED))
    return found


def restore(new: Mapping[str, list[str]], old: Collection[str]) -> str:
    """What makes iptables-restore replace all chains by new ones, in one step."""
    lines = [
        "*filter",
        *(f":{chain} - [0:0]" for chain in {**dict.fromkeys(old), **new}),
        *(f"-A {chain} {rule}" for chain, found in new.items() for rule in found),
        *(f"-X {chain}" for chain in old if chain not in new),
        "COMMIT",
    ]
    return "\n".join([*lines, ""])


def _common() -> Iterator[str]:
    yield "-m conntrack --ctstate RELATED,ESTABLISHED -j RETURN"
    yield "-m addrtype --src-type LOCAL -j RETURN"
    # No pod: a Service for which there is none. kube-proxy refuses it.
    yield f"-d {network.SERVICES} -j RETURN"


def _noted(what: str) -> str:
    return f"-m conntrack --ctstate NEW -j NFLOG --nflog-group {NFLOG_GROUP} --nflog-prefix {what}"


def _allowed(applied: Iterable[Rule], direction: str, pods: Mapping[str, Pod]) -> Iterator[str]:
    for rule in applied:
        name = rule.policy["metadata"]["name"]
        for address, whose in _far_ends(rule, pods):
            for port in map(_port, rule.ports or ({},)):
                far = f"{_FAR[direction]} {address} " if address else ""
                yield f'{far}{port}-m comment --comment "{name}: {whose}" -j RETURN'


def _far_ends(rule: Rule, pods: Mapping[str, Pod]) -> Iterator[tuple[str, str]]:
    if not rule.peers:
        yield "", "anybody"
    for peer in rule.peers:
        if "ipBlock" in peer:
            yield from ((str(part), "outside") for part in _networks(peer["ipBlock"]))
        yield from ((pod.address, pod.app) for pod in pods.values() if rule.admits(peer, pod.member))


def _networks(block: Object) -> list[IPv4Network]:
    """A block without its exceptions."""
    parts = [IPv4Network(block["cidr"])]
    for exception in map(IPv4Network, block.get("except") or []):
        parts = [
            rest
            for part in parts
            for rest in (part.address_exclude(exception) if exception.subnet_of(part) else [part])
        ]
    return sorted(parts)


def _port(port: Mapping[str, Any]) -> str:
    """A port's match; a name is not looked up at the pods: no policy of ours has one."""
    if not port:
        return ""
    protocol = str(port.get("protocol", "TCP")).lower()
    if "port" not in port:
        return f"-p {protocol} "
    last = f":{port['endPort']}" if "endPort" in port else ""
    return f"-p {protocol} --dport {int(port['port'])}{last} "
