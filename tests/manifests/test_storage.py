"""Data outlives pods, claims and the deployment: each claim has its own folder of one node, for good."""

from pathlib import PurePosixPath
from typing import Any

import pytest

from ops.cluster.nodes import DATA_LABEL
from ops.deploy.data.volumes import OWNERS
from ops.deploy.manifests.rendering import DATA_FOLDER
from tests.harness.manifests.pods import Pod, pods
from tests.harness.manifests.rendering import Manifest, Object, manifests

each_claim = pytest.mark.parametrize("claim", manifests("PersistentVolumeClaim"), ids=str)
each_volume = pytest.mark.parametrize("volume", manifests("PersistentVolume"), ids=str)


def volume_of(claim: Manifest) -> Object:
    found = claim.rendering.find("PersistentVolume", claim.spec["volumeName"])
    assert found, f"{claim} has no volume."
    specification: Object = found["spec"]
    return specification


@each_claim
def test_a_claim_has_a_volume_of_its_class_size_and_modes(claim: Manifest) -> None:
    volume = volume_of(claim)
    assert claim.spec["storageClassName"] == volume["storageClassName"]
    assert claim.spec["resources"]["requests"]["storage"] == volume["capacity"]["storage"]
    assert claim.spec["accessModes"] == volume["accessModes"]


@each_claim
def test_a_volume_is_kept_for_its_claim(claim: Manifest) -> None:
    assert volume_of(claim)["claimRef"] == {"namespace": claim.object["metadata"]["namespace"], "name": claim.name}


@pytest.mark.parametrize("pod", pods(), ids=str)
def test_a_pod_mounts_claims_of_its_own_namespace(pod: Pod) -> None:
    for source in mounting(pod):
        claim = pod.rendering.find("PersistentVolumeClaim", source["claimName"])
        assert claim
        assert claim["metadata"]["namespace"] == pod.namespace


@each_volume
def test_every_volume_has_a_claim(volume: Manifest) -> None:
    claim = volume.rendering.find("PersistentVolumeClaim", volume.spec["claimRef"]["name"])
    assert claim
    assert claim["spec"]["volumeName"] == volume.name


@each_volume
def test_data_is_kept_when_the_claim_is_deleted(volume: Manifest) -> None:
    assert volume.spec["persistentVolumeReclaimPolicy"] == "Retain"


@each_volume
def test_a_volume_is_on_the_node_that_apply_all_chooses(volume: Manifest) -> None:
    assert volume.spec["nodeAffinity"]["required"]["nodeSelectorTerms"] == [
        {"matchExpressions": [{"key": DATA_LABEL, "operator": "Exists"}]}
    ]


@each_volume
def test_a_volume_is_a_folder_that_apply_all_makes(volume: Manifest) -> None:
    assert volume.name in OWNERS
    assert PurePosixPath(volume.spec["local"]["path"]).parent == DATA_FOLDER


@pytest.mark.parametrize("item", manifests("PersistentVolume", "PersistentVolumeClaim"), ids=str)
def test_a_storage_class_exists(item: Manifest) -> None:
    assert item.rendering.find("StorageClass", item.spec["storageClassName"])


@pytest.mark.parametrize("storage", manifests("StorageClass"), ids=str)
def test_a_claim_waits_for_its_pod_and_never_gets_another_volume(storage: Manifest) -> None:
    assert storage.object["volumeBindingMode"] == "WaitForFirstConsumer"
    assert storage.object["provisioner"] == "kubernetes.io/no-provisioner"
    assert storage.object["reclaimPolicy"] == "Retain"


def mounting(pod: Pod) -> list[Any]:
    return [volume["persistentVolumeClaim"] for volume in pod.volumes if "persistentVolumeClaim" in volume]


@pytest.mark.parametrize("pod", [pod for pod in pods() if mounting(pod)], ids=str)
def test_a_folder_belongs_to_the_user_of_the_pod_that_writes_there(pod: Pod) -> None:
    for source in mounting(pod):
        claim = pod.rendering.find("PersistentVolumeClaim", source["claimName"])
        assert claim
        user, group, _ = OWNERS[claim["spec"]["volumeName"]]
        for container in pod.containers:
            assert (container.security("runAsUser"), container.security("fsGroup")) == (user, group)
