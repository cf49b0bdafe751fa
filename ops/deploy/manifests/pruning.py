"""Pruning: deletes objects of an earlier overlay that the present one does not have.

Volumes, claims, Secrets and namespaces are never pruned.
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
    """Delete obsolete objects and wait until they are gone. Raises DeployError."""
    found = obsolete_objects(kubectl, rendering)
    if found:
        console.say(f"Removing what this overlay has not: {', '.join(map(name_of, found))}")
        kubectl.delete(found, timeout)


def obsolete_objects(kubectl: Kubectl, rendering: Rendering) -> list[Object]:
    """The deployment's objects that are not in the rendering, without those that another object owns."""
    planned = {_key(item) for item in rendering.objects}
    selector = f"--selector={PART_OF} in ({','.join(PARTS)})"
    live = kubectl.everywhere(",".join(_KINDS), selector)
    # Other deployments may use the same label; these objects begin with the namespace's name.
    shared = kubectl.items(",".join(_KINDS_OF_THE_CLUSTER), selector)
    live += [item for item in shared if item["metadata"]["name"].startswith(f"{NAMESPACE}-")]
    return [item for item in live if _key(item) not in planned and "ownerReferences" not in item["metadata"]]


def _key(item: Object) -> tuple[str, str | None]:
    return name_of(item), item["metadata"].get("namespace")
