"""`apply-all.sh` configures K3s's Traefik, and leaves it alone if it is absent or configured by another party."""

import base64
import copy
from typing import Any

import pytest

from ops.cluster.console import Console
from ops.deploy.cli import main
from ops.deploy.manifests import traefik
from ops.deploy.manifests.rendering import Rendering
from ops.deploy.manifests.traefik import await_kinds, fit
from tests.doubles.fake_cluster import FakeCluster, FakeKubectl
from tests.harness.manifests.kustomizations import DEFAULT
from tests.harness.manifests.rendering import rendering

SERVED = ["v1", "traefik.io/v1alpha1", "helm.cattle.io/v1"]
CHART = {"kind": "HelmChart", "metadata": {"name": "traefik", "namespace": "kube-system"}}


@pytest.fixture
def cluster(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    """One with the Traefik of K3s."""
    monkeypatch.setattr(traefik, "POLL_SECONDS", 0.01)
    cluster.set(served=SERVED)
    cluster.change("HelmChart/traefik", CHART)
    return cluster


def special(name: str = DEFAULT) -> Rendering:
    """Traefik's objects, of the real manifests."""
    return Rendering(copy.deepcopy(rendering(name).of_kind("TLSStore", "HelmChartConfig")), [])


def fitted() -> tuple[set[str], list[str]]:
    """The objects to apply, and the messages."""
    found = special()
    told = fit(FakeKubectl(), found)
    return {item["kind"] for item in found.objects}, told


def test_k3s_with_its_own_traefik_gets_all(cluster: FakeCluster) -> None:
    assert fitted() == ({"TLSStore", "HelmChartConfig"}, [])


@pytest.mark.parametrize(
    ("served", "left"),
    [(["v1"], set()), (["v1", "traefik.io/v1alpha1"], {"TLSStore"})],
    ids=["no Traefik", "a Traefik of somebody's own"],
)
def test_what_a_cluster_has_no_kind_for_is_left_out(cluster: FakeCluster, served: list[str], left: set[str]) -> None:
    cluster.set(served=served)
    assert fitted() == (left, [])


def test_k3s_without_its_traefik_is_not_given_settings_of_it(cluster: FakeCluster) -> None:
    cluster.change("HelmChart/traefik", None)
    assert fitted() == ({"TLSStore"}, [])


def test_another_default_store_stays_the_only_one(cluster: FakeCluster) -> None:
    cluster.change("TLSStore/default", {"kind": "TLSStore", "metadata": {"name": "default", "namespace": "web"}})
    left, told = fitted()
    assert left == {"HelmChartConfig"}
    assert "The namespace web has a TLSStore `default` already" in told[0]


@pytest.mark.parametrize(("values", "count"), [("", 1), ("service:\n  spec:\n    externalTrafficPolicy: Local\n", 0)])
def test_settings_of_somebody_s_own_are_left_as_they_are(cluster: FakeCluster, values: str, count: int) -> None:
    theirs = {"kind": "HelmChartConfig", "metadata": CHART["metadata"], "spec": {"valuesContent": values}}
    cluster.change("HelmChartConfig/traefik", theirs)
    left, told = fitted()
    assert left == {"TLSStore"}
    assert len(told) == count
    assert all("service: {spec: {externalTrafficPolicy: Local}}" in words for words in told)


def test_ours_from_an_earlier_run_are_applied_again(cluster: FakeCluster) -> None:
    for item in special().objects:
        cluster.change(f"{item['kind']}/{item['metadata']['name']}", item)
    assert fitted() == ({"TLSStore", "HelmChartConfig"}, [])


def test_right_after_the_start_of_k3s_it_is_waited_for(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster.set(served=["v1", "helm.cattle.io/v1"])
    monkeypatch.setattr("time.sleep", lambda _: cluster.set(served=SERVED))
    await_kinds(Console(), FakeKubectl(), special())
    assert cluster.said().out.count("Waiting for K3s to install Traefik") == 1
    assert fitted()[0] == {"TLSStore", "HelmChartConfig"}


def test_a_traefik_that_does_not_come_is_told_of(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster.set(served=["v1", "helm.cattle.io/v1"])
    monkeypatch.setattr(traefik, "TIMEOUT_SECONDS", 0)
    await_kinds(Console(), FakeKubectl(), special())
    left, (words,) = fitted()
    assert left == {"HelmChartConfig"}
    assert "K3s has not installed its Traefik yet" in words


def test_where_k3s_installs_none_it_is_not_waited_for(cluster: FakeCluster) -> None:
    cluster.set(served=["v1", "helm.cattle.io/v1"])
    cluster.change("HelmChart/traefik", None)
    await_kinds(Console(), FakeKubectl(), special())
    assert len(cluster.calls("--raw=/apis")) == 1


def test_apply_all_applies_it_and_down_takes_it_away(cluster: FakeCluster) -> None:
    cluster.objects_to_render += special().objects
    cluster.write_overlay()
    assert main(cluster.arguments()) == 0
    assert cluster.objects["TLSStore/default"]["spec"] == {"defaultCertificate": {"secretName": "ui-tls"}}
    assert "HelmChartConfig/traefik" in cluster.objects
    assert base64.b64decode(cluster.objects["Secret/ui-tls"]["data"]["tls.crt"])
    assert main(["down", *overlay(cluster)]) == 0
    assert not {"TLSStore/default", "HelmChartConfig/traefik"} & cluster.objects.keys()


def test_down_leaves_what_is_somebody_s_own(cluster: FakeCluster) -> None:
    theirs: dict[str, Any] = {"kind": "HelmChartConfig", "metadata": CHART["metadata"], "spec": {"valuesContent": ""}}
    cluster.change("HelmChartConfig/traefik", theirs)
    cluster.objects_to_render += special().objects
    cluster.write_overlay()
    assert main(["down", *overlay(cluster)]) == 0
    assert cluster.objects["HelmChartConfig/traefik"] == theirs


def overlay(cluster: FakeCluster) -> list[str]:
    return [word for word in cluster.arguments() if word.startswith("--overlay")]


@pytest.mark.parametrize(("name", "everywhere"), [(DEFAULT, False), ("multi-node", True)])
def test_every_node_that_leads_people_on_has_a_traefik(name: str, everywhere: bool) -> None:
    """With externalTrafficPolicy: Local a node forwards only to its own pods."""
    (settings,) = (item for item in special(name).objects if item["kind"] == "HelmChartConfig")
    values = settings["spec"]["valuesContent"]
    assert "externalTrafficPolicy: Local" in values
    assert ("kind: DaemonSet" in values) == everywhere
