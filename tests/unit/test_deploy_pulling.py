"""`apply-all.sh` pulls images first: with progress, and with the reason at once where one cannot be had."""

import json
from typing import Any

import pytest

from ops.cluster.images import explain, is_permanent
from ops.cluster.nodes import Node
from ops.deploy.cli import main
from ops.deploy.images import pulling
from ops.deploy.images.pulling import plan_pulls
from ops.deploy.manifests.rendering import Rendering
from tests.doubles.fake_cluster import FakeCluster, node, workload

MSSQL, LOKI, POSTGRES = "example.com/mssql:2022", "example.com/loki:3", "example.com/postgres:17"
# As containerd 2 and the kubelet write them.
ABSENT = (
    'Failed to pull image "example.com/mssql:2022": rpc error: code = NotFound desc = failed to pull and unpack image'
    ' "example.com/mssql:2022": failed to resolve reference "example.com/mssql:2022": example.com/mssql:2022: not found'
)
NO_NETWORK = (
    'Back-off pulling image "docker.io/grafana/loki:3": ErrImagePull: rpc error: code = Unknown desc = failed to pull'
    ' and unpack image: failed to do request: Head "https://registry-1.docker.io/v2/x/manifests/3": dial tcp:'
    " lookup registry-1.docker.io: Try again"
)


@pytest.fixture
def cluster(cluster: FakeCluster) -> FakeCluster:
    """A node that has none of the images that are pulled."""
    bare = node("one")
    bare["status"]["images"] = []
    cluster.change("Node/one", bare)
    return cluster


def kinds_applied(cluster: FakeCluster) -> list[set[str]]:
    return [{item["kind"] for item in json.loads(call["stdin"])["items"]} for call in cluster.calls("apply")]


def cannot_pull(cluster: FakeCluster, image: str, message: str, reason: str = "ErrImagePull") -> None:
    cluster.set(images={image: {"waiting": {"reason": reason, "message": message}}})


def test_images_are_pulled_before_anything_waits_for_them_and_told_one_by_one(cluster: FakeCluster) -> None:
    assert main(cluster.arguments()) == 0
    applied = kinds_applied(cluster)
    pulled = applied.index({"Pod"})
    assert not any(applied_before & {"StatefulSet", "Deployment", "Job"} for applied_before in applied[:pulled])
    told = cluster.said().out
    assert "Pulling 3 images onto one …" in told
    assert all(f": {image}, 5.0 MB" in told for image in (MSSQL, LOKI, POSTGRES))
    assert "3 of 3 are there; 15 MB were pulled." in told
    assert not [key for key in cluster.objects if key.startswith("Pod/image-pull")]


def test_what_the_node_has_is_not_asked_for(cluster: FakeCluster) -> None:
    cluster.change("Node/one", node("one"))
    assert main(cluster.arguments()) == 0
    assert {"Pod"} not in kinds_applied(cluster)


def test_an_image_that_is_not_there_ends_it_at_once_in_words(cluster: FakeCluster) -> None:
    cannot_pull(cluster, MSSQL, ABSENT)
    assert main(cluster.arguments()) == 1
    told = cluster.said()
    assert f"{MSSQL}: the registry has no such image: correct its name or tag" in told.out
    assert f"These images cannot be pulled:\n  * {MSSQL} on one: the registry has no such image" in told.err
    assert "StatefulSet/mssql" not in cluster.objects
    assert not [key for key in cluster.objects if key.startswith("Pod/image-pull")]


def test_without_a_network_it_is_tried_again_and_then_given_up(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulling, "RETRY_SECONDS", 0.3)
    cannot_pull(cluster, POSTGRES, NO_NETWORK, "ImagePullBackOff")
    assert main(cluster.arguments()) == 1
    told = cluster.said()
    assert told.out.count("the node cannot reach the registry") == 1
    assert "install from a bundle (--from-bundle)" in told.err
    looks = [call for call in cluster.calls("get") if "pods" in call["argv"]]
    assert len(looks) > 2


def test_an_image_that_only_observability_needs_stops_nothing(cluster: FakeCluster) -> None:
    cannot_pull(cluster, LOKI, ABSENT)
    assert main(cluster.arguments()) == 0
    assert f"Note: {LOKI} cannot be pulled on one, and Airflow goes on without it" in cluster.said().out


