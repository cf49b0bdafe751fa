"""`apply-all.sh --bundle` and `--from-bundle`: one archive, checked, from which an installation needs nothing else."""

import errno
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from ops.deploy.cli import main
from ops.deploy.images.platforms import this_platform
from ops.deploy.options import PLATFORMS
from tests.doubles.fake_cluster import FakeCluster, node, workload

ROOT = Path(__file__).resolve().parents[2]
IMAGES = [
    "example.com/loki:3",
    "example.com/mssql:2022",
    "example.com/postgres:17",
    "localhost/etl-airflow:0.1.0",
    "localhost/etl:0.1.0",
]


@pytest.fixture
def cluster(cluster: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    """A machine with a checkout in which there is little."""
    checkout = tmp_path / "checkout"
    shutil.copytree(cluster.overlay, checkout / "k8s" / "overlays" / "single-node")
    (checkout / "scripts" / "__pycache__").mkdir(parents=True)
    (checkout / "scripts" / "__pycache__" / "x.pyc").touch()
    shutil.copy(ROOT / "scripts" / "apply-all.sh", checkout / "scripts")
    for module in ("up", "manifests.overlays"):
        monkeypatch.setattr(f"ops.deploy.{module}.ROOT", checkout)
    return cluster


@pytest.fixture
def bundle(cluster: FakeCluster) -> Path:
    files = cluster.folder / "k3s-files"
    files.mkdir()
    (files / "k3s").write_text("binary")
    # As install-k3s.sh --download-to puts them there.
    shutil.copytree(ROOT / "ops" / "k3s", files / "install-k3s")
    (files / "__pycache__").mkdir()
    (files / "__pycache__" / "x.pyc").touch()
    target = cluster.folder / "all.tar.gz"
    assert main([f"--bundle={target}", f"--k3s-files={files}"]) == 0
    return target


def install(cluster: FakeCluster, bundle: Path) -> int:
    """Install from a bundle and from nothing else."""
    shutil.rmtree(cluster.folder / "checkout")
    arguments = [word for word in cluster.arguments() if not word.startswith("--overlay")]
    return main([*arguments, f"--from-bundle={bundle}"])


def test_it_holds_every_image_the_project_and_a_checksum_of_each(bundle: Path) -> None:
    with tarfile.open(bundle) as tar:
        names = set(tar.getnames())
        content = tar.extractfile("etl-poc/manifest.json")
        assert content is not None
        manifest = json.load(content)
    assert sorted(manifest["images"]) == IMAGES
    assert names == {f"etl-poc/{name}" for name in manifest["sha256"]} | {"etl-poc/manifest.json"}
    expected = {"scripts/apply-all.sh", "k8s/overlays/single-node/rendered.yaml", "k3s/k3s"}
    assert expected | {"images/example.com_mssql_2022.tar"} <= manifest["sha256"].keys()
    assert not [name for name in names if "__pycache__" in name]


def test_writing_it_changes_no_cluster(cluster: FakeCluster, bundle: Path) -> None:
    assert cluster.changes() == []
    assert [line.split()[1] for line in cluster.tools() if "pull" in line.split()] == []


@pytest.mark.parametrize("unpacked", [False, True])
def test_an_installation_from_it_imports_all_images_and_builds_and_pulls_none(
    cluster: FakeCluster, bundle: Path, tmp_path: Path, unpacked: bool
) -> None:
    source = bundle
    if unpacked:
        subprocess.run(["tar", "--extract", "--file", bundle, "--directory", tmp_path], check=True)
        source = tmp_path / "etl-poc"
        assert os.access(source / "scripts" / "apply-all.sh", os.X_OK)
    cluster.forget_calls()
    assert install(cluster, source) == 0
    assert {line.split()[0] for line in cluster.tools()} == {"import-stub"}
    assert sorted(cluster.imported()) == sorted(cluster.pinned()) == IMAGES
    # The person's own files stay; those that were unpacked for this run go one by one.
    assert not unpacked or len(list((source / "images").iterdir())) == len(IMAGES)
    assert "Deployment/airflow-scheduler" in cluster.objects


def test_a_further_node_takes_the_images_alone_and_needs_no_cluster(cluster: FakeCluster, bundle: Path) -> None:
    cluster.forget_calls()
    assert main(["import", f"--from-bundle={bundle}", "--import-command=import-stub images import"]) == 0
    assert sorted(cluster.imported()) == sorted(cluster.pinned()) == IMAGES
    assert cluster.calls() == []
    far = node("far")
    far["status"] |= {"nodeInfo": {"bootID": "another"}, "images": []}
    cluster.change("Node/far", far)
    assert main(cluster.arguments()) == 0
    told = cluster.said().out
    assert "Node far lacks localhost/etl-airflow:0.1.0, localhost/etl:0.1.0: run `scripts/apply-all.sh import" in told


def test_the_script_that_installs_k3s_runs_from_it(bundle: Path, tmp_path: Path) -> None:
    subprocess.run(["tar", "--extract", "--file", bundle, "--directory", tmp_path], check=True)
    script = tmp_path / "etl-poc" / "k3s" / "install-k3s" / "install-k3s.sh"
    told = subprocess.run([script, "--help"], check=True, capture_output=True, text=True).stdout
    assert "--from-files FOLDER" in told


def test_a_damaged_one_is_refused_before_anything_is_changed(
    cluster: FakeCluster, bundle: Path, tmp_path: Path
) -> None:
    subprocess.run(["tar", "--extract", "--file", bundle, "--directory", tmp_path], check=True)
    (tmp_path / "etl-poc" / "images" / "localhost_etl_0.1.0.tar").write_text("other")
    assert install(cluster, tmp_path / "etl-poc") == 1
    assert "is damaged (images/localhost_etl_0.1.0.tar)" in cluster.said().err
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(bundle.read_bytes()[:-100])
    assert main(cluster.arguments(f"--from-bundle={cut}")) == 1
    assert "copy it again" in cluster.said().err
    assert cluster.changes() == []


def test_a_disk_that_is_too_small_to_unpack_it_is_no_damage(
    cluster: FakeCluster, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("ops.deploy.images.bundle.shutil.copyfileobj", full)
    assert main(cluster.arguments(f"--from-bundle={bundle}")) == 1
    assert "has no room for" in cluster.said().err
    assert cluster.changes() == []


def test_one_that_lacks_an_image_of_the_overlay_is_refused(cluster: FakeCluster, bundle: Path) -> None:
    settings = next(item for item in cluster.objects_to_render if item["kind"] == "ConfigMap")
    settings["data"]["ETL_IMAGE"] = "localhost/etl:0.2.0"
    cluster.write_overlay()
    assert main(cluster.arguments(f"--from-bundle={bundle}")) == 1
    assert "The bundle lacks localhost/etl:0.2.0" in cluster.said().err


def test_it_says_for_which_platform_it_is_and_is_refused_on_another(
    cluster: FakeCluster, bundle: Path, tmp_path: Path
) -> None:
    subprocess.run(["tar", "--extract", "--file", bundle, "--directory", tmp_path], check=True)
    assert json.loads((tmp_path / "etl-poc" / "manifest.json").read_text())["platform"] == this_platform()
    other = node("one")
    other["status"]["nodeInfo"]["architecture"] = "arm64" if this_platform() == PLATFORMS[0] else "amd64"
    cluster.change("Node/one", other)
    assert install(cluster, tmp_path / "etl-poc") == 1
    assert f"and the images are for {this_platform()}: take a bundle that was made" in cluster.said().err
    assert cluster.changes() == []


OTHER = next(platform for platform in PLATFORMS if platform != this_platform())


def test_one_for_another_platform_has_that_one_s_images(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp := cluster.folder / "binfmt").mkdir()
    monkeypatch.setattr("ops.deploy.images.bundle._EMULATORS", tmp)
    target = cluster.folder / "other.tar"
    words = [f"--bundle={target}", f"--platform={OTHER}"]
    assert main(words) == 1
    assert "install QEMU's emulation" in cluster.said().err
    for name in ("qemu-aarch64", "qemu-x86_64"):
        (tmp / name).touch()
    assert main(words) == 1
    assert f"for {this_platform()}, not for {OTHER}" in cluster.said().err
    (cluster.folder / "platform").write_text(OTHER)
    cluster.forget_calls()
    assert main(words) == 0
    assert all(f"--platform={OTHER}" in line for line in cluster.tools() if " build " in line)
    assert f"for {OTHER}" in cluster.said().out


def test_what_could_not_run_there_is_refused_before_anything_is_built(cluster: FakeCluster) -> None:
    files = cluster.folder / "k3s-files"
    files.mkdir()
    (files / "sha256sum-riscv64.txt").touch()
    target = cluster.folder / "other.tar"
    assert main([f"--bundle={target}", f"--k3s-files={files}"]) == 1
    assert "has K3s for riscv64" in cluster.said().err
    cluster.objects_to_render.append(workload("StatefulSet", "big", "mssql", "mcr.microsoft.com/mssql/server:2022"))
    for overlay in (cluster.overlay, cluster.folder / "checkout" / "k8s" / "overlays" / "single-node"):
        cluster.overlay = overlay
        cluster.write_overlay()
    assert main([f"--bundle={target}", "--platform=linux/arm64"]) == 1
    assert "no image of SQL Server for linux/arm64" in cluster.said().err
    assert not [line for line in cluster.tools() if " build " in line]


def test_nothing_is_written_outside_the_folder_it_is_unpacked_in(
    cluster: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evil = tmp_path / "evil.tar"
    with tarfile.open(evil, "w") as tar:
        tar.add(cluster.folder / "source-password", "../../escaped")
    scratch = tmp_path / "deep" / "scratch"
    scratch.mkdir(parents=True)
    monkeypatch.setattr("ops.deploy.images.images.large_temporary_folder", lambda: str(scratch))
    assert main(cluster.arguments(f"--from-bundle={evil}")) == 1
    assert not list(tmp_path.rglob("escaped"))
