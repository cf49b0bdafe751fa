"""Gets images to the node: builds those of this project, and imports archives into the node's containerd."""

import json
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from scripts.deploy import commands
from scripts.deploy.builders import Build, Builder
from scripts.deploy.console import Console
from scripts.deploy.kubectl import Kubectl
from scripts.deploy.nodes import IMAGE_IDS, Node

DOCKERFILES = {"etl": "etl_image/Dockerfile", "etl-airflow": "airflow_image/Dockerfile"}
"""The images of this project by the last part of their name."""
Archive = Callable[[str, Path], Path]
"""Gives the archive of an image; may write it into the folder."""


def ours(images: Iterable[str]) -> dict[str, str]:
    """The images that are built here, and their Dockerfiles.

    They are named localhost/…, which no node can pull; one with a registry in its name is that registry's.
    """
    names = {image: image.removeprefix("localhost/").partition(":")[0] for image in images if is_local(image)}
    return {image: DOCKERFILES[name] for image, name in names.items() if name in DOCKERFILES}


def is_local(image: str) -> bool:
    """Whether the image can only come from an archive."""
    return image.startswith("localhost/")


def build_images(
    console: Console,
    builder: Builder,
    images: Iterable[str],
    root: Path,
    ca_file: Path | None,
    *,
    pull: bool,
    platform: str | None = None,
) -> dict[str, str]:
    """Build the images of this project among those; returns their IDs."""
    return {
        image: builder.build(console, Build(image, root / dockerfile, root, ca_file, pull, platform))
        for image, dockerfile in ours(images).items()
    }


def import_images(
    console: Console,
    kubectl: Kubectl,
    node: Node | None,
    ids: Mapping[str, str],
    archive: Archive,
    command: Sequence[str],
) -> None:
    """Import what the node does not have yet, and note on the node which builds it has now."""
    had = dict(node.image_ids) if node else {}
    for image, image_id in ids.items():
        if node and node.has(image, image_id):
            console.say(f"The node has {image} already.")
            continue
        with work_folder() as folder:
            file = archive(image, Path(folder))
            commands.follow(console, f"Importing {image} into the node", [*command, str(file)])
        if node:
            had[image] = image_id
            note = f"{IMAGE_IDS}={json.dumps(had, sort_keys=True)}"
            kubectl.run("annotate", "node", node.name, "--overwrite", note)


def saving(console: Console, builder: Builder) -> Archive:
    """Archives that the builder writes when they are needed."""

    def save(image: str, folder: Path) -> Path:
        file = folder / archive_name(image)
        builder.save(console, image, file)
        return file

    return save


def archive_name(image: str) -> str:
    """A file name for an image."""
    return image.replace("/", "_").replace(":", "_") + ".tar"


def work_folder() -> "tempfile.TemporaryDirectory[str]":
    """A temporary folder for files of gigabytes; /tmp is often in memory."""
    return tempfile.TemporaryDirectory(prefix="etl-poc-", dir=work_place())


def work_place() -> str:
    """Where big temporary files go: TMPDIR, else /var/tmp."""
    chosen = tempfile.gettempdir()
    return "/var/tmp" if chosen == "/tmp" and Path("/var/tmp").is_dir() else chosen  # noqa: S108
