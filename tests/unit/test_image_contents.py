"""Packages of an image are read from its archive, whatever built it, and listed."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from dev.audit import packages
from dev.audit.packages import AuditError, built_contents
from ops.cluster.console import Console, DeployError
from ops.deploy.images.builders import Builder
from ops.deploy.images.contents import bill_of, debian_components, read_contents

RELEASE = 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nID=debian\nVERSION_ID="13"\n'
STATUS = (
    "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nSource: glibc\nVersion: 2.41-12\n"
    "Description: C library\n with: a colon\n\n"
    "Package: gone\nStatus: deinstall ok config-files\nArchitecture: all\nVersion: 1\n\n"
    "Package: libgcc-s1\nStatus: install ok installed\nSource: gcc-14 (14.2.0-19)\nVersion: 1:14.2.0-19+b1\n"
)
WHEEL = "Metadata-Version: 2.4\nName: Some_Package\nVersion: 1.2\n\nVersion: 9 is in the text\n"
SITE = "opt/etl/lib/python3.13/site-packages"


def layer(files: dict[str, str]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text.encode())
            tar.addfile(entry, io.BytesIO(text.encode()))
    return content.getvalue()


def image(file: Path, *layers: dict[str, str]) -> Path:
    """An archive as `docker save`, podman and buildah write it."""
    names = [f"{number}/layer.tar" for number in range(len(layers))]
    parts = dict(zip(names, map(layer, layers), strict=True))
    parts["manifest.json"] = json.dumps([{"Config": "config.json", "Layers": names}]).encode()
    with tarfile.open(file, "w") as tar:
        for name, content in parts.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return file


def purls(archive: Path) -> list[str]:
    return [each["purl"] for each in bill_of(read_contents(archive), "etl", "1")["components"]]


def test_debians_packages_are_listed_with_their_sources_and_pythons_with_their_versions(tmp_path: Path) -> None:
    archive = image(
        tmp_path / "image.tar",
        {"usr/lib/os-release": RELEASE, "./var/lib/dpkg/status": STATUS},
        {f"{SITE}/some_package-1.2.dist-info/METADATA": WHEEL},
    )
    assert purls(archive) == [
        "pkg:deb/debian/libc6@2.41-12?arch=amd64&distro=debian-13&upstream=glibc%402.41-12",
        "pkg:deb/debian/libgcc-s1@1%3A14.2.0-19%2Bb1?arch=all&distro=debian-13&upstream=gcc-14%4014.2.0-19",
        "pkg:pypi/some-package@1.2",
    ]


def test_a_later_layer_counts(tmp_path: Path) -> None:
    package = f"{SITE}/some_package-1.2.dist-info"
    newer = STATUS.replace("2.41-12", "2.41-13")
    first = {f"{package}/METADATA": WHEEL, "var/lib/dpkg/status": STATUS}
    archive = image(tmp_path / "image.tar", first, {"var/lib/dpkg/status": newer})
    assert "pkg:deb/debian/libc6@2.41-13?arch=amd64&upstream=glibc%402.41-13" in purls(archive)
    for gone in (f"{package}/.wh.METADATA", f"{SITE}/.wh.some_package-1.2.dist-info", f"{SITE}/.wh..wh..opq"):
        archive = image(tmp_path / "image.tar", first, {gone: ""})
        assert "pkg:pypi/some-package@1.2" not in purls(archive)
        assert len(purls(archive)) == 2


def test_an_image_without_a_shell_lists_its_packages_one_by_one(tmp_path: Path) -> None:
    paragraph = "Package: tzdata\nArchitecture: all\nVersion: 2026a-0\n"
    archive = image(tmp_path / "image.tar", {"usr/lib/os-release": RELEASE, "var/lib/dpkg/status.d/tzdata": paragraph})
    (found,) = debian_components(read_contents(archive))
    assert found["purl"] == "pkg:deb/debian/tzdata@2026a-0?arch=all&distro=debian-13"


def test_what_is_no_image_is_told_and_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    file = tmp_path / "image.tar"
    file.write_text("an error page")
    with pytest.raises(DeployError, match="is no archive of an image"):
        read_contents(file)


class Has(Builder):
    """A builder that has one image."""

    def __init__(self, archive: Path) -> None:
        self.archive = archive

    def problem(self) -> str | None:
        return None

    def platform_of(self, image: str) -> str:
        return "linux/amd64" if image == "localhost/etl:1" else ""

    def save(self, console: Console, image: str, archive: Path) -> None:
        archive.write_bytes(self.archive.read_bytes())

    def save_command(self, image: str, archive: str) -> list[str]:
        raise NotImplementedError


def test_an_image_that_was_built_here_is_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = image(tmp_path / "image.tar", {"usr/lib/os-release": RELEASE, "var/lib/dpkg/status": STATUS})
    monkeypatch.setattr(packages, "BUILDERS", {"one": Has(archive)})
    assert len(debian_components(built_contents("localhost/etl:1"))) == 2
    with pytest.raises(AuditError, match="has not been built here"):
        built_contents("localhost/etl:2")
