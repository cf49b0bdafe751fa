"""Nodes: which of them is this machine, and which has the data."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ops.cluster.kubectl import Kubectl, Object
from ops.cluster.objects import condition, node_address

DATA_LABEL = "etl-poc/data"
IMAGE_IDS = "etl-poc/image-ids"
"""Annotation of a node: the IDs of the images imported there."""
_ARGUMENTS = "k3s.io/node-args"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_MOST_IMAGES = 50
"""The kubelet lists no more images than this in a node's status."""


@dataclass(frozen=True)
class Node:
    """A node of the cluster."""

    name: str
    address: str
    is_this_machine: bool
    is_control_plane: bool
    has_data: bool
    image_names: tuple[tuple[str, ...], ...] = ()
    """The names of each image."""
    images: frozenset[str] = frozenset()
    """All names of images."""
    names_all_images: bool = True
    image_ids: dict[str, str] = field(default_factory=dict)
    is_ready: bool = True
    is_schedulable: bool = True
    architecture: str = ""
    pod_networks: tuple[str, ...] = ()
    """Its networks of pods."""
    arguments: tuple[str, ...] = ()
    """The arguments of K3s."""

    def has(self, image: str, image_id: str) -> bool:
        """Whether this build of the image was imported and is still listed."""
        there = image in self.images or not self.names_all_images
        return there and self.image_ids.get(image) == image_id


def read_nodes(kubectl: Kubectl) -> list[Node]:
    """The nodes of the cluster."""
    # The kernel's boot id identifies this machine, whatever the node is named.
    boot_id = _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else "unknown"
    return [_node(item, boot_id) for item in kubectl.items("nodes")]


def choose_data_node(nodes: Sequence[Node]) -> Node | None:
    """The node that has, or will have, the volumes: one, for good. None if that cannot be decided."""
    labelled = [node for node in nodes if node.has_data]
    if len(labelled) > 1 or not nodes:
        return None
    candidates = labelled or [node for node in nodes if node.is_this_machine]
    return (candidates or sorted(nodes, key=lambda node: (not node.is_control_plane, node.name)))[0]


def data_node_problems(nodes: Sequence[Node]) -> Iterator[str]:
    """Why `choose_data_node` cannot decide."""
    labelled = [node for node in nodes if node.has_data]
    if len(labelled) > 1:
        yield (
            f"Nodes {', '.join(node.name for node in labelled)} all have the label {DATA_LABEL}=true, but the volumes"
            f" lie on one: take it from the others (`kubectl label node NAME {DATA_LABEL}-`)."
        )
    if not nodes:
        yield "The cluster has no node; see `systemctl status k3s`."


def _node(item: Object, boot_id: str) -> Node:
    metadata, status = item["metadata"], item["status"]
    labels, annotations = metadata.get("labels", {}), metadata.get("annotations", {})
    image_names = tuple(tuple(image.get("names") or ()) for image in status.get("images", []))
    return Node(
        name=metadata["name"],
        address=node_address(item),
        is_this_machine=status.get("nodeInfo", {}).get("bootID") == boot_id,
        is_control_plane="node-role.kubernetes.io/control-plane" in labels,
        has_data=labels.get(DATA_LABEL) == "true",
        image_names=image_names,
        images=frozenset(name for names in image_names for name in names),
        names_all_images=len(status.get("images", [])) < _MOST_IMAGES,
        image_ids=json.loads(annotations.get(IMAGE_IDS, "{}")),
        is_ready=condition(item, "Ready").get("status", "True") == "True",
        is_schedulable=not item.get("spec", {}).get("unschedulable", False),
        architecture=status.get("nodeInfo", {}).get("architecture", ""),
        pod_networks=tuple(item.get("spec", {}).get("podCIDRs") or ()),
        arguments=tuple(json.loads(annotations.get(_ARGUMENTS, "[]"))),
    )
