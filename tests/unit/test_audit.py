"""What the images bring is listed, may be passed on, and is looked up offline; the history holds no secret."""

import json
import re
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from scripts.audit import licences, secrets, vulnerabilities
from scripts.audit.packages import (
    IMAGES,
    ROOT,
    AuditError,
    bill_of_materials,
    debian_components,
    python_packages,
)
from scripts.deploy.images import DOCKERFILES


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


def test_debians_packages_are_read_from_the_status_file() -> None:
    status = (
        "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.41-12\nDescription: C library\n"
        " with: a colon\n\nPackage: gone\nStatus: deinstall ok config-files\nArchitecture: all\nVersion: 1\n"
    )
    (found,) = debian_components(status)
    assert found["purl"] == "pkg:deb/debian/libc6@2.41-12?arch=amd64"


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


def database(folder: Path, *affected: dict[str, Any], **more: Any) -> Path:
    """A file of the OSV database with one record."""
    file = folder / "all.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(
            "PYSEC-1.json", json.dumps({"id": "PYSEC-1", "summary": "It is bad.", **more, "affected": affected})
        )
    return file


def of(name: str, *events: dict[str, str], versions: tuple[str, ...] = (), ecosystem: str = "PyPI") -> dict[str, Any]:
    """What a record says of a package."""
    ranges = [{"type": "ECOSYSTEM", "events": list(events)}] if events else []
    return {"package": {"name": name, "ecosystem": ecosystem}, "ranges": ranges, "versions": list(versions)}


@pytest.mark.parametrize(
    ("affected", "versions"),
    [
        (of("Some.Package", {"introduced": "0"}, {"fixed": "1.5"}), {"1.4", "1.5rc1"}),
        (of("some_package", {"introduced": "1.5"}), {"1.5", "1.10"}),
        (of("some-package", {"introduced": "0"}, {"last_affected": "1.4"}), {"1.4"}),
        (of("some-package", {"introduced": "0"}, {"fixed": "1.4"}, {"introduced": "1.10"}), {"1.10"}),
        (of("some-package", versions=("1.4", "1.10")), {"1.4", "1.10"}),
        (of("other-package", {"introduced": "0"}), set()),
        (of("some-package", {"introduced": "0"}, ecosystem="npm"), set()),
    ],
)
def test_a_version_is_found_where_the_database_says_that_it_is_affected(
    tmp_path: Path, affected: dict[str, Any], versions: set[str]
) -> None:
    file = database(tmp_path, affected)
    given = ("1.4", "1.5rc1", "1.5", "1.10")
    found = {each.version for version in given for each in vulnerabilities.findings(file, {"some-package": version})}
    assert found == versions


def test_what_was_withdrawn_is_not_told(tmp_path: Path) -> None:
    file = database(tmp_path, of("x", {"introduced": "0"}), withdrawn="2026-01-01T00:00:00Z")
    assert vulnerabilities.findings(file, {"x": "1"}) == []


def test_a_database_that_is_none_is_no_proof(tmp_path: Path) -> None:
    file = tmp_path / "all.zip"
    file.write_text("an error page")
    with pytest.raises(AuditError, match="is no file of the OSV database"):
        vulnerabilities.findings(file, {"x": "1"})
    with zipfile.ZipFile(file, "w"):
        pass
    with pytest.raises(AuditError, match="holds no record"):
        vulnerabilities.findings(file, {"x": "1"})


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
