"""Images of the deployment with one program each, in place of a registry's: most are built from Go modules.

For Loki it is the program LOKI_PROGRAM where one is given. Else a double of its API is built from a Dockerfile.
"""

import hashlib
import os
from pathlib import Path

from tests.cluster.building.binaries import (
    ALERTMANAGER,
    CADDY,
    KUBE_STATE_METRICS,
    NODE_EXPORTER,
    PROMETHEUS,
    STATSD_EXPORTER,
    build,
)
from tests.cluster.building.cache import made
from tests.cluster.building.images import program_image
from tests.harness.manifests.kustomizations import IMAGES, read

MODULES = {
    "prometheus": PROMETHEUS,
    "caddy": CADDY,
    "alertmanager": ALERTMANAGER,
    "statsd-exporter": STATSD_EXPORTER,
    "node-exporter": NODE_EXPORTER,
    "kube-state-metrics": KUBE_STATE_METRICS,
}
"""The modules by the names of the images in the manifests."""


def loki_is_a_double() -> bool:
    """Whether the cluster has the double of Loki's API."""
    return os.environ.get("OVERLAY", "e2e") == "e2e" and not os.environ.get("LOKI_PROGRAM")


def loki_description() -> str:
    """The Loki of the cluster, for reports of measurements."""
    if loki_is_a_double():
        return "Loki in the cluster: a double of its API, not Loki."
    if os.environ.get("OVERLAY", "e2e") != "e2e":
        return "Loki in the cluster: its own image."
    return f"Loki in the cluster: the program {Path(os.environ['LOKI_PROGRAM']).name}, given by LOKI_PROGRAM."


def image_name(name: str) -> str:
    """The name of a manifest's image in the overlay e2e."""
    tags = {image["name"]: image["newTag"] for image in read(IMAGES)["images"]}
    return f"localhost/e2e-{name}:{tags[name]}"


def built_images() -> list[Path]:
    """The archives of the images that the overlay e2e names `localhost/e2e-…`."""
    programs = {name: build(module) / _program(name) for name, module in MODULES.items()}
    decides = [program.parent.name for program in programs.values()]
    if given := os.environ.get("LOKI_PROGRAM"):
        programs["loki"] = Path(given)
        decides.append(hashlib.sha256(programs["loki"].read_bytes()).hexdigest())

    def make(folder: Path) -> None:
        for name, program in programs.items():
            program_image(folder / f"{name}.tar", image_name(name), program)

    folder = made("built-images", *map(image_name, programs), *decides, make=make)
    return [folder / f"{name}.tar" for name in programs]


def _program(image: str) -> str:
    """The program's name in its Go module: exporters have an underscore."""
    return image.replace("-exporter", "_exporter")
