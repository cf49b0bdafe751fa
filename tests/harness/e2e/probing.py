"""The reachability of all possible targets, tried at once from inside a pod."""

import json
import subprocess
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from ops.cluster.kubectl import NAMESPACE, NAMESPACES
from tests.harness.e2e.deployment import Deployment
from tests.harness.manifests.documents import OUTSIDE

NAME = "app.kubernetes.io/name"
NAMES = "kube-dns"
TRIES = "trying"
"""With it begin the names of the pods from which something is tried."""
_SCRIPT = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor
def connects(target):
    try:
        socket.create_connection((target[1], int(target[2].split()[1])), timeout=3).close()
    except OSError:
        return False
    return True
def takes_datagrams(target):
    # The kernel says no once a second at most, and to connections as well.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect((target[1], int(target[2].split()[1])))
        client.settimeout(1)
        for _ in range(4):
            try:
                client.send(b"")
                client.recv(1)
            except TimeoutError:
                continue
            except OSError:
                return False
        return True
targets = json.load(sys.stdin)
found = [target for target in targets if "UDP" in target[2] and takes_datagrams(target)]
streams = [target for target in targets if "TCP" in target[2]]
with ThreadPoolExecutor(64) as pool:
    found += [target for target, reached in zip(streams, pool.map(connects, streams)) if reached]
json.dump(found, sys.stdout)
"""


@dataclass(frozen=True, order=True)
class Target:
    """A port of something, in the words of the table."""

    name: str
    address: str
    port: str
    """As in `TCP 5432`."""


def targets_of_pods(deployment: Deployment) -> Iterator[Target]:
    """Every port of every pod of the deployment that runs and is not on its way out, as after a change."""
    for namespace in NAMESPACES:
        listed = json.loads(deployment.kubectl("get", "pods", "--output=json", namespace=namespace))["items"]
        for pod in listed:
            name = pod["metadata"].get("labels", {}).get(NAME)
            ports = [port for one in pod["spec"]["containers"] for port in one.get("ports", [])]
            if name and pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"]:
                for port in ports:
                    yield Target(name, pod["status"]["podIP"], f"{port.get('protocol', 'TCP')} {port['containerPort']}")


def targets_of_the_cluster(deployment: Deployment) -> Iterator[Target]:
    """The Kubernetes API behind its Service, a kubelet, and DNS."""
    listed = deployment.kubectl(
        *("get", "endpointslices", "--selector=kubernetes.io/service-name=kubernetes", "--output=json"),
        namespace="default",
    )
    (slices,) = json.loads(listed)["items"]
    yield Target(OUTSIDE, slices["endpoints"][0]["addresses"][0], f"TCP {slices['ports'][0]['port']}")
    (node, *_) = json.loads(deployment.kubectl("get", "nodes", "--output=json"))["items"]
    addresses = {each["type"]: each["address"] for each in node["status"]["addresses"]}
    yield Target(OUTSIDE, addresses["InternalIP"], "TCP 10250")
    names = deployment.kubectl("get", "service", "kube-dns", "--output=json", namespace="kube-system")
    yield Target(NAMES, json.loads(names)["spec"]["clusterIP"], "TCP 53")


def reached(deployment: Deployment, pod: str, targets: Collection[Target], namespace: str = NAMESPACE) -> set[Target]:
    """The targets that the pod reaches now. A datagram counts as delivered unless it is refused."""
    command = ["kubectl", "--namespace", namespace, "exec", "--stdin", pod, "--", "python", "-c", _SCRIPT]
    asked = json.dumps([(each.name, each.address, each.port) for each in targets])
    ran = subprocess.run(
        command, env=deployment.environment, input=asked, capture_output=True, text=True, check=False, timeout=60
    )
    assert ran.returncode == 0, f"Nothing could be tried from {pod}: {ran.stderr}"
    return {Target(*each) for each in json.loads(ran.stdout)}
