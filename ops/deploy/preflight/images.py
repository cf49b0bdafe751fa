"""Problems of images and platforms: whether images reach the nodes and run there."""

import os
import shutil
from collections.abc import Iterator

from ops.cluster.images import is_local
from ops.deploy.images.bundle import Bundle
from ops.deploy.images.platforms import node_problems, page_warnings, this_platform
from ops.deploy.options import Options
from ops.deploy.preflight.plan import Plan


def image_problems(options: Options, plan: Plan, bundle: Bundle | None) -> Iterator[str]:
    """Images that are missing, cannot be imported, or are for another platform."""
    if bundle:
        lacking = [image for image in plan.rendering.images if is_local(image) and image not in bundle.images]
        if lacking:
            yield f"The bundle lacks {', '.join(lacking)}, which the overlay needs: make it with the same --overlay."
    if options.import_command:
        yield from _import_problems(options, plan)
    imported = bundle.platform if bundle else this_platform() if options.import_command else None
    yield from node_problems(plan.rendering, plan.data_node, plan.this_node, imported)


def image_warnings(options: Options, plan: Plan, bundle: Bundle | None) -> Iterator[str]:
    """Limitations of images on their nodes, and nodes that lack images."""
    yield from page_warnings(plan.rendering, plan.nodes)
    for name in plan.unpropagated:
        yield (
            f"`/` is not a shared mount here, as in WSL2, so {name} does not see disks that are mounted later until"
            " it is restarted; `mount --make-rshared /` before K3s starts changes that."
        )
    if options.import_command:
        yield from _other_nodes(plan, bundle)


def _import_problems(options: Options, plan: Plan) -> Iterator[str]:
    if not shutil.which(options.import_command[0]):
        yield (
            f"{options.import_command[0]} is not on PATH, so images cannot be imported: run scripts/install-k3s.sh, or"
            " give --import-command."
        )
    elif options.import_is_default and os.geteuid() != 0:
        yield "Only root may import images into K3s: run this with sudo."
    elif options.import_is_default and plan.nodes and not any(node.is_this_machine for node in plan.nodes):
        yield (
            "This machine is no node of the cluster, so images imported here would not reach it: run this on a node, or"
            " give --import-command."
        )


def _other_nodes(plan: Plan, bundle: Bundle | None) -> Iterator[str]:
    """Other nodes that lack imported images: one node cannot import into another."""
    imported = list(bundle.images) if bundle else [image for image in plan.rendering.images if is_local(image)]
    for node in plan.nodes:
        lacking = [image for image in imported if node.names_all_images and image not in node.images]
        if node != plan.this_node and lacking:
            yield (
                f"Node {node.name} lacks {', '.join(lacking)}: run `scripts/apply-all.sh import --from-bundle FILE`"
                " there, which imports and pins them, or use a registry (k8s/components/images)."
            )
