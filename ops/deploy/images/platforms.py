"""Platforms: architecture, memory page size and mount propagation of the nodes."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ops.cluster.images import is_local
from ops.cluster.nodes import Node
from ops.deploy.manifests.rendering import Rendering
from ops.deploy.options import PLATFORMS

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
_SQL_SERVER = "mssql/server"
"""Part of the name of Microsoft's image, also in a private registry."""
_PAGE_BYTES = 4096
_MOUNTS = Path("/proc/1/mountinfo")


def this_platform() -> str:
    """The platform of this machine, in the notation of images."""
    machine = os.uname().machine
    return f"linux/{_MACHINES.get(machine, machine)}"


def image_problems(images: Sequence[str], platform: str) -> Iterator[str]:
    """Images that do not exist for a platform."""
    if platform != PLATFORMS[0] and any(_SQL_SERVER in image for image in images):
        yield (
            f"Microsoft has no image of SQL Server for {platform}: load into a SQL Server elsewhere, with"
            " k8s/components/external-sink in an overlay of your own (docs/operations.md)."
        )


def node_problems(
    rendering: Rendering, data_node: Node | None, target: Node | None, images_are_for: str | None
) -> Iterator[str]:
    """Images that cannot run on their node. `target` is the node that gets the imported ones."""
    if data_node and data_node.architecture:
        yield from image_problems(rendering.images, f"linux/{data_node.architecture}")
    platform = f"linux/{target.architecture}" if target and target.architecture else images_are_for
    if target and platform != images_are_for and images_are_for and any(map(is_local, rendering.images)):
        yield (
            f"Node {target.name} is {platform}, and the images are for {images_are_for}: take a bundle that was made"
            f" with --platform {platform}."
        )


def page_warnings(rendering: Rendering, nodes: Sequence[Node]) -> Iterator[str]:
    """Nodes on which Fluent Bit's image exits: its memory pages are 4 KiB (fluent-bit#9730)."""
    if "fluent-bit" not in {item["metadata"]["name"] for item in rendering.of_kind("DaemonSet")}:
        return
    advice = "Fluent Bit's image ends at once, so that logs of containers would be missing; nothing else needs it"
    here = os.sysconf("SC_PAGE_SIZE")
    if here > _PAGE_BYTES and any(node.is_this_machine for node in nodes):
        yield (
            f"This machine's memory pages have {here} bytes, with which {advice}. A Raspberry Pi 5 has a kernel with"
            " pages of 4096: `kernel=kernel8.img` in /boot/firmware/config.txt."
        )
    unknown = [node.name for node in nodes if node.architecture == "arm64" and not node.is_this_machine]
    if unknown:
        yield (
            f"`getconf PAGE_SIZE` should say {_PAGE_BYTES} on {', '.join(unknown)}, which cannot be seen from here:"
            f" with larger pages {advice}."
        )


def root_is_shared() -> bool:
    """Whether `/` is a shared mount, whose submounts reach containers. In WSL2 it is not (microsoft/WSL#11715)."""
    try:
        lines = _MOUNTS.read_text().splitlines()
    except OSError:
        return True
    roots = [line.split(" - ")[0].split() for line in lines if line.split()[4:5] == ["/"]]
    return not roots or any(word.startswith(("shared:", "master:")) for word in roots[-1][6:])


def without_propagation(rendering: Rendering) -> list[str]:
    """Remove mount propagation of the node's `/`, without which containers do not start; returns the workloads."""
    changed = []
    for item in rendering.of_kind("DaemonSet"):
        pod = item["spec"]["template"]["spec"]
        roots = {volume["name"] for volume in pod.get("volumes") or [] if volume.get("hostPath", {}).get("path") == "/"}
        mounts = [mount for container in pod["containers"] for mount in container.get("volumeMounts") or []]
        passed_on = [mount for mount in mounts if mount["name"] in roots and "mountPropagation" in mount]
        for mount in passed_on:
            del mount["mountPropagation"]
        changed += [item["metadata"]["name"]] if passed_on else []
    return changed
