"""Images of this project: built here, and imported into the node's containerd."""

import json
import shlex
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from ops.cluster import processes
from ops.cluster.console import Console, DeployError
from ops.cluster.images import is_local
from ops.cluster.kubectl import Kubectl
from ops.cluster.nodes import IMAGE_IDS, Node
from ops.deploy.images.builders import Build, Builder
from ops.deploy.manifests.rendering import Rendering

_AIRFLOW = "airflow_image/Dockerfile"
DOCKERFILES = {"etl": "etl_image/Dockerfile", "etl-airflow": _AIRFLOW}
"""The images of this project by the last part of their name."""
_FOR_TOKENS = {"EXTRAS": "--extra entra", "PACKAGES": "libgssapi-krb5-2 libkrb5-3 libltdl7"}
"""Arguments of Airflow's Dockerfile where tokens of Entra ID log in: the driver of SQL Server and its libraries."""
PINNED = "io.cri-containerd.pinned=pinned"
"""The label of an image that the kubelet never removes; K3s sets it on its own images."""
_LEAN = "--discard-unpacked-layers"
Importing = Callable[[Console, str, Sequence[str]], None]
"""Imports an image into the node by a command that takes an archive."""


def own_images(images: Iterable[str]) -> dict[str, str]:
    """The images that are built here, and their Dockerfiles.

    They are named localhost/…, which no node can pull; an image with a registry in its name comes from there.
    """
    names = {image: image.removeprefix("localhost/").partition(":")[0] for image in images if is_local(image)}
    return {image: DOCKERFILES[name] for image, name in names.items() if name in DOCKERFILES}


def name_on_node(image: str) -> str:
    """The name of an image in a node's list: a digest replaces the tag."""
    named, at, digest = image.partition("@")
    folder, slash, last = named.rpartition("/")
    return f"{folder}{slash}{last.partition(':')[0]}@{digest}" if at else image


def build_images(
    console: Console,
    builder: Builder,
    rendering: Rendering,
    root: Path,
    ca_file: Path | None,
    *,
    pull: bool,
    platform: str | None = None,
) -> dict[str, str]:
    """Build those images that are this project's; returns their IDs."""
    ids = {}
    for image, dockerfile in own_images(rendering.images).items():
        arguments = _FOR_TOKENS if rendering.logs_in_by_token and dockerfile == _AIRFLOW else {}
        build = Build(image, root / dockerfile, root, ca_file, pull, platform, arguments)
        ids[image] = builder.build(console, build)
    return ids


def import_images(
    console: Console,
    kubectl: Kubectl | None,
    node: Node | None,
    ids: Mapping[str, str],
    importing: Importing,
    command: Sequence[str],
) -> None:
    """Import the images that the node lacks, record their IDs on the node, and pin all.

    Without a cluster (None) all are imported, and nothing is recorded.
    """
    had = dict(node.image_ids) if node else {}
    lean = [*command, *_lean_flags(command)]
    for image, image_id in ids.items():
        if node and node.has(image, image_id):
            console.say(f"The node has {image} already.")
            continue
        importing(console, image, lean)
        if node and kubectl:
            had[image] = image_id
            note = f"{IMAGE_IDS}={json.dumps(had, sort_keys=True)}"
            kubectl.run("annotate", "node", node.name, "--overwrite", note)
    _pin(console, ids, command)


def _lean_flags(command: Sequence[str]) -> Iterator[str]:
    """Flags for containerd to discard the archive of an unpacked image, if its `ctr` knows them."""
    if pin_command(command) and _LEAN in processes.output([*command, "--help"]):
        yield from (flag for flag in ("--local", _LEAN) if flag not in command)


def _pin(console: Console, images: Iterable[str], command: Sequence[str]) -> None:
    """Pin imported images: the kubelet removes others when the disk is short, and cannot pull these again.

    An import removes the label, so it is set each time.
    """
    label = pin_command(command)
    if label is None:
        console.warn(
            f"How to pin images by `{shlex.join(command)}` is not known. Pin them yourself, or the kubelet may remove"
            " them when the disk is short, and cannot pull them again."
        )
        return
    for image in images:
        try:
            processes.run([*label, image, PINNED], timeout=60)
        except DeployError as error:
            console.warn(f"{image} could not be pinned, so it may be removed when the disk is short: {error}")


def pin_command(command: Sequence[str]) -> list[str] | None:
    """The command that labels images, derived from an import command; None if that is not containerd's `ctr`."""
    words = list(command)
    for position in range(len(words) - 1):
        if words[position] in ("images", "image", "i") and words[position + 1] == "import":
            return [*words[: position + 1], "label"]
    return None


def importing_from(builder: Builder) -> Importing:
    """Import from a builder: as a stream if containerd can read one, without a copy on disk."""

    def importing(console: Console, image: str, command: Sequence[str]) -> None:
        what = f"Importing {image} into the node"
        if pin_command(command):
            processes.follow_pipe(console, what, builder.save_command(image, "/dev/stdout"), [*command, "/dev/stdin"])
            return
        with work_folder() as folder:
            file = Path(folder) / archive_name(image)
            builder.save(console, image, file)
            processes.follow(console, what, [*command, str(file)])

    return importing


def archive_name(image: str) -> str:
    """The file name of an image's archive."""
    return image.replace("/", "_").replace(":", "_") + ".tar"


def work_folder() -> "tempfile.TemporaryDirectory[str]":
    """A temporary folder for files of gigabytes; /tmp is often in memory."""
    return tempfile.TemporaryDirectory(prefix="etl-poc-", dir=large_temporary_folder())


def large_temporary_folder() -> str:
    """The folder of large temporary files: TMPDIR, else /var/tmp."""
    chosen = tempfile.gettempdir()
    return "/var/tmp" if chosen == "/tmp" and Path("/var/tmp").is_dir() else chosen  # noqa: S108
