"""A bundle is signed, and verified before anything in it runs, by a program and a key that are not the bundle's."""

import json
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from ops.cluster.console import DeployError
from ops.deploy.cli import main
from ops.deploy.images import signing
from ops.deploy.images.contents import Contents
from tests.doubles.fake_cluster import FakeCluster

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="OpenSSH is not installed.")


@pytest.fixture
def cluster(cluster: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    checkout = tmp_path / "checkout"
    shutil.copytree(cluster.overlay, checkout / "k8s" / "overlays" / "single-node")
    for module in ("up", "manifests.overlays"):
        monkeypatch.setattr(f"ops.deploy.{module}.ROOT", checkout)
    return cluster


def new_key(folder: Path, name: str) -> Path:
    key = folder / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", key], check=True)
    return key


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return new_key(tmp_path, "bundle-key")


@pytest.fixture
def signers(tmp_path: Path, key: Path) -> Path:
    """As docs/operations.md writes it."""
    file = tmp_path / "signers"
    file.write_text(f'etl-poc namespaces="etl-poc-bundle" {key.with_suffix(".pub").read_text()}')
    return file


@pytest.fixture
def bundle(cluster: FakeCluster, key: Path) -> Path:
    target = cluster.folder / "etl.tar.gz"
    assert main([f"--bundle={target}", f"--sign-with={key}"]) == 0
    return target


def install(cluster: FakeCluster, bundle: Path, signers: Path) -> int:
    cluster.forget_calls()
    return main(cluster.arguments(f"--from-bundle={bundle}", f"--signers={signers}"))


def test_a_bundle_that_a_signer_has_signed_is_installed(cluster: FakeCluster, bundle: Path, signers: Path) -> None:
    assert install(cluster, bundle, signers) == 0
    assert f"The signature of {bundle} is by a signer in {signers}." in cluster.said().out


def test_the_commands_of_the_documentation_verify_it_before_anything_is_unpacked(bundle: Path, signers: Path) -> None:
    documented = (ROOT / "docs" / "operations.md").read_text()
    (block,) = re.findall(r"^(echo \"etl-poc namespaces=.*?) && cd etl-poc$", documented, re.MULTILINE | re.DOTALL)
    signers.unlink()  # the commands make it
    for damaged in (False, True):
        if damaged:
            shutil.rmtree(bundle.parent / "etl-poc")
            bundle.write_bytes(bundle.read_bytes()[:-1] + b"x")
        ran = subprocess.run(["bash", "-c", block], cwd=bundle.parent, capture_output=True, text=True, check=False)
        assert (ran.returncode == 0) is not damaged, ran.stderr
        assert (bundle.parent / "etl-poc").exists() is not damaged


def test_it_is_printed_how_to_verify_it(cluster: FakeCluster, key: Path) -> None:
    assert main([f"--bundle={cluster.folder / 'etl.tar'}", f"--sign-with={key}"]) == 0
    told = cluster.said().out
    assert "ssh-keygen -Y verify -f signers -I etl-poc -n etl-poc-bundle -s etl.tar.sig < etl.tar && tar" in told
    assert "is not signed" not in told


@pytest.mark.parametrize(
    "change", ["content", "signature", "no signature", "another's", "another purpose", "another file"]
)
def test_any_other_is_refused_before_anything_of_it_is_unpacked(
    cluster: FakeCluster, bundle: Path, signers: Path, key: Path, change: str, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    signature = signing.signature_of(bundle)
    match change:
        case "content":
            bundle.write_bytes(bundle.read_bytes() + b"\0")
        case "signature":
            signature.write_text("-----BEGIN SSH SIGNATURE-----\nno\n-----END SSH SIGNATURE-----\n")
        case "no signature":
            signature.unlink()
        case "another's":
            signature.unlink()
            other = new_key(cluster.folder, "other-key")
            subprocess.run(["ssh-keygen", "-Y", "sign", "-n", signing.NAMESPACE, "-f", other, bundle], check=True)
        case "another purpose":
            signature.unlink()
            subprocess.run(["ssh-keygen", "-Y", "sign", "-n", "git", "-f", key, bundle], check=True)
        case "another file":
            bundle.write_bytes(signers.read_bytes())
    monkeypatch.setattr("ops.deploy.cli.open_bundle", lambda *_: pytest.fail("It was opened."))
    assert install(cluster, bundle, signers) == 1
    assert re.search("has no valid signature|is not signed", cluster.said().err)
    assert cluster.changes() == []


def test_an_unpacked_one_is_not_asked_about_itself(cluster: FakeCluster, bundle: Path, signers: Path) -> None:
    with tarfile.open(bundle) as tar:
        tar.extractall(cluster.folder / "there", filter="data")
    assert install(cluster, cluster.folder / "there" / "etl-poc", signers) == 1
    assert "only the archive is signed" in cluster.said().err


def test_one_that_nobody_has_signed_or_verified_is_said_to_be_so(cluster: FakeCluster) -> None:
    target = cluster.folder / "etl.tar"
    assert main([f"--bundle={target}"]) == 0
    assert f"{target} is not signed" in cluster.said().out
    assert main(cluster.arguments(f"--from-bundle={target}")) == 0
    assert f"The signature of {target} is not verified" in cluster.said().out


def test_what_is_in_each_image_is_in_the_bundle(bundle: Path) -> None:
    with tarfile.open(bundle) as tar:
        bills = [name for name in tar.getnames() if name.startswith("etl-poc/sbom/")]
        assert len(bills) == len([name for name in tar.getnames() if name.startswith("etl-poc/images/")])
        for name in bills:
            content = tar.extractfile(name)
            assert content
            bill = json.load(content)
            assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
            assert ":" not in bill["metadata"]["component"]["name"]


def test_an_image_that_cannot_be_read_is_in_the_bundle_without_a_bill(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one of a newer Docker, with layers that zstd has compressed: containerd reads them."""

    def read(archive: Path) -> Contents:
        if "postgres" in archive.name:
            raise DeployError(f"{archive} is no archive of an image: not a gzip file")
        return Contents("debian-13", "", [])

    monkeypatch.setattr("ops.deploy.images.bundle.read_contents", read)
    target = cluster.folder / "etl.tar"
    assert main([f"--bundle={target}"]) == 0
    assert "example.com/postgres:17: the bundle has no bill of materials of it" in cluster.said().out
    with tarfile.open(target) as tar:
        names = tar.getnames()
    assert any(name.startswith("etl-poc/images/") and "postgres" in name for name in names)
    assert not any(name.startswith("etl-poc/sbom/") and "postgres" in name for name in names)


def test_a_bundle_of_images_by_digest_is_refused(cluster: FakeCluster) -> None:
    pinned = f"example.com/postgres:17@sha256:{'0' * 64}"
    file = cluster.folder / "checkout/k8s/overlays/single-node/rendered.yaml"
    file.write_text(file.read_text().replace("example.com/postgres:17", pinned))
    assert main([f"--bundle={cluster.folder / 'etl.tar'}"]) == 1
    assert "archives of images do not keep" in cluster.said().err


@pytest.mark.parametrize(
    "arguments", [["--sign-with={key}"], ["--signers={key}"], ["--bundle=x.tar", "--sign-with=nothing"]]
)
def test_options_that_would_do_nothing_are_refused(key: Path, arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        main([argument.format(key=key) for argument in arguments])
