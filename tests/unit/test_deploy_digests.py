"""A tag keeps the content of its first pull: pods name the digest, and the registry can change nothing."""

import hashlib
import json

import pytest

from ops.cluster.images import explain, is_permanent
from ops.deploy.cli import main
from ops.deploy.images.digests import digest_in
from ops.deploy.images.images import name_on_node
from tests.doubles.fake_cluster import FakeCluster, node, workload

MSSQL, LOKI, POSTGRES = "example.com/mssql:2022", "example.com/loki:3", "example.com/postgres:17"
PULLED = (MSSQL, LOKI, POSTGRES)
OTHER = f"sha256:{'0' * 64}"


def digest(image: str) -> str:
    """The registry's content under a tag."""
    return f"sha256:{hashlib.sha256(image.encode()).hexdigest()}"


@pytest.fixture
def cluster(cluster: FakeCluster) -> FakeCluster:
    """A node without pulled images."""
    has(cluster)
    return cluster


def has(cluster: FakeCluster, *images: list[str], name: str = "one") -> None:
    """Set the images of a node, each with its names."""
    item = cluster.objects.get(f"Node/{name}") or node(name)
    item["status"]["images"] = [{"names": names} for names in images]
    cluster.change(f"Node/{name}", item)


def has_pulled(cluster: FakeCluster, name: str = "one") -> None:
    """Set the images of a node after a deployment: by digests, without tags."""
    has(cluster, *[[name_on_node(f"{image}@{digest(image)}"), image] for image in PULLED], name=name)


def images(cluster: FakeCluster) -> set[str]:
    """The images of the deployment's pods."""
    found = set()
    for item in cluster.objects.values():
        spec = item.get("spec", {})
        template = spec.get("jobTemplate", {}).get("spec", spec).get("template", {})
        found |= {one["image"] for one in template.get("spec", {}).get("containers", [])}
    return {image for image in found if not image.startswith("localhost/")}


def pulled(cluster: FakeCluster) -> dict[str, str]:
    """The pulled images with their pull policies."""
    (call,) = [call for call in cluster.calls("apply") if '"kind": "Pod"' in call["stdin"]]
    containers = [item["spec"]["containers"][0] for item in json.loads(call["stdin"])["items"]]
    return {container["image"]: container["imagePullPolicy"] for container in containers}


def test_pods_name_the_digest_that_the_registry_had_at_the_first_pull(cluster: FakeCluster) -> None:
    assert main(cluster.arguments()) == 0
    assert images(cluster) == {f"{image}@{digest(image)}" for image in PULLED}
    kept = json.loads(cluster.objects["ConfigMap/image-digests"]["data"]["digests.json"])
    assert kept == {image: digest(image) for image in PULLED}


def test_another_image_under_the_tag_is_not_deployed(cluster: FakeCluster) -> None:
    assert main(cluster.arguments()) == 0
    cluster.set(digests=dict.fromkeys(PULLED, OTHER))
    cluster.forget_calls()
    # The node has lost its images, as a new one would have none: they are asked for by what they were.
    assert main(cluster.arguments()) == 0
    assert pulled(cluster) == {f"{image}@{digest(image)}": "IfNotPresent" for image in PULLED}
    assert images(cluster) == {f"{image}@{digest(image)}" for image in PULLED}


def test_a_second_run_pulls_and_changes_nothing(cluster: FakeCluster) -> None:
    cluster.objects_to_render.append(workload("Job", "with-pulled-image", "mssql", POSTGRES))
    cluster.write_overlay()
    assert main(cluster.arguments()) == 0
    has_pulled(cluster)
    before = {name: json.dumps(item) for name, item in cluster.objects.items() if not name.startswith("Node")}
    cluster.forget_calls()
    assert main(cluster.arguments()) == 0
    assert not [call for call in cluster.calls("apply") if '"kind": "Pod"' in call["stdin"]]
    assert not [call for call in cluster.calls("delete") if '"kind": "Job"' in call["stdin"]]
    after = {name: json.dumps(item) for name, item in cluster.objects.items() if not name.startswith("Node")}
    assert after == before


def test_whoever_wants_what_the_tags_are_now_is_told_what_changed(cluster: FakeCluster) -> None:
    assert main(cluster.arguments()) == 0
    has_pulled(cluster)
    cluster.set(digests={MSSQL: OTHER})
    cluster.forget_calls()
    assert main(cluster.arguments("--new-digests")) == 0
    assert pulled(cluster) == dict.fromkeys(PULLED, "Always")
    assert images(cluster) == {f"{MSSQL}@{OTHER}", *(f"{image}@{digest(image)}" for image in (LOKI, POSTGRES))}
    told = cluster.said().out
    assert f"{MSSQL}: the digest changes from {digest(MSSQL)} to {OTHER}." in told
    assert told.count("the digest changes from") == 1


