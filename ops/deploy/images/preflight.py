"""What must be so of images and platforms before anything is changed."""

import os
import shutil
from collections.abc import Iterator

from ops.cluster.console import DeployError
from ops.cluster.images import is_local
from ops.deploy.images.builders import choose_builder
from ops.deploy.images.bundle import Bundle
from ops.deploy.images.images import ours
from ops.deploy.images.platforms import (
    node_problems,
    page_warnings,
    root_is_shared,
    this_platform,
    without_propagation,
)
from ops.deploy.options import Options
from ops.deploy.survey import Survey


def survey_images(found: Survey, options: Options, bundle: Bundle | None) -> None:
    """Choose what builds the images, and see whether they reach the nodes and run there."""
    if not bundle and ours(found.rendering.images):
        try:
            found.builder = choose_builder(options.builder)
        except DeployError as error:
            found.problems.append(str(error))
    found.problems += _image_problems(found, options, bundle)
    _survey_platform(found, options, bundle)
    if options.import_command:
        found.warnings += _elsewhere(found, bundle)


def _image_problems(found: Survey, options: Options, bundle: Bundle | None) -> Iterator[str]:
    if bundle:
        lacking = [image for image in found.rendering.images if is_local(image) and image not in bundle.images]
        if lacking:
            yield f"The bundle lacks {', '.join(lacking)}, which the overlay needs: make it with the same --overlay."
    if not options.import_command:
        return
    if not shutil.which(options.import_command[0]):
        yield (
            f"{options.import_command[0]} is not on PATH, so images cannot be imported: run scripts/install-k3s.sh, or"
            " give --import-command."
        )
    elif options.import_is_default and os.geteuid() != 0:
        yield "Only root may import images into K3s: run this with sudo."
    elif options.import_is_default and found.nodes and not any(node.is_this_machine for node in found.nodes):
        yield (
            "This machine is no node of the cluster, so images imported here would not reach it: run this on a node, or"
            " give --import-command."
        )


def _elsewhere(found: Survey, bundle: Bundle | None) -> Iterator[str]:
    """Nodes that lack images which can only be imported: one cannot be reached from another."""
    imported = list(bundle.images) if bundle else [image for image in found.rendering.images if is_local(image)]
    for node in found.nodes:
        lacking = [image for image in imported if node.names_all_images and image not in node.images]
        if node != found.this_node and lacking:
            yield (
                f"Node {node.name} lacks {', '.join(lacking)}: run `scripts/apply-all.sh import --from-bundle FILE`"
                " there, which imports and pins them, or use a registry (k8s/components/images)."
            )


def _survey_platform(found: Survey, options: Options, bundle: Bundle | None) -> None:
    imported = bundle.platform if bundle else this_platform() if options.import_command else None
    found.problems += node_problems(found.rendering, found.data_node, found.this_node, imported)
    found.warnings += page_warnings(found.rendering, found.nodes)
    if any(node.is_this_machine for node in found.nodes) and not root_is_shared():
        for name in without_propagation(found.rendering):
            found.warnings.append(
                f"`/` is not a shared mount here, as in WSL2, so {name} does not see disks that are mounted later until"
                " it is restarted; `mount --make-rshared /` before K3s starts changes that."
            )
