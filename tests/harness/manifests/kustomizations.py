"""The kustomizations as files, and the files that each names."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml

K8S = Path(__file__).resolve().parents[3] / "k8s"
KUSTOMIZATION = "kustomization.yaml"
DEFAULT = "single-node"
"""The overlay of one machine, which comes first: the others are compared with it."""
OVERLAYS = sorted(
    (file.parent for file in (K8S / "overlays").glob(f"*/{KUSTOMIZATION}")),
    key=lambda folder: (folder.name != DEFAULT, folder.name),
)
COMPONENTS = sorted(file.parent for file in (K8S / "components").glob(f"*/{KUSTOMIZATION}"))
IMAGES = K8S / "components" / "images"


@cache
def read(folder: Path) -> dict[str, Any]:
    """The kustomization of a folder."""
    content: dict[str, Any] = yaml.safe_load((folder / KUSTOMIZATION).read_text())
    return content


def resources(folder: Path) -> list[Path]:
    """The files and folders whose objects a kustomization takes."""
    return [(folder / name).resolve() for name in read(folder).get("resources", [])]


def named(folder: Path) -> set[Path]:
    """Every file and folder that a kustomization names."""
    content = read(folder)
    names = [
        *content.get("components", []),
        *(patch["path"] for patch in content.get("patches", []) if "path" in patch),
    ]
    for generator in content.get("configMapGenerator", []):
        names += generator.get("envs", [])
        names += [file.rpartition("=")[2] for file in generator.get("files", [])]
    return {*resources(folder), *((folder / name).resolve() for name in names)}


def reached(folder: Path) -> set[Path]:
    """A kustomization's folder and all files and folders that it names, or one of those that it names does."""
    found = {folder}
    for path in named(folder):
        found |= reached(path) if path.is_dir() else {path}
    return found