def test_the_pods_meet_the_restricted_standard_and_run_nothing(cluster: FakeCluster) -> None:
    assert main(cluster.arguments()) == 0
    (call,) = [call for call in cluster.calls("apply") if '"Pod"' in call["stdin"]]
    for pod in json.loads(call["stdin"])["items"]:
        spec, (container,) = pod["spec"], pod["spec"]["containers"]
        assert spec["securityContext"]["runAsNonRoot"]
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert not container["securityContext"]["allowPrivilegeEscalation"]
        assert container["command"] == ["/the-image-is-here"]
        assert spec["restartPolicy"] == "Never"
        assert {"requests", "limits"} == container["resources"].keys()


def test_a_pull_that_fails_after_minutes_is_tried_again() -> None:
    """Nothing has come for longer than a failing pull is tried, when the only one begins to fail."""
    progress = pulling.Progress(failing={"pod": NO_NETWORK})
    assert not pulling._is_over(progress, {"pod"}, failing=1, idle=1000)
    assert pulling._is_over(progress, {"pod"}, failing=91, idle=1000)
    assert not pulling._is_over(progress, {"pod", "other"}, failing=0, idle=1000)
    assert pulling._is_over(progress, {"pod", "other"}, failing=0, idle=3601)
    assert "in an hour" in progress.failing["other"]


def pod_of(item: dict[str, Any], **more: Any) -> dict[str, Any]:
    item["spec"]["template"]["spec"] |= more
    return item


def test_each_node_pulls_what_may_run_on_it() -> None:
    claim = {"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "mssql"}}]}
    objects = [
        pod_of(workload("StatefulSet", "mssql", "mssql", MSSQL), **claim),
        workload("DaemonSet", "collector", "observability", "example.com/collector:1", "observability"),
        pod_of(workload("Deployment", "server", "airflow", POSTGRES), imagePullSecrets=[{"name": "mine"}]),
        workload("Deployment", "own", "airflow", "localhost/etl:1"),
    ]
    nodes = [
        Node("data", "", True, True, True),
        Node("second", "", False, False, False, images=frozenset([POSTGRES])),
        Node("drained", "", False, False, False, is_schedulable=False),
        Node("down", "", False, False, False, is_ready=False),
    ]
    images = [MSSQL, "example.com/collector:1", POSTGRES, "localhost/etl:1", "example.com/bundled:1"]
    pulls = plan_pulls(Rendering(objects, images), nodes, nodes[0], {"example.com/bundled:1"})
    assert {(pull.image, pull.node) for pull in pulls} == {
        (MSSQL, "data"),
        *(("example.com/collector:1", name) for name in ("data", "second", "drained")),
        (POSTGRES, "data"),
    }
    assert {pull.image: pull.secrets for pull in pulls}[POSTGRES] == ("mine",)
    assert {pull.image: pull.namespace for pull in pulls}["example.com/collector:1"] == "observability"


@pytest.mark.parametrize(
    ("message", "words", "final"),
    [
        (ABSENT, "no such image", True),
        (NO_NETWORK, "cannot reach the registry", False),
        ("rpc error: code = Unknown desc = dial tcp 1.2.3.4:443: i/o timeout", "cannot reach the registry", False),
        ("rpc error: code = Unknown desc = proxyconnect tcp: dial tcp: connection refused", "behind a proxy", False),
        ('no match for platform in manifest: not found"', "no image for this node's architecture", True),
        ("pull access denied, repository does not exist or may require authorization", "asks for a login", True),
        ("429 Too Many Requests - toomanyrequests: You have reached your pull rate limit", "wait, or log in", False),
        ("tls: failed to verify certificate: x509: certificate signed by unknown authority", "does not trust", True),
        ("failed to extract layer: write /x: no space left on device", "disk is full", True),
        ("InvalidImageName: couldn't parse image name: invalid reference format", "correct its name", True),
        ("", "no reason is given", False),
    ],
)
def test_the_kubelet_s_words_are_followed_by_what_to_do(message: str, words: str, final: bool) -> None:
    assert words in explain(message)
    assert is_permanent(message) is final
