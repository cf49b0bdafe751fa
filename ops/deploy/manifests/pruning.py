"""What an earlier overlay had and the present one has not: it goes, so that the cluster is what the checkout says.

Volumes, claims, Secrets and namespaces are never among it.
"""

from ops.cluster.console import Console
from ops.cluster.kubectl import NAMESPACE, Kubectl, Object, name_of
from ops.cluster.names import PART_OF
from ops.deploy.manifests.rendering import PARTS, Rendering

_KINDS = (
    "deployments", "statefulsets", "daemonsets", "jobs", "cronjobs", "services", "endpointslices", "configmaps",
    "ingresses", "horizontalpodautoscalers", "poddisruptionbudgets", "networkpolicies", "serviceaccounts", "roles",
    "rolebindings",
)  # fmt: skip
_KINDS_OF_THE_CLUSTER = (
    "clusterroles", "clusterrolebindings", "validatingadmissionpolicies", "validatingadmissionpolicybindings",
)  # fmt: skip


def prune(console: Console, kubectl: Kubectl, rendering: Rendering, timeout: float) -> None:
    """Delete what is left over, and wait until it is gone. Raises DeployError."""
    found = leftovers(kubectl, rendering)
    if found:
        console.say(f"Removing what this overlay has not: {', '.join(map(name_of, found))}")
        kubectl.delete(found, timeout)


def leftovers(kubectl: Kubectl, rendering: Rendering) -> list[Object]:
    """The objects of the deployment that the rendering has not. What belongs to another object goes with that one."""
    planned = {_key(item) for item in rendering.objects}
    selector = f"--selector={PART_OF} in ({','.join(PARTS)})"
    live = kubectl.everywhere(",".join(_KINDS), selector)
    # Somebody else's may bear the same label; ours begin with our name.
    shared = kubectl.items(",".join(_KINDS_OF_THE_CLUSTER), selector)
    live += [item for item in shared if item["metadata"]["name"].startswith(f"{NAMESPACE}-")]
    return [item for item in live if _key(item) not in planned and "ownerReferences" not in item["metadata"]]


def _key(item: Object) -> tuple[str, str | None]:
    return name_of(item), item["metadata"].get("namespace")
