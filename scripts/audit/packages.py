"""The packages of an image: Python's by the lock file, Debian's by the status file in the image."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
IMAGES = {"etl": ("--package=etl", "--extra=engine"), "etl-airflow": ("--package=etl-airflow",)}
"""Our images, and which packages of the lock file each has: what their Dockerfiles give to `uv sync`."""
_ENGINES = ("docker", "podman")


class AuditError(Exception):
    """What could not be looked at, in a sentence."""


def bill_of_materials(image: str) -> dict[str, Any]:
    """What the lock file says of an image, with the hashes that `uv sync` insists on, as CycloneDX 1.5.

    Packages that are for another Python or platform only are in it, too.
    """
    uv = shutil.which("uv") or str(ROOT / ".uv" / "bin" / "uv")
    command = [uv, "export", "--quiet", "--frozen", "--no-dev", "--format=cyclonedx1.5", *IMAGES[image]]
    exported = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if exported.returncode:
        raise AuditError(f"uv could not read the lock file: {exported.stderr.strip()}")
    bill: dict[str, Any] = json.loads(exported.stdout)
    return bill


def python_packages(bill: dict[str, Any]) -> dict[str, str]:
    """The names and versions of the packages of the Python Package Index."""
    return {
        each["name"]: each["version"] for each in bill["components"] if each.get("purl", "").startswith("pkg:pypi/")
    }


def debian_status(image: str) -> str:
    """The list of Debian's packages in a built image. Raises AuditError where it cannot be read."""
    for engine in filter(shutil.which, _ENGINES):
        command = [engine, "run", "--rm", "--network=none", "--entrypoint=cat", image, "/var/lib/dpkg/status"]
        read = subprocess.run(command, capture_output=True, text=True, check=False)
        if not read.returncode:
            return read.stdout
    raise AuditError(f"{image} has not been built here, or neither docker nor podman can run it.")


def debian_components(status: str) -> list[dict[str, Any]]:
    """The installed packages of a status file of dpkg, as components of CycloneDX."""
    components = []
    for paragraph in status.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line and line[0] != " ")
        if not fields.get("Status", "").endswith(" installed"):
            continue
        name, version, architecture = fields["Package"], fields["Version"], fields["Architecture"]
        purl = f"pkg:deb/debian/{name}@{version}?arch={architecture}"
        components.append({"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl})
    return components
