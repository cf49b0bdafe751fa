"""Images of the deployment that are built from Go modules, where a registry would give them: one program in each."""

from pathlib import Path

from tests.cluster.binaries import (
    ALERTMANAGER,
    KUBE_STATE_METRICS,
    LOKI,
    NODE_EXPORTER,
    PROMETHEUS,
    STATSD_EXPORTER,
    build,
)
from tests.cluster.cache import made
from tests.cluster.images import program_image
from tests.manifests.kustomizations import IMAGES, read

MODULES = {
    "loki": LOKI,
    "prometheus": PROMETHEUS,
    "alertmanager": ALERTMANAGER,
    "statsd-exporter": STATSD_EXPORTER,
    "node-exporter": NODE_EXPORTER,
    "kube-state-metrics": KUBE_STATE_METRICS,
}
"""The modules by the names of the images in the manifests."""


def built_images() -> list[Path]:
    """The archives of the images that the overlay e2e names `localhost/e2e-…`."""
    tags = {image["name"]: image["newTag"] for image in read(IMAGES)["images"]}
    names = {name: f"localhost/e2e-{name}:{tags[name]}" for name in MODULES}
    programs = {name: build(module) / _program(name) for name, module in MODULES.items()}

    def make(folder: Path) -> None:
        for name, program in programs.items():
            program_image(folder / f"{name}.tar", names[name], program)

    decides = (program.parent.name for program in programs.values())
    folder = made("built-images", *names.values(), *decides, make=make)
    return [folder / f"{name}.tar" for name in MODULES]


def _program(image: str) -> str:
    """What the module calls it: its exporters have an underscore."""
    return image.replace("-exporter", "_exporter")
