"""Every overlay as the objects that it renders to, also with each component that it does not have laid over it."""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.building.binaries import KUBECTL, build
from tests.harness.manifests.kustomizations import COMPONENTS, KUSTOMIZATION, OVERLAYS, reached

NAMESPACE = "etl-poc"
Object = dict[str, Any]
"""A Kubernetes object as kubectl renders it."""


@dataclass(frozen=True, eq=False)
class Rendering:
    """The objects of an overlay."""

    name: str
    objects: list[Object]

    def __str__(self) -> str:
        return self.name

    def of_kind(self, *kinds: str) -> list[Object]:
        """The objects of some kinds."""
        return [item for item in self.objects if item["kind"] in kinds]

    def find(self, kind: str, name: str) -> Object | None:
        """The object of that kind and name."""
        return next((item for item in self.of_kind(kind) if item["metadata"]["name"] == name), None)


@dataclass(frozen=True, eq=False)
class Manifest:
    """One object of a rendering."""

    rendering: Rendering
    object: Object

    def __str__(self) -> str:
        return f"{self.rendering}/{name_of(self.object)}"

    @property
    def kind(self) -> str:
        """Its kind."""
        return str(self.object["kind"])

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.object["metadata"]["name"])

    @property
    def labels(self) -> dict[str, str]:
        """Its labels."""
        return self.object["metadata"].get("labels") or {}

    @property
    def spec(self) -> Object:
        """Its specification."""
        specification: Object = self.object["spec"]
        return specification


@cache
def kubectl() -> Path:
    """The kubectl of the version of the tests' cluster; built unless it is cached."""
    return build(KUBECTL) / "kubectl"


@cache
def renderings() -> tuple[Rendering, ...]:
    """All overlays."""
    return tuple(
        Rendering("+".join(path.name for path in (overlay, *extra)), _render(overlay, extra))
        for overlay in OVERLAYS
        for extra in ((), *((component,) for component in COMPONENTS if component not in reached(overlay)))
    )


def rendering(name: str) -> Rendering:
    """The overlay of that name."""
    return next(found for found in renderings() if found.name == name)


def manifests(*kinds: str) -> list[Manifest]:
    """The objects of some kinds, or all, in all renderings."""
    return [
        Manifest(found, item) for found in renderings() for item in (found.of_kind(*kinds) if kinds else found.objects)
    ]


def distinct(found: Iterable[Manifest]) -> list[Manifest]:
    """Without those that are in an earlier rendering just so."""
    first: dict[str, Manifest] = {}
    for manifest in found:
        first.setdefault(json.dumps(manifest.object), manifest)
    return list(first.values())


def name_of(item: Object) -> str:
    """Kind and name."""
    return f"{item['kind']}/{item['metadata']['name']}"


def _render(overlay: Path, components: tuple[Path, ...]) -> list[Object]:
    with tempfile.TemporaryDirectory() as folder:
        # As users add a component to an overlay: by another kustomization.
        relative = {path: os.path.relpath(path, Path(folder).resolve()) for path in (overlay, *components)}
        content = {"resources": [relative[overlay]], "components": [relative[path] for path in components]}
        (Path(folder) / KUSTOMIZATION).write_text(yaml.safe_dump(content))
        rendered = subprocess.run(
            [kubectl(), "kustomize", folder if components else overlay], capture_output=True, text=True, check=False
        )
    assert rendered.returncode == 0, f"{overlay.name} does not render: {rendered.stderr}"
    assert not rendered.stderr, f"{overlay.name} renders with warnings: {rendered.stderr}"
    return [item for item in yaml.load_all(rendered.stdout, yaml.CSafeLoader) if item]
