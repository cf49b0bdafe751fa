"""The overlay to deploy: the given one, else the one deployed last.

An overlay is named by its folder, relative to the checkout or the bundle if it is in it. The last one's name is an
annotation of the namespace, which `down` keeps.
"""

from pathlib import Path

from ops.cluster.kubectl import NAMESPACE, Kubectl
from ops.deploy.manifests.rendering import Rendering

ROOT = Path(__file__).resolve().parents[3]
DEFAULT = "k8s/overlays/single-node"
_ANNOTATION = "etl-poc/overlay"


def given_overlay(name: str | None, root: Path | None = None) -> str | None:
    """The overlay given on the command line, by its folder below `root`, the checkout or a bundle."""
    if name is None:
        return None
    if "/" not in name:
        return f"k8s/overlays/{name}"
    folder, root = Path(name).absolute(), root or ROOT
    return str(folder.relative_to(root) if folder.is_relative_to(root) else folder)


def deployed_overlay(kubectl: Kubectl) -> str | None:
    """The overlay deployed last. Raises DeployError if the cluster does not answer."""
    live = kubectl.get("namespace", NAMESPACE) or {}
    name: str | None = live.get("metadata", {}).get("annotations", {}).get(_ANNOTATION)
    return name


def folder_of(overlay: str, root: Path | None = None) -> Path:
    """The folder of an overlay."""
    return (root or ROOT) / overlay


def remember(rendering: Rendering, overlay: str) -> None:
    """Record the overlay for the next run."""
    for item in rendering.of_kind("Namespace"):
        if item["metadata"]["name"] == NAMESPACE:
            item["metadata"].setdefault("annotations", {})[_ANNOTATION] = overlay
