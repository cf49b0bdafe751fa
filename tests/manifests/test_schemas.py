"""Every object is valid for the last four minor versions of Kubernetes."""

import re
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from unittest import mock

import pytest
from kubernetes_validate import ValidationError, utils, validate

from tests.doubles.bare_machine import PINNED
from tests.harness.manifests.kustomizations import DEFAULT
from tests.harness.manifests.pods import step, worker
from tests.harness.manifests.rendering import Manifest, Object, Rendering, distinct, manifests, rendering, renderings

ROOT = Path(__file__).resolve().parents[2]
MINORS = list(dict.fromkeys(utils.major_minor(version) for version in utils.all_versions()))[-4:]


@pytest.fixture(scope="module", autouse=True)
def read_once() -> Iterator[None]:
    """Each schema is read once; the package reads megabytes of JSON for every object."""
    with mock.patch.object(utils, "schema_contents", cache(utils.schema_contents)):
        yield


def check(content: Object, minor: str) -> None:
    validate(content, minor, strict=True)


OF_OTHERS = ("traefik.io/", "helm.cattle.io/")
"""Kinds of K3s and of its Traefik, which Kubernetes itself has no schema of."""


@pytest.mark.parametrize("minor", MINORS)
@pytest.mark.parametrize(
    "manifest", [one for one in distinct(manifests()) if not one.object["apiVersion"].startswith(OF_OTHERS)], ids=str
)
def test_an_object_is_valid(manifest: Manifest, minor: str) -> None:
    check(manifest.object, minor)


@pytest.mark.parametrize("minor", MINORS)
@pytest.mark.parametrize("found", renderings(), ids=str)
def test_the_pods_that_airflow_starts_are_valid(found: Rendering, minor: str) -> None:
    check(worker(found).content, minor)
    check(step(found).content, minor)


def test_a_field_that_does_not_exist_is_not_valid() -> None:
    scheduler = rendering(DEFAULT).find("Deployment", "airflow-scheduler")
    misspelt = deepcopy(scheduler)
    assert misspelt
    misspelt["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    with pytest.raises(ValidationError, match="livenesProbe"):
        check(misspelt, MINORS[-1])


def test_the_versions_that_are_run_are_among_them() -> None:
    modules = (ROOT / "tests" / "cluster" / "go" / "kubernetes" / "go.mod").read_text()
    cluster = re.search(r"^\s*k8s\.io/kubernetes v(1\.\d+)\.", modules, re.MULTILINE)
    assert cluster
    assert len(MINORS) == 4
    assert cluster[1] in MINORS
    assert PINNED.removeprefix("v").rpartition(".")[0] in MINORS
