"""Images on a real node: pulled before anything waits for them, and imported so that they stay."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from dev.sandbox.process import die_with_parent
from ops.cluster.console import Console, DeployError
from ops.cluster.kubectl import Kubectl, as_list
from ops.deploy.images.images import import_images, pin_command
from ops.deploy.images.pulling import Pull, pull_images
from tests.cluster.building.images import program_image
from tests.cluster.node.configuration import NODE
from tests.doubles.registry import add_image
from tests.harness.e2e.deployment import wait_for
from tests.harness.e2e.testbed import TestBed

PORT = 5000
REGISTRY = f"127.0.0.1:{PORT}/some"
BYTES = 3_000_000
NAMESPACE = "pulls"


def pull(image: str, *, needed: bool = True) -> Pull:
    return Pull(NODE, f"{REGISTRY}/{image}", NAMESPACE, (), needed)


@pytest.fixture
def registry(bed: TestBed, tmp_path: Path) -> Iterator[Path]:
    """One that the node reaches, with an image for it and one for another architecture; and a restricted namespace."""
    if not bed.cluster:
        pytest.skip("The node's network has to be entered.")
    add_image(tmp_path, "here", "amd64", BYTES)
    add_image(tmp_path, "elsewhere", "s390x", BYTES)
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}
    Kubectl().run("apply", "--filename=-", stdin=as_list([namespace]))
    network = f"--net=/proc/{bed.cluster.namespaces}/ns/net"
    command = ["nsenter", network, sys.executable, "-m", "tests.doubles.registry", str(tmp_path), str(PORT)]
    with subprocess.Popen(command, preexec_fn=die_with_parent) as process:
        probe = ["nsenter", network, "bash", "-c", f": < /dev/tcp/127.0.0.1/{PORT}"]
        wait_for("the registry", lambda: subprocess.run(probe, capture_output=True, check=False).returncode == 0, 30)
        try:
            yield tmp_path
        finally:
            process.terminate()
            Kubectl().run("delete", "namespace", NAMESPACE, seconds=0)


def test_an_image_is_pulled_by_the_kubelet_and_its_bytes_are_known(
    registry: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    came = pull_images(Console(), Kubectl(), [pull("image:here")])
    assert BYTES < came.size < BYTES * 1.1
    assert f"1 of 1: {REGISTRY}/image:here, 3.0 MB" in capsys.readouterr().out

    def listed() -> bool:
        (node,) = Kubectl().items("nodes")
        return any(f"{REGISTRY}/image:here" in (image.get("names") or ()) for image in node["status"]["images"])

    wait_for("the node to name the image", listed, 60)
    assert Kubectl().items("pods", "--namespace", NAMESPACE) == []


def test_an_image_is_pulled_by_the_digest_that_its_tag_had_first(registry: Path) -> None:
    tagged = pull("image:moving")
    add_image(registry, "moving", "amd64", BYTES)
    digest = pull_images(Console(), Kubectl(), [tagged]).digests[tagged.image]
    assert digest in {file.name for file in registry.iterdir()}
    add_image(registry, "moving", "amd64", BYTES)  # the tag is moved to another image
    pinned = pull(f"image:moving@{digest}")
    assert pull_images(Console(), Kubectl(), [pinned]).digests == {pinned.image: digest}
    again = replace(tagged, again=True)
    assert pull_images(Console(), Kubectl(), [again]).digests[tagged.image] != digest


def test_the_reason_is_said_at_once_where_an_image_cannot_be_had(
    registry: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pulls = [pull("image:absent"), pull("image:elsewhere")]
    with pytest.raises(DeployError) as refused:
        pull_images(Console(), Kubectl(), pulls)
    assert "image:absent on" in str(refused.value)
    assert "the registry has no such image" in str(refused.value)
    assert "the registry has no image for this node's architecture" in str(refused.value)
    assert Kubectl().items("pods", "--namespace", NAMESPACE) == []
    pull_images(Console(), Kubectl(), [pull("image:absent", needed=False)])
    assert "Airflow goes on without it" in capsys.readouterr().out


def test_an_imported_image_is_pinned_also_when_it_is_imported_again(bed: TestBed, tmp_path: Path) -> None:
    label = pin_command(bed.import_command)
    assert label
    image = "localhost/pinned:1"
    program_image(tmp_path / "image.tar", image, Path("/bin/true"))

    def importing(console: Console, _image: str, command: Sequence[str]) -> None:
        with (tmp_path / "image.tar").open("rb") as content:
            subprocess.run([*command, "/dev/stdin"], stdin=content, check=True)

    listing = [*label[:-1], "list", f"name=={image}"]
    for _ in range(2):
        import_images(Console(), None, None, {image: "one"}, importing, bed.import_command)
        listed = subprocess.run(listing, check=True, capture_output=True, text=True).stdout
        assert "io.cri-containerd.pinned=pinned" in listed
    subprocess.run([*bed.import_command, str(tmp_path / "image.tar")], check=True)
    print(subprocess.run(listing, check=True, capture_output=True, text=True).stdout)
    subprocess.run([*label[:-1], "rm", image], check=True)
