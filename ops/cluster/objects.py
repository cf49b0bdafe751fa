"""Parts of Kubernetes objects: labels, conditions, containers, addresses."""

from collections.abc import Mapping
from typing import Any

from ops.cluster.kubectl import NAMESPACE, Object

RESTRICTED: Object = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
"""The security context of containers that commands start."""


def new(kind: str, name: str, namespace: str = NAMESPACE, metadata: Object | None = None, **content: Any) -> Object:
    """An object; `metadata` is added to its name and namespace."""
    identity = {"name": name, "namespace": namespace, **(metadata or {})}
    return {"apiVersion": "batch/v1" if kind == "Job" else "v1", "kind": kind, "metadata": identity, **content}


def secret_variable(name: str, secret: tuple[str, str], *, optional: bool = False) -> Object:
    """A variable of a container with the value of a Secret's key; `optional`: not set if there is no such key."""
    reference = {"name": secret[0], "key": secret[1]} | ({"optional": True} if optional else {})
    return {"name": name, "valueFrom": {"secretKeyRef": reference}}


def labels_of(item: Object) -> dict[str, str]:
    """The labels of an object."""
    return item["metadata"].get("labels") or {}


def condition(item: Object, kind: str) -> Object:
    """A condition of an object's status; empty if it has none of that type."""
    conditions: list[Object] = item.get("status", {}).get("conditions") or []
    return next((one for one in conditions if one["type"] == kind), {})


def is_true(item: Object, kind: str) -> bool:
    """Whether a condition of an object is True."""
    return condition(item, kind).get("status") == "True"


def container_statuses(pod: Object) -> list[Object]:
    """The container statuses of a pod; those of init containers come first and have `init`."""
    status = pod.get("status", {})
    first = [{**container, "init": True} for container in status.get("initContainerStatuses") or []]
    return first + list(status.get("containerStatuses") or [])


def is_starting(container: Object) -> bool:
    """Whether a container waits only because its pod has just been created."""
    waiting = container.get("state", {}).get("waiting")
    return waiting is not None and waiting.get("reason") in (None, "ContainerCreating", "PodInitializing")


def containers_of(pod: Mapping[str, Any]) -> list[Object]:
    """The containers in the specification of a pod, init containers first."""
    return [*(pod.get("initContainers") or []), *(pod.get("containers") or [])]


def images_of(pod: Mapping[str, Any]) -> list[str]:
    """The images in the specification of a pod."""
    return [container["image"] for container in containers_of(pod)]


def node_address(node: Object) -> str:
    """The internal address of a node; empty if it has none."""
    addresses = {one["type"]: one["address"] for one in reversed(node.get("status", {}).get("addresses") or [])}
    return str(addresses.get("InternalIP", ""))


def endpoint_addresses(item: Object) -> list[str]:
    """The addresses in an EndpointSlice."""
    return [address for endpoint in item.get("endpoints") or [] for address in endpoint["addresses"]]
