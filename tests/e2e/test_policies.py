"""Each kind of NetworkPolicy, tried: forbidden connections are refused, and succeed after its deletion."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from tests.cluster.traffic.connections import read_connections
from tests.harness.e2e.deployment import Deployment, wait_for
from tests.harness.e2e.probing import Target, reached, targets_of_the_cluster
from tests.harness.e2e.testbed import TestBed
from tests.harness.manifests.documents import OUTSIDE

pytestmark = pytest.mark.acceptance
HERE, THERE = "kinds-of-policies", "kinds-of-policies-beside"
IMAGE = "localhost/etl:0.1.0"
FIRST, SECOND = 8001, 8002
SERVES = f"""
import socket, threading
servers = [socket.create_server(("", port)) for port in ({FIRST}, {SECOND})]
for server in servers:
    threading.Thread(target=lambda server=server: [server.accept()[0].close() for _ in iter(int, 1)]).start()
"""
WAITS = "import time; time.sleep(3600)"
PODS = {"server": (HERE, SERVES), "friend": (HERE, WAITS), "other": (HERE, WAITS), "stranger": (THERE, WAITS)}


@dataclass(frozen=True)
class Kind:
    """A policy in the namespace of the server, a connection that it refuses, and one that it lets through."""

    spec: Mapping[str, Any]
    refused: tuple[str, str]
    """The source and target of a connection."""
    passes: tuple[str, str]


def one(name: str) -> dict[str, Any]:
    return {"podSelector": {"matchLabels": {"app.kubernetes.io/name": name}}}


def namespace(name: str) -> dict[str, Any]:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


EVERYWHERE = {"cidr": "0.0.0.0/0"}
KINDS = {
    "nothing comes in": Kind(
        {"podSelector": {}, "policyTypes": ["Ingress"]}, ("friend", "first"), ("stranger", "node")
    ),
    "nothing goes out": Kind(
        {"podSelector": {}, "policyTypes": ["Egress"]}, ("friend", "first"), ("stranger", "first")
    ),
    "in from one pod": Kind(
        {**one("server"), "ingress": [{"from": [one("friend")]}]}, ("other", "first"), ("friend", "first")
    ),
    "in from a namespace": Kind(
        {**one("server"), "ingress": [{"from": [namespace(HERE)]}]}, ("stranger", "first"), ("friend", "first")
    ),
    "in from a pod of a namespace": Kind(
        {**one("server"), "ingress": [{"from": [{**namespace(THERE), **one("stranger")}]}]},
        ("friend", "first"),
        ("stranger", "first"),
    ),
    "in at a port": Kind(
        {**one("server"), "ingress": [{"ports": [{"port": FIRST}]}]}, ("friend", "second"), ("friend", "first")
    ),
    "in at a range of ports": Kind(
        {**one("server"), "ingress": [{"ports": [{"port": 8000, "endPort": FIRST}]}]},
        ("friend", "second"),
        ("friend", "first"),
    ),
    "out to one pod": Kind(
        {**one("friend"), "policyTypes": ["Egress"], "egress": [{"to": [one("server")]}]},
        ("friend", "node"),
        ("friend", "first"),
    ),
    "out to one address": Kind(
        {**one("friend"), "policyTypes": ["Egress"], "egress": [{"to": [{"ipBlock": {"cidr": "NODE/32"}}]}]},
        ("friend", "first"),
        ("friend", "node"),
    ),
    "out to all addresses but for some": Kind(
        {
            **one("friend"),
            "policyTypes": ["Egress"],
            "egress": [{"to": [{"ipBlock": {**EVERYWHERE, "except": ["NODE/32"]}}]}],
        },
        ("friend", "node"),
        ("friend", "first"),
    ),
    "out to all addresses but for those of pods": Kind(
        {
            **one("friend"),
            "policyTypes": ["Egress"],
            "egress": [{"to": [{"ipBlock": {**EVERYWHERE, "except": ["10.42.0.0/16"]}}], "ports": [{"port": 6443}]}],
        },
        ("friend", "first"),
        ("friend", "node"),
    ),
}


@pytest.fixture(scope="module")
def targets(first_run: str, deployment: Deployment) -> Iterator[dict[str, Target]]:
    """Two ports of a pod, and the API server at the node; all pods are there."""
    for name in (HERE, THERE):
        deployment.apply({"kind": "Namespace", "metadata": {"name": name}})
    try:
        for name, (where, script) in PODS.items():
            labels = {"app.kubernetes.io/name": name}
            container = {"name": name, "image": IMAGE, "imagePullPolicy": "IfNotPresent"}
            spec = {
                "containers": [{**container, "command": ["python", "-c", script]}],
                "terminationGracePeriodSeconds": 0,
            }
            deployment.apply(
                {"kind": "Pod", "metadata": {"name": name, "namespace": where, "labels": labels}, "spec": spec}
            )
        for name, (where, _) in PODS.items():
            deployment.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=120s", namespace=where)
        server = json.loads(deployment.kubectl("get", "pod", "server", "--output=json", namespace=HERE))
        address = server["status"]["podIP"]
        api = next(target for target in targets_of_the_cluster(deployment) if target.name == OUTSIDE)
        yield {
            "first": Target("server", address, f"TCP {FIRST}"),
            "second": Target("server", address, f"TCP {SECOND}"),
            "node": api,
        }
    finally:
        for name in (HERE, THERE):
            deployment.kubectl("delete", "namespace", name, "--wait=false")


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_policy_does_not_let_through_is_refused(
    deployment: Deployment, targets: dict[str, Target], kind: str
) -> None:
    policy = KINDS[kind]

    def passes(way: tuple[str, str]) -> bool:
        pod, target = way
        return bool(reached(deployment, pod, [targets[target]], PODS[pod][0]))

    spec = json.loads(json.dumps(policy.spec).replace("NODE", targets["node"].address))
    wait_for("the connection before there is a policy", lambda: passes(policy.refused), seconds=30)
    deployment.apply(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "tried", "namespace": HERE},
            "spec": spec,
        }
    )
    try:
        wait_for("the policy to refuse the connection", lambda: not passes(policy.refused), seconds=30)
        wait_for("what the policy lets through", lambda: passes(policy.passes), seconds=30)
        assert not passes(policy.refused)
    finally:
        deployment.kubectl("delete", "networkpolicy", "tried", namespace=HERE)


def test_who_was_refused_has_been_noted_by_kube_router(
    deployment: Deployment, targets: dict[str, Target], bed: TestBed
) -> None:
    if bed.cluster is None:
        pytest.skip("Only a cluster of our own notes who talks to whom.")
    file = bed.cluster.connections

    def refused() -> set[str]:
        return {one.pods[0] for one in read_connections(file) if one.refused and one.pods[1] == f"{HERE}/server"}

    expected = {f"{HERE}/friend", f"{HERE}/other", f"{THERE}/stranger"}
    wait_for("the refusals to be written", lambda: expected <= refused(), seconds=30)
