"""Every object: has a stage, is in a namespace of the deployment, is there once, and is no Secret."""

import pytest

from ops.cluster.kubectl import NAMESPACES
from ops.cluster.names import PART_OF
from ops.deploy.manifests.rendering import PARTS
from tests.harness.manifests.pods import Pod, controller, pods_of
from tests.harness.manifests.rendering import NAMESPACE, Manifest, Rendering, distinct, manifests, renderings

OF_THE_CLUSTER = {
    "ClusterRole",
    "ClusterRoleBinding",
    "Namespace",
    "PersistentVolume",
    "PriorityClass",
    "StorageClass",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
}

each_object = pytest.mark.parametrize("manifest", distinct(manifests()), ids=str)
each_rendering = pytest.mark.parametrize("rendering", renderings(), ids=str)


@each_object
def test_it_belongs_to_a_part_of_the_deployment(manifest: Manifest) -> None:
    assert manifest.labels.get(PART_OF) in PARTS


@each_object
def test_it_is_in_a_namespace_of_the_deployment_or_has_none(manifest: Manifest) -> None:
    namespace = manifest.object["metadata"].get("namespace")
    if manifest.kind in OF_THE_CLUSTER:
        assert namespace is None
    elif manifest.kind == "HelmChartConfig":
        assert namespace == "kube-system"  # where K3s looks for it
    elif manifest.labels[PART_OF] in ("foundation", "observability", "storage"):
        assert namespace in NAMESPACES
    else:
        assert namespace == NAMESPACE


@pytest.mark.parametrize("pod", [pod for found in renderings() for pod in pods_of(found)], ids=str)
def test_a_pod_belongs_to_the_stage_of_what_makes_it(pod: Pod) -> None:
    assert pod.labels.get(PART_OF) == controller(pod).labels.get(PART_OF)


@each_rendering
def test_every_namespace_but_one_admits_restricted_pods_only(rendering: Rendering) -> None:
    found = {item["metadata"]["name"]: item["metadata"]["labels"] for item in rendering.of_kind("Namespace")}
    assert {name: labels["pod-security.kubernetes.io/enforce"] for name, labels in found.items()} == {
        "etl-poc": "restricted",
        "observability": "restricted",
        # The files of a node are read here, which no other standard admits.
        "observability-node": "privileged",
    }
    assert found.keys() == set(NAMESPACES)


@each_rendering
def test_a_pod_is_where_anything_is_admitted_only_to_read_files_of_its_node(rendering: Rendering) -> None:
    reads = {pod.owner for pod in pods_of(rendering) if any("hostPath" in volume for volume in pod.volumes)}
    assert {pod.owner for pod in pods_of(rendering) if pod.namespace == "observability-node"} == reads


@each_rendering
def test_there_is_no_secret_in_git(rendering: Rendering) -> None:
    assert rendering.of_kind("Secret") == []
