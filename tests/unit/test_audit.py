"""Contents of the images are listed, redistributable, and looked up offline; the history holds no secret."""

import json
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from dev.audit import licences, secrets
from dev.audit.packages import IMAGES, ROOT, bill_of_materials, python_packages
from dev.audit.vulnerabilities import findings, packages_of
from ops.deploy.images.images import DOCKERFILES


@pytest.fixture(scope="module", params=sorted(IMAGES))
def image(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_an_image_is_listed_as_its_dockerfile_makes_it(image: str) -> None:
    dockerfile = (ROOT / DOCKERFILES[image]).read_text()
    (given,) = set(re.findall(r"uv sync --frozen --no-dev --no-(?:install-workspace|editable) (.*?) \\?", dockerfile))
    words = re.search(rf"--no-editable (--package {image}.*?) \\", dockerfile)
    assert given
    assert words
    assert words[1].removesuffix(" ${EXTRAS}").replace("--package ", "--package=").replace(
        "--extra ", "--extra="
    ).split() == list(IMAGES[image])


def test_every_package_of_the_list_has_a_version_and_hashes(image: str) -> None:
    bill = bill_of_materials(image)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    for component in bill["components"]:
        if component.get("purl", "").startswith("pkg:pypi/"):
            files = component["externalReferences"]
            assert all(re.fullmatch("[0-9a-f]{64}", file["hashes"][0]["content"]) for file in files), component["name"]
    assert len(python_packages(bill)) > 40


def test_every_licence_of_an_image_is_one_that_is_allowed(image: str) -> None:
    packages = python_packages(bill_of_materials(image))
    assert licences.refused(packages) == {}


def test_what_a_person_has_read_is_of_packages_that_are_there() -> None:
    packages = {name for image in IMAGES for name in python_packages(bill_of_materials(image))}
    assert set(licences.LOOKED_AT) <= packages


@pytest.mark.parametrize("said", ["", "GPL-3.0-only", "MIT AND GPL-3.0-only", "Other/Proprietary License", "UNKNOWN"])
def test_another_licence_is_refused(said: str) -> None:
    assert not licences.is_allowed(said)


def test_the_documentation_names_the_licence_that_is_proprietary() -> None:
    told = (ROOT / "docs" / "supply-chain.md").read_text()
    for words in licences.PROPRIETARY:
        assert words in told


def test_a_version_is_found_where_the_database_says_that_it_is_affected(image: str, tmp_path: Path) -> None:
    bill = bill_of_materials(image)
    version = python_packages(bill)["pydantic"]
    for fixed, ids in ((f"{version}.post1", {"PYSEC-1"}), (version, set())):
        events = [{"introduced": "0"}, {"fixed": fixed}]
        affected = {
            "package": {"name": "pydantic", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": events}],
        }
        (tmp_path / "PyPI").mkdir(exist_ok=True)
        with zipfile.ZipFile(tmp_path / "PyPI" / "all.zip", "w") as archive:
            archive.writestr("PYSEC-1.json", json.dumps({"id": "PYSEC-1", "affected": [affected]}))
        assert {name for found in findings(tmp_path, packages_of(bill)) for name in found.ids} == ids


needs_history = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="this is no checkout")


@needs_history
def test_no_secret_is_in_the_history() -> None:
    assert secrets.leaks(ROOT) == []


def test_a_secret_is_found_that_a_later_commit_has_taken_out(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        identity = ("-c", "user.name=n", "-c", "user.email=e@example.com", "-c", "commit.gpgsign=false")
        subprocess.run(["git", "-C", str(tmp_path), *identity, *words], check=True, capture_output=True)

    git("init", "--quiet")
    file = tmp_path / "tests" / "settings.py"
    file.parent.mkdir()
    # Put together here, so that the history of this project has no such text.
    file.write_text(
        "KEY = '"
        + "AKIA"
        + "Y3FD"
        + "Q7RWLKM5XTUZ"
        + "'\nTOKEN = '"
        + "ghp_"
        + "aB3dE5fG7hJ9kL2mN4pQ6rS8tU1vW3xY5zA7"
        + "'\n"
    )
    git("add", ".")
    git("commit", "--quiet", "--message=one")
    file.write_text("KEY = None\n")
    git("commit", "--quiet", "--all", "--message=two")
    found = secrets.leaks(tmp_path)
    assert found
    assert all("tests/settings.py:" in each for each in found)
    assert not any("aB3dE5" in each for each in found)


DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("tool", "answer", "passes"), [("skopeo", DIGEST, True), ("docker", DIGEST, True), ("skopeo", "", False)]
)
def test_images_are_pinned_to_what_their_registries_say(tmp_path: Path, tool: str, answer: str, passes: bool) -> None:
    """With a double of the tool that asks the registry."""
    double = tmp_path / tool
    double.write_text(f"#!/bin/sh\necho \"$@\" >> {tmp_path}/asked\necho '{answer}'\n")
    double.chmod(0o755)
    for needed in ("bash", "sed", "grep", "dirname", "cat"):  # and no other tool that would ask a real registry
        (tmp_path / needed).symlink_to(str(shutil.which(needed)))
    environment = {"PATH": str(tmp_path)}
    ran = subprocess.run(
        ["/usr/bin/env", "bash", ROOT / "scripts" / "pin-images.sh"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode == 0) is passes, ran.stderr
    if not passes:
        assert "the registry named no digest" in ran.stderr
        return
    listed = re.findall(
        r"newName: ([^,]+), newTag: ([^}]+)\}", (ROOT / "k8s/components/images/kustomization.yaml").read_text()
    )
    pulled = [(name, tag) for name, tag in listed if not name.startswith("localhost/")]
    assert len(pulled) > 10
    for name, tag in pulled:
        assert f"  - {{name: {name}, newName: {name}, digest: {DIGEST}}} # {tag}" in ran.stdout
        assert f"{name}:{tag}" in (tmp_path / "asked").read_text()
    assert "localhost/" not in ran.stdout
    assert ran.stdout.endswith(f" DEBIAN_IMAGE=docker.io/library/debian@{DIGEST}\n")
