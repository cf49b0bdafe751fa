"""The cluster: namespaces, nodes, DNS, network policies and quota."""

from collections.abc import Iterator

from ops.cluster.kubectl import NAMESPACE, NAMESPACES, SYSTEM
from ops.cluster.log_lines import shorten
from ops.cluster.objects import condition, is_true
from ops.cluster.policy_probe import DO
from ops.doctor.findings import Finding
from ops.doctor.snapshot import Snapshot, subject, subject_of

DNS = "dns"
_DNS_SERVICE = "kube-dns"
"""Its name, also of CoreDNS."""
_PRESSURES = {
    "DiskPressure": "disk",
    "MemoryPressure": "memory",
    "PIDPressure": "process ids",
}
TASK = {"pods": 2, "requests.cpu": 0.2, "requests.memory": 544 * 2**20}
"""Requests of one more task: its worker (k8s/base/airflow/worker) and its step (etl_airflow/pods/spec.py)."""
_UNITS = {"m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def namespace_missing(seen: Snapshot) -> Iterator[Finding]:
    """A missing namespace: nothing is deployed, or it is another cluster."""
    there = {item["metadata"]["name"]: item for item in seen.objects if item["kind"] == "Namespace"}
    for name in NAMESPACES if NAMESPACE in there else (NAMESPACE,):
        if name not in there:
            nothing = "what watches the pipelines is not deployed"
            if name == NAMESPACE:
                nothing = "nothing is deployed there, or it is not the cluster that you mean"
            yield Finding(
                f"namespace {name}",
                f"The cluster {f'at {seen.place} ' if seen.place else ''}has no namespace {name}: {nothing}.",
                "Run scripts/apply-all.sh; or name the right cluster with KUBECONFIG.",
                affects={f"namespace {one}" for one in NAMESPACES if NAMESPACE not in there},
            )
        elif there[name].get("status", {}).get("phase") == "Terminating":
            yield Finding(
                f"namespace {name}",
                f"The namespace {name} is being deleted.",
                f"Wait until `kubectl get namespace {name}` finds nothing, then run scripts/apply-all.sh.",
            )


def node_not_ready(seen: Snapshot) -> Iterator[Finding]:
    """A node that is not ready, or cordoned."""
    for node in seen.of_kind("Node"):
        name, ready = node["metadata"]["name"], condition(node, "Ready")
        if ready.get("status") != "True":
            since = f" since {ready['lastTransitionTime']}" if ready.get("lastTransitionTime") else ""
            yield Finding(
                subject_of(node),
                f"The node {name} is not ready{since}: {shorten(ready.get('message') or 'it gives no reason')}",
                f"On {name}: `systemctl status k3s` (k3s-agent on a node that only works), `journalctl --unit k3s"
                " --lines 50`; a machine that is off: switch it on.",
            )
        elif node["spec"].get("unschedulable"):
            yield Finding(
                subject_of(node),
                f"The node {name} takes no new pods: it was cordoned.",
                f"`kubectl uncordon {name}` when its maintenance is over.",
            )


def node_under_pressure(seen: Snapshot) -> Iterator[Finding]:
    """A node under pressure, which evicts pods and takes no new ones."""
    for node in seen.of_kind("Node"):
        name = node["metadata"]["name"]
        for kind, thing in _PRESSURES.items():
            if is_true(node, kind):
                yield Finding(
                    subject_of(node),
                    f"The node {name} is short of {thing} ({kind}): it ends pods and takes no new ones."
                    f" {shorten(condition(node, kind).get('message', ''))}".strip(),
                    "Free some: for disk `k3s crictl rmi --prune` and docs/runbooks/VolumeFilling.md, for memory"
                    f" `kubectl top pods --all-namespaces` and what else runs on {name}.",
                )


def dns_down(seen: Snapshot) -> Iterator[Finding]:
    """A DNS that does not answer, so that no pod finds a server by its name."""
    service = seen.find("Service", _DNS_SERVICE, SYSTEM)
    if service and not seen.ready_endpoints(_DNS_SERVICE, SYSTEM):
        reason = "none of its pods is ready"
    elif unanswered := [answer.message for answer in seen.answers.values() if answer.problem == DNS]:
        reason = f"a pod got no answer ({unanswered[0]})"
    else:
        return
    yield Finding(
        DNS,
        f"The cluster's DNS does not answer: {reason}.",
        "`kubectl --namespace kube-system get pods --selector k8s-app=kube-dns` and the log of CoreDNS there; `kubectl"
        " --namespace kube-system rollout restart deployment/coredns` starts it anew, scaled to 0 it needs `scale`.",
        explained_by={subject_of(node) for node in seen.of_kind("Node")},
    )


def policies_not_enforced(seen: Snapshot) -> Iterator[Finding]:
    """A node that does not enforce network policies."""
    for tried in seen.policies:
        if tried.opened:
            yield Finding(f"network policies on node {tried.node}", tried.what, DO)


def quota_met(seen: Snapshot) -> Iterator[Finding]:
    """A quota without room for another task."""
    for quota in seen.of_kind("ResourceQuota"):
        namespace = quota["metadata"]["namespace"]
        hard, used = (quota.get("status", {}).get(name) or {} for name in ("hard", "used"))
        need = TASK if namespace == NAMESPACE else {}
        full = [
            f"{name} {used[name]} of {hard[name]}"
            for name in hard
            if name in used and quantity(used[name]) + need.get(name, 0) > quantity(hard[name])
        ]
        if full:
            yield Finding(
                subject("ResourceQuota", quota["metadata"]["name"], namespace),
                f"The quota of {namespace} has no room for one more task: {', '.join(full)} are used.",
                f"See what takes it (`kubectl --namespace {namespace} get pods`), delete pods that are left over, or"
                " raise k8s/base/foundation/resource-quota.yaml and run scripts/apply-all.sh.",
            )


def quantity(text: str) -> float:
    """A quantity of Kubernetes as a number."""
    for unit in sorted(_UNITS, key=len, reverse=True):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * _UNITS[unit]
    return float(text)
