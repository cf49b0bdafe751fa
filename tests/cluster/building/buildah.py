"""Building images from Dockerfiles without a registry and without a daemon: how buildah must be called for that."""

import json
import os
import shutil
import subprocess
from pathlib import Path

from tests.cluster.building.cache import cache_folder, say
from tests.cluster.building.images import BASE_IMAGE, base_image
from tests.cluster.building.storage import can_overlay
from tests.cluster.errors import ClusterError

MOST_BYTES = 15 * 2**30
"""Limit of the images and layers in the cache."""


def forget_layers(most: int = MOST_BYTES) -> None:
    """Empty the cache of images if it has grown beyond the limit.

    Each build leaves layers, and each base image a folder of them; most are never used again.
    """
    folders = list(cache_folder().glob("buildah-*"))
    used = sum(map(_bytes_in, folders))
    if used > most:
        say(f"buildah: {used / 2**30:.0f} GB of layers are removed; images are built anew")
        for folder in folders:
            shutil.rmtree(folder)


def _bytes_in(folder: Path) -> int:
    told = subprocess.run(["du", "--summarize", "--bytes", folder], check=True, capture_output=True, text=True)
    return int(told.stdout.split()[0])


def build_environment() -> dict[str, str]:
    """The environment in which plain `buildah build` and `buildah push` work here; `debian:trixie-slim` is there.

    The images and layers that are built stay in the cache: a build that changes nothing takes seconds.
    """
    archive = base_image()
    folder = cache_folder() / archive.parent.name.replace("base-image", "buildah")
    folder.mkdir(exist_ok=True)
    environment = _configure(folder)
    called = os.environ | environment
    if subprocess.run(["buildah", "inspect", BASE_IMAGE], env=called, capture_output=True, check=False).returncode:
        say(f"buildah: taking in {BASE_IMAGE}")
        command = ["buildah", "pull", "--quiet", f"docker-archive:{archive}"]
        pulled = subprocess.run(command, env=called, capture_output=True, text=True, check=False)
        if pulled.returncode:
            raise ClusterError(f"buildah does not take the base image {archive}: {pulled.stderr.strip()}")
    return environment


def _configure(folder: Path) -> dict[str, str]:
    # A separate mount would stay behind after each call.
    overlay = can_overlay(folder)
    (folder / "storage.conf").write_text(
        f"[storage]\ndriver = {json.dumps('overlay' if overlay else 'vfs')}\n"
        f"graphroot = {json.dumps(str(folder / 'images'))}\nrunroot = {json.dumps(str(folder / 'run'))}\n"
        + ('[storage.options.overlay]\nskip_mount_home = "true"\n' if overlay else "")
    )
    # Nothing is ever asked of a registry, not even whether it has something newer.
    (folder / "registries.conf").write_text(
        'unqualified-search-registries = ["docker.io"]\nshort-name-mode = "disabled"\n'
        '[[registry]]\nlocation = "docker.io"\nblocked = true\n'
    )
    (folder / "containers.conf").write_text('[containers]\nnetns = "host"\n')
    return {
        "BUILDAH_ISOLATION": "chroot",
        "BUILDAH_LAYERS": "true",
        "CONTAINERS_CONF": str(folder / "containers.conf"),
        "CONTAINERS_REGISTRIES_CONF": str(folder / "registries.conf"),
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
    }
