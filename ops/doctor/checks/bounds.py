"""Limits of schedulers and workers: the admission policy for their pods, and access to the Kubernetes API."""

import ipaddress
from collections.abc import Iterator

from ops.cluster.kubectl import NAMESPACE
from ops.doctor.findings import Finding
from ops.doctor.snapshot import API, Snapshot, subject

_SCHEDULER = "airflow-scheduler"
_POLICY = "etl-poc-launched-pods"


def launchers_unbounded(seen: Snapshot) -> Iterator[Finding]:
    """A missing admission policy, without which a worker can create a pod that reads every Secret."""
    if not seen.find("Deployment", _SCHEDULER):
        return
    for kind in ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"):
        if not any(item["kind"] == kind and item["metadata"]["name"] == _POLICY for item in seen.objects):
            yield Finding(
                subject(kind, _POLICY),
                f"There is no {kind} {_POLICY}: a worker may make pods of any kind in {NAMESPACE}, and so read all of"
                " its Secrets.",
                "Run scripts/apply-all.sh, which applies it.",
            )


def kubernetes_api_elsewhere(seen: Snapshot) -> Iterator[Finding]:
    """An API server that the network policies do not allow: a node is new or has another address."""
    policy = seen.find("NetworkPolicy", _SCHEDULER) or {"spec": {}}
    rules = policy["spec"].get("egress") or []
    blocks = [peer["ipBlock"]["cidr"] for rule in rules for peer in rule.get("to") or [] if "ipBlock" in peer]
    beyond = [
        address
        for address in seen.ready_endpoints(*API)
        if blocks and not any(ipaddress.ip_address(address) in ipaddress.ip_network(block) for block in blocks)
    ]
    if beyond:
        yield Finding(
            subject("NetworkPolicy", _SCHEDULER, NAMESPACE),
            f"The Kubernetes API is at {', '.join(beyond)}, and the network policies let pods go to"
            f" {', '.join(blocks)}: the scheduler makes no workers there.",
            "Run scripts/apply-all.sh, which writes the addresses of the API's servers into the policies.",
        )