def test_another_tag_is_another_image(cluster: FakeCluster) -> None:
    assert main(cluster.arguments()) == 0
    newer = "example.com/postgres:18"
    cluster.objects_to_render[:] = json.loads(json.dumps(cluster.objects_to_render).replace(POSTGRES, newer))
    cluster.write_overlay()
    assert main(cluster.arguments()) == 0
    assert f"{newer}@{digest(newer)}" in images(cluster)
    assert POSTGRES not in json.loads(cluster.objects["ConfigMap/image-digests"]["data"]["digests.json"])


def test_what_a_node_has_already_is_pinned_without_a_pull(cluster: FakeCluster) -> None:
    has_pulled(cluster)
    assert main(cluster.arguments()) == 0
    assert not [call for call in cluster.calls("apply") if '"kind": "Pod"' in call["stdin"]]
    assert images(cluster) == {f"{image}@{digest(image)}" for image in PULLED}


def test_a_tag_that_changes_between_two_nodes_is_refused(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    far = node("far")
    far["status"] |= {"nodeInfo": {"bootID": "another"}, "images": []}
    cluster.change("Node/far", far)
    answers = iter([digest(MSSQL), OTHER] * 100)
    monkeypatch.setattr("tests.doubles.fake_kubectl.image_id", lambda _, image: f"{image[:-3]}@{next(answers)}")
    assert main(cluster.arguments()) == 1
    assert "was moved during the pull" in cluster.said().err
    assert not [name for name in cluster.objects if name.startswith(("Deployment/", "StatefulSet/"))]


def test_an_image_that_was_imported_keeps_its_tag_and_that_is_said(cluster: FakeCluster) -> None:
    has(cluster, [MSSQL], [f"elsewhere.example.com/loki@{OTHER}", LOKI], [POSTGRES])
    assert main(cluster.arguments()) == 0
    assert images(cluster) == set(PULLED)
    told = cluster.said().out
    assert all(f"{image} is not pinned: it was imported or not pulled" in told for image in PULLED)


def test_images_of_settings_are_left_to_the_settings(cluster: FakeCluster) -> None:
    """Airflow starts pods from them by name and tag, and the admission policy compares them with these."""
    own = "registry.example.com/etl:1"
    cluster.objects_to_render[:] = json.loads(json.dumps(cluster.objects_to_render).replace("localhost/etl:0.1.0", own))
    settings = next(item for item in cluster.objects_to_render if "ETL_IMAGE" in item.get("data", {}))
    settings["metadata"]["name"] = "airflow-common"
    cluster.write_overlay()
    assert main(cluster.arguments()) == 0
    assert own in images(cluster)
    assert not any(image.startswith(f"{own}@") for image in images(cluster))


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (f"docker.io/library/postgres@{OTHER}", OTHER),
        (f"docker-pullable://docker.io/library/postgres@{OTHER}", OTHER),
        (f"docker.io/library/mysql@{OTHER}", None),
        (OTHER, None),
        ("", None),
    ],
)
def test_a_digest_is_believed_of_the_image_itself_alone(answer: str, found: str | None) -> None:
    assert digest_in(answer, "docker.io/library/postgres:17") == found


@pytest.mark.parametrize(
    ("image", "name"),
    [
        (f"localhost:5000/a/b:1@{OTHER}", f"localhost:5000/a/b@{OTHER}"),
        (f"a/b@{OTHER}", f"a/b@{OTHER}"),
        ("localhost:5000/a/b:1", "localhost:5000/a/b:1"),
    ],
)
def test_a_node_lists_what_has_a_digest_without_its_tag(image: str, name: str) -> None:
    assert name_on_node(image) == name


def test_an_image_that_its_registry_has_no_longer_says_what_can_be_done() -> None:
    message = f'failed to resolve reference "example.com/mssql@{OTHER}": example.com/mssql@{OTHER}: not found'
    assert "--new-digests" in explain(message)
    assert is_permanent(message)


@pytest.mark.parametrize("kept", ["not JSON", '["a"]', '{"example.com/loki:3": "latest"}'])
def test_a_record_that_was_changed_is_said_to_be_so(cluster: FakeCluster, kept: str) -> None:
    assert main(cluster.arguments()) == 0
    record = cluster.objects["ConfigMap/image-digests"]
    cluster.change("ConfigMap/image-digests", record | {"data": {"digests.json": kept}})
    cluster.forget_calls()
    assert main(cluster.arguments()) == 1
    assert "The ConfigMap image-digests in etl-poc is not what was written there" in cluster.said().err
    assert cluster.changes() == []


@pytest.mark.parametrize("others", [["--from-bundle=."], ["--bundle=x.tar"], ["down"]], ids=str)
def test_new_digests_are_refused_where_no_registry_is_asked(others: list[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--new-digests", *others])
