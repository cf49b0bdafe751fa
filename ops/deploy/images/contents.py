"""The packages in an image, read from its archive without running it."""

import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from ops.cluster.console import DeployError

_STATUS = re.compile(r"var/lib/dpkg/status(\.d/[^/]+)?")
_RELEASE = "usr/lib/os-release"
_WHEEL = re.compile(r".*/site-packages/[^/]+\.dist-info/METADATA")
_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"


class Contents(NamedTuple):
    """The package databases of an image."""

    release: str
    """The distribution, such as debian-13."""
    status: str
    """The lists of dpkg."""
    wheels: list[str]
    """The metadata of Python packages."""


def read_contents(archive: Path) -> Contents:
    """Read an archive as `docker save` writes it. Raises DeployError."""
    files: dict[str, str] = {}
    try:
        with tarfile.open(archive) as tar:
            manifest = tar.extractfile("manifest.json")
            layers = json.load(manifest)[0]["Layers"] if manifest else []
            for layer in layers:
                with tarfile.open(fileobj=tar.extractfile(layer)) as content:
                    _apply_layer(files, content)
    except (OSError, KeyError, ValueError, tarfile.TarError) as error:
        raise DeployError(f"{archive} is no archive of an image: {error}") from error
    release = dict(line.split("=", 1) for line in files.get(_RELEASE, "").splitlines() if "=" in line)
    name, version = (release.get(key, "").strip('"') for key in ("ID", "VERSION_ID"))
    lists = [text for path, text in sorted(files.items()) if _STATUS.fullmatch(path)]
    return Contents(
        f"{name}-{version}" if version else name,
        "\n\n".join(lists),
        [text for path, text in sorted(files.items()) if _WHEEL.fullmatch(path)],
    )


def bill_of(contents: Contents, name: str, version: str) -> dict[str, Any]:
    """A bill of materials as CycloneDX 1.5, without a timestamp: reproducible."""
    components = [*debian_components(contents), *_python_components(contents)]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": name, "version": version}},
        "components": sorted(components, key=lambda each: str(each["purl"])),
    }


def debian_components(contents: Contents) -> list[dict[str, Any]]:
    """The installed packages of dpkg's databases, as CycloneDX components.

    Debian's advisories refer to source packages; `upstream` names the source package where it differs.
    """
    components = []
    family = contents.release.partition("-")[0] or "debian"
    for fields in map(_fields, contents.status.split("\n\n")):
        if "Package" not in fields or not fields.get("Status", "ok installed").endswith(" installed"):
            continue
        name, version, architecture = fields["Package"], fields["Version"], fields.get("Architecture", "all")
        source = re.fullmatch(r"(\S+)(?: \((\S+)\))?", fields.get("Source", name))
        purl = f"pkg:deb/{family}/{quote(name)}@{quote(version)}?arch={architecture}"
        if contents.release:
            purl += f"&distro={contents.release}"
        if source and (source[1], source[2] or version) != (name, version):
            purl += f"&upstream={quote(f'{source[1]}@{source[2] or version}')}"
        components.append(_component(name, version, purl))
    return components


def _python_components(contents: Contents) -> Iterator[dict[str, Any]]:
    for fields in map(_fields, contents.wheels):
        name = re.sub(r"[-_.]+", "-", fields["Name"]).lower()
        yield _component(name, fields["Version"], f"pkg:pypi/{name}@{quote(fields['Version'])}")


def _component(name: str, version: str, purl: str) -> dict[str, Any]:
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


def _fields(paragraph: str) -> dict[str, str]:
    """The fields of the first paragraph, without continuation lines."""
    head = paragraph.strip("\n").partition("\n\n")[0]
    lines = [line for line in head.splitlines() if ":" in line and not line[0].isspace()]
    return {name: value.strip() for name, _, value in (line.partition(":") for line in reversed(lines))}


def _apply_layer(files: dict[str, str], layer: tarfile.TarFile) -> None:
    """Apply a layer: added files and whiteouts."""
    added = {}
    for entry in layer:
        path = entry.name.removeprefix("./").lstrip("/")
        folder, _, last = path.rpartition("/")
        if last.startswith(_WHITEOUT):
            gone = f"{folder}/" if last == _OPAQUE else f"{folder}/{last.removeprefix(_WHITEOUT)}".lstrip("/")
            for known in [known for known in files if known == gone or known.startswith(f"{gone.rstrip('/')}/")]:
                del files[known]
        elif entry.isfile() and (path == _RELEASE or _STATUS.fullmatch(path) or _WHEEL.fullmatch(path)):
            content = layer.extractfile(entry)
            added[path] = content.read().decode(errors="replace") if content else ""
    files.update(added)
