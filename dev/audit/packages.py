"""Packages of the images: Python's from the lock file, Debian's from the list in the image."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from ops.cluster.console import Console, DeployError
from ops.deploy.images.builders import BUILDERS
from ops.deploy.images.contents import Contents, read_contents
from ops.deploy.images.images import work_folder

ROOT = Path(__file__).resolve().parents[2]
IMAGES = {"etl": ("--package=etl", "--extra=engine"), "etl-airflow": ("--package=etl-airflow",)}
"""The images, and the arguments of `uv sync` in their Dockerfiles, which choose packages of the lock file."""


class AuditError(Exception):
    """A check that could not be made; the message is a sentence."""


def bill_of_materials(image: str) -> dict[str, Any]:
    """Bill of materials of an image from the lock file, with the hashes that `uv sync` checks, as CycloneDX 1.5.

    It includes packages for other Pythons and platforms.
    """
    uv = shutil.which("uv") or str(ROOT / ".uv" / "bin" / "uv")
    command = [uv, "export", "--quiet", "--frozen", "--no-dev", "--format=cyclonedx1.5", *IMAGES[image]]
    exported = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if exported.returncode:
        raise AuditError(f"uv could not read the lock file: {exported.stderr.strip()}")
    bill: dict[str, Any] = json.loads(exported.stdout)
    return bill


def python_packages(bill: dict[str, Any]) -> dict[str, str]:
    """Names and versions of the packages from PyPI."""
    return {
        each["name"]: each["version"] for each in bill["components"] if each.get("purl", "").startswith("pkg:pypi/")
    }


def built_contents(image: str) -> Contents:
    """Contents of a locally built image. Raises AuditError if there is none."""
    for builder in BUILDERS.values():
        if builder.problem() is None and builder.platform_of(image):
            with work_folder() as folder:
                archive = Path(folder) / "image.tar"
                try:
                    builder.save(Console(), image, archive)
                    return read_contents(archive)
                except DeployError as error:
                    raise AuditError(str(error)) from error
    raise AuditError(f"{image} has not been built here (scripts/apply-all.sh or --bundle builds it).")
