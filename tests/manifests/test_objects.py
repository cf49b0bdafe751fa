"""What every object is: of a stage, in the namespace, once, and no secret."""

import pytest

from scripts.deploy.rendering import PART_OF, STAGES
from tests.manifests.pods import Pod, controller, pods_of
from tests.manifests.rendering import NAMESPACE, Manifest, Rendering, distinct, manifests, renderings

OF_THE_CLUSTER = {"Namespace", "PersistentVolume", "PriorityClass", "StorageClass"}

each_object = pytest.mark.parametrize("manifest", distinct(manifests()), ids=str)
each_rendering = pytest.mark.parametrize("rendering", renderings(), ids=str)


@each_object
def test_it_belongs_to_a_stage_of_the_deployment(manifest: Manifest) -> None:
    assert manifest.labels.get(PART_OF) in STAGES


@each_object
def test_it_is_in_the_namespace_or_has_none(manifest: Manifest) -> None:
    expected = None if manifest.kind in OF_THE_CLUSTER else NAMESPACE
    assert manifest.object["metadata"].get("namespace") == expected


@pytest.mark.parametrize("pod", [pod for found in renderings() for pod in pods_of(found)], ids=str)
def test_a_pod_belongs_to_the_stage_of_what_makes_it(pod: Pod) -> None:
    assert pod.labels.get(PART_OF) == controller(pod).labels.get(PART_OF)


@each_rendering
def test_there_is_one_namespace_and_it_admits_restricted_pods_only(rendering: Rendering) -> None:
    (namespace,) = rendering.of_kind("Namespace")
    assert namespace["metadata"]["name"] == NAMESPACE
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@each_rendering
def test_there_is_no_secret_in_git(rendering: Rendering) -> None:
    assert rendering.of_kind("Secret") == []
