"""Resource usage of pods, from the kubelet."""

import json
from dataclasses import dataclass

from ops.cluster.kubectl import NAMESPACES
from tests.harness.e2e.deployment import Deployment


@dataclass(frozen=True)
class Usage:
    """Of one pod: seconds of CPU since it began, and the bytes of memory that it cannot do without."""

    cpu_seconds: float
    memory: int


def usage_of_pods(deployment: Deployment) -> dict[str, Usage]:
    """The pods of our namespaces, by name; one that has just started may be missing."""
    (node,) = deployment.objects("nodes")
    summary = f"/api/v1/nodes/{node['metadata']['name']}/proxy/stats/summary"
    return {
        pod["podRef"]["name"]: Usage(pod["cpu"]["usageCoreNanoSeconds"] / 1e9, pod["memory"]["workingSetBytes"])
        for pod in json.loads(deployment.kubectl("get", "--raw", summary))["pods"]
        if pod["podRef"]["namespace"] in NAMESPACES
        and "usageCoreNanoSeconds" in pod.get("cpu", {})
        and "workingSetBytes" in pod.get("memory", {})
    }
