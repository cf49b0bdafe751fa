"""The folder k8s reads like a table of contents: one object a file, named after its kind, and nothing left over."""

import re
from pathlib import Path

import pytest
import yaml

from tests.harness.manifests.kustomizations import COMPONENTS, K8S, KUSTOMIZATION, OVERLAYS, named, reached, resources

FILES = sorted(path for path in K8S.rglob("*") if path.is_file())
KUSTOMIZATIONS = [file.parent for file in FILES if file.name == KUSTOMIZATION]
MANIFESTS = sorted({path for folder in KUSTOMIZATIONS for path in resources(folder) if path.is_file()})
STORAGE = K8S / "base" / "storage" / "storage.yaml"
"""Everything of a volume and its claim is in one place."""


def relative(path: Path) -> str:
    return str(path.relative_to(K8S))


@pytest.mark.parametrize("file", [file for file in FILES if file.suffix == ".yaml" and file != STORAGE], ids=relative)
def test_a_file_holds_one_object(file: Path) -> None:
    assert len(list(yaml.safe_load_all(file.read_text()))) == 1


@pytest.mark.parametrize("file", [file for file in MANIFESTS if file != STORAGE], ids=relative)
def test_a_manifest_is_named_after_its_kind(file: Path) -> None:
    kind = re.sub(
        r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", yaml.safe_load(file.read_text())["kind"]
    ).lower()
    # With an optional prefix: `init-job.yaml`.
    assert f"-{file.stem}".endswith(f"-{kind}")


@pytest.mark.parametrize("file", [file for file in FILES if file.name != KUSTOMIZATION], ids=relative)
def test_every_file_is_named_by_a_kustomization(file: Path) -> None:
    assert [relative(folder) for folder in KUSTOMIZATIONS if file in named(folder)] != []


@pytest.mark.parametrize("folder", KUSTOMIZATIONS, ids=relative)
def test_every_kustomization_belongs_to_an_overlay_or_can_be_laid_over_one(folder: Path) -> None:
    assert folder in COMPONENTS or any(folder in reached(overlay) for overlay in OVERLAYS)


def test_there_is_an_overlay_for_one_machine_for_many_and_for_the_tests() -> None:
    assert {"single-node", "multi-node", "e2e"} <= {overlay.name for overlay in OVERLAYS}
