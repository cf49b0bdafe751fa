"""Semantics of NetworkPolicies, as in networking.k8s.io/v1: the pods that they select, the traffic that they allow."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Object = Mapping[str, Any]
NAME_OF_NAMESPACE = "kubernetes.io/metadata.name"
"""The label that Kubernetes gives every namespace."""
_PEERS = {"Ingress": ("ingress", "from"), "Egress": ("egress", "to")}
DIRECTIONS = tuple(_PEERS)


@dataclass(frozen=True)
class Member:
    """A pod as policies see it."""

    namespace: str
    labels: Mapping[str, str]
    namespace_labels: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Rule:
    """A rule of a policy: its peers, and the target's ports. No peers or ports: all."""

    policy: Object
    peers: tuple[Object, ...]
    ports: tuple[Object, ...]

    def admits(self, peer: Object, member: Member) -> bool:
        """Whether a peer of this rule selects the pod. An ipBlock selects none: these are for outside addresses."""
        if "ipBlock" in peer:
            return False
        if "namespaceSelector" in peer:
            in_namespace = matches(peer["namespaceSelector"], member.namespace_labels)
        else:
            in_namespace = member.namespace == self.policy["metadata"]["namespace"]
        return in_namespace and matches(peer.get("podSelector") or {}, member.labels)


def rules(policies: Iterable[Object], member: Member, direction: str) -> list[Rule] | None:
    """The rules of all policies that select a pod; None if none does: all traffic is allowed."""
    selecting = [policy for policy in policies if _selects(policy, member, direction)]
    if not selecting:
        return None
    key, peers = _PEERS[direction]
    return [
        Rule(policy, tuple(rule.get(peers) or ()), tuple(rule.get("ports") or ()))
        for policy in selecting
        for rule in policy["spec"].get(key) or []
    ]


def matches(selector: Object, labels: Mapping[str, str]) -> bool:
    """Whether a label selector takes something with these labels. An empty one takes everything."""
    wanted = selector.get("matchLabels") or {}
    return wanted.items() <= labels.items() and all(
        _holds(expression, labels) for expression in selector.get("matchExpressions") or []
    )


def _selects(policy: Object, member: Member, direction: str) -> bool:
    spec = policy["spec"]
    # Default of policyTypes: Ingress, and Egress if there are egress rules.
    types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]
    return (
        direction in types
        and policy["metadata"]["namespace"] == member.namespace
        and matches(spec["podSelector"], member.labels)
    )


def _holds(expression: Object, labels: Mapping[str, str]) -> bool:
    key, values = expression["key"], expression.get("values") or []
    match expression["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case _:
            return key not in labels
