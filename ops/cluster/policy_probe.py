"""Tries whether the cluster enforces network policies: on each node a pod connects to what no policy lets it reach.

A cluster that ignores policies looks like one that enforces them; K3s stops enforcing them if ipset does not work. Only
its namespace's default policies select the pod: it may query the cluster's DNS and must reach nothing else, not even
another port of the same DNS pod. Reaching the DNS proves that its network works.
"""

import json
import secrets
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ops.cluster.console import DeployError
from ops.cluster.kubectl import NAMESPACE, Kubectl, Object
from ops.cluster.objects import RESTRICTED, container_statuses, is_starting, is_true, new

TIMEOUT_SECONDS = 12.0
"""How long a new pod may reach everything: policies apply to it after some seconds."""
_START_SECONDS = 15.0
_POLL_SECONDS = 0.5
LABELS = {"app.kubernetes.io/name": "policy-probe", "app.kubernetes.io/component": "doctor"}
SCRIPT = """
import json, socket, sys, time

def opens(place):
    host, _, port = place.rpartition(":")
    try:
        socket.create_connection((host, int(port)), 2).close()
    except OSError:
        return False
    return True

allowed, *forbidden = sys.argv[2:]
end = time.monotonic() + float(sys.argv[1])
while True:
    reached, opened = opens(allowed), [place for place in forbidden if opens(place)]
    if reached and not opened or time.monotonic() > end:
        break
    time.sleep(0.5)
print(json.dumps({"reached": reached, "opened": opened}))
"""


@dataclass(frozen=True)
class PolicyProbe:
    """The result on one node."""

    node: str
    opened: tuple[str, ...] = ()
    """Addresses that it reached against the policies."""
    reason: str = ""
    """Why there is no result."""

    @property
    def is_enforced(self) -> bool:
        """Whether the node enforces policies."""
        return not self.opened and not self.reason

    @property
    def what(self) -> str:
        """The problem as a sentence."""
        return (
            f"Network policies are not enforced on node {self.node}: a pod there reached {' and '.join(self.opened)},"
            " which no policy lets it. So every pod may talk to every other, and to the outside."
        )


DO = (
    "`kubectl get networkpolicies --all-namespaces` shows whether a policy of yours lets all pods of"
    f" {NAMESPACE} out. Else K3s runs without its policy controller: on the node `journalctl --unit k3s --grep 'network"
    " policy controller'` (k3s-agent on a node that only works) says `Skipping network policy controller start` where"
    " ipset does not work. `modprobe --all ip_set ip_set_hash_ip ip_set_hash_net xt_set br_netfilter` loads what the"
    " kernel has to have; /etc/rancher/k3s/config.yaml must not have disable-network-policy. Then restart K3s."
)


def probe_policies(kubectl: Kubectl, image: str) -> list[PolicyProbe]:
    """Run a pod on each ready node. Raises DeployError."""
    nodes = [item["metadata"]["name"] for item in kubectl.items("nodes") if is_true(item, "Ready")]
    places = _places(kubectl)
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda node: _try(kubectl, node, image, places), nodes))


def _places(kubectl: Kubectl) -> list[str]:
    """The address that a pod may connect to, then those it must not; servers listen at all of them."""
    pods = kubectl.items("pods", "--namespace", "kube-system", "--selector=k8s-app=kube-dns")
    ready = [pod for pod in pods if is_true(pod, "Ready")]
    if not ready:
        raise DeployError("No pod of the cluster's DNS is ready.")
    address = ready[0]["status"]["podIP"]
    # The ports of its probes are open, or it would not be ready.
    probed = [f"{address}:{port}" for container in ready[0]["spec"]["containers"] for port in _probed_ports(container)]
    service: Any = kubectl.get("service", "kubernetes", "--namespace", "default")
    api = [f"{service['spec']['clusterIP']}:{port['port']}" for port in service["spec"]["ports"]] if service else []
    return [f"{address}:53", *dict.fromkeys(probed), *api]


def _probed_ports(container: Object) -> Iterator[int]:
    named = {port["name"]: port["containerPort"] for port in container.get("ports") or [] if "name" in port}
    for probe in ("readinessProbe", "livenessProbe"):
        port = (container.get(probe) or {}).get("httpGet", {}).get("port")
        if port:
            yield named[port] if port in named else int(port)


def _try(kubectl: Kubectl, node: str, image: str, places: Sequence[str]) -> PolicyProbe:
    try:
        with kubectl.temporary_pod(_pod(node, image, places)) as name:
            result = json.loads(next((line for line in _await(kubectl, name).splitlines() if '"reached"' in line), ""))
    except (DeployError, ValueError) as error:
        return PolicyProbe(node, reason=f"the pod on node {node} gave no result: {error}")
    if not result["reached"]:
        return PolicyProbe(
            node, reason=f"a pod on node {node} reaches nothing, not even the cluster's DNS ({places[0]})."
        )
    return PolicyProbe(node, tuple(result["opened"]))


def _await(kubectl: Kubectl, name: str) -> str:
    """Wait for the pod; returns its log. Raises DeployError."""
    deadline = time.monotonic() + TIMEOUT_SECONDS + _START_SECONDS
    while time.monotonic() < deadline:
        pod: Any = kubectl.get("pod", name, "--namespace", NAMESPACE)
        if pod and pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            return kubectl.run("--namespace", NAMESPACE, "logs", name)
        for status in container_statuses(pod or {}):
            waiting = status.get("state", {}).get("waiting") or {}
            if waiting and not is_starting(status):
                raise DeployError(
                    f"it does not start: {waiting['reason']}, {waiting.get('message', 'no more is known')}."
                )
        time.sleep(_POLL_SECONDS)
    raise DeployError("it did not end in time.")


def _pod(node: str, image: str, places: Sequence[str]) -> Object:
    container = {
        "name": "probe",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["python3", "-c", SCRIPT, str(TIMEOUT_SECONDS), *places],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "64Mi"}},
        "securityContext": RESTRICTED,
    }
    user = {"runAsNonRoot": True, "runAsUser": 10001, "runAsGroup": 10001, "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {
        "nodeName": node,  # also a cordoned node
        "restartPolicy": "Never",
        "activeDeadlineSeconds": 60,  # in case it is not deleted
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": user,
        "containers": [container],
    }
    return new("Pod", f"policy-probe-{secrets.token_hex(3)}", metadata={"labels": LABELS}, spec=spec)
