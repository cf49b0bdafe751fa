"""`make audit`: audits the packages of the images and the git history; offline with `OSV=FOLDER`.

Writes a bill of materials for each image into .audit/. Exits with 1 if something is refused or cannot be checked.
"""

import argparse
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dev.audit import exceptions, licences, reports, secrets, vulnerabilities
from dev.audit.packages import IMAGES, ROOT, AuditError, bill_of_materials, built_contents, python_packages
from dev.audit.severity import LEVELS
from ops.deploy.images.contents import debian_components

FOLDER = ROOT / ".audit"


def write_bills() -> bool:
    """Write a bill of materials for each image."""
    FOLDER.mkdir(exist_ok=True)
    complete = True
    for image in IMAGES:
        bill = bill_of_materials(image)
        try:
            debian = debian_components(built_contents(f"localhost/{image}:{bill['metadata']['component']['version']}"))
        except AuditError as error:
            print(f"{image}: Debian's packages are missing in its bill of materials: {error}")
            debian, complete = [], False
        bill["components"] += debian
        file = _bill_file(image)
        file.write_text(json.dumps(bill, indent=1) + "\n")
        print(f"{file.relative_to(ROOT)}: {len(python_packages(bill))} Python packages, {len(debian)} of Debian.")
    return complete


def check_licences() -> bool:
    """Whether every licence is allowed."""
    refused: dict[str, str] = {}
    for image in IMAGES:
        refused |= licences.refused(python_packages(bill_of_materials(image)))
    lines = [
        f"{name}: its licence is not one of those allowed: {one or 'it names none'}" for name, one in refused.items()
    ]
    return _printed(lines, "Licences", "all are allowed.")


def check_vulnerabilities(options: argparse.Namespace) -> bool:
    """Whether no severe vulnerability is known of the packages, but accepted ones."""
    if not options.osv:
        print("Downloading the OSV database …")
        vulnerabilities.download(FOLDER / "osv")
    bills: list[dict[str, Any]] = [json.loads(_bill_file(image).read_text()) for image in IMAGES]
    bills += [_read(file) for file in options.sbom]
    packages = set().union(*map(vulnerabilities.packages_of, bills))
    found = vulnerabilities.findings(options.osv or FOLDER / "osv", packages)
    for file in options.report:
        found += reports.findings(_read(file))
    verdict = exceptions.judge(found, exceptions.read_accepted(), options.level, datetime.now(UTC).date())
    print("\n".join(verdict.lines))
    return verdict.passes


def check_history() -> bool:
    """Whether the history has no secrets."""
    lines = [f"This looks like a secret: {each}" for each in secrets.leaks(ROOT)]
    return _printed(lines, "Secrets in the history", "none.")


def _printed(lines: list[str], title: str, otherwise: str) -> bool:
    """Print findings and a line about them; whether there are none."""
    print("\n".join([*lines, f"{title}: {'look at those.' if lines else otherwise}"]))
    return not lines


def main() -> int:
    """Run all checks, also after one has failed; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    database = "with PyPI/all.zip and Debian/all.zip; default: download them"
    parser.add_argument("--osv", type=Path, metavar="FOLDER", help=database)
    parser.add_argument("--level", choices=LEVELS, default="high", help="lowest level of refused vulnerabilities")
    files: dict[str, Any] = {"type": Path, "metavar": "FILE", "nargs": "*", "default": []}
    parser.add_argument("--sbom", help="further bills of materials (CycloneDX)", **files)
    parser.add_argument("--report", help="reports of osv-scanner (--format json) on images", **files)
    options = parser.parse_args()
    passed = True
    for check in (write_bills, check_licences, lambda: check_vulnerabilities(options), check_history):
        try:
            passed = check() and passed
        except (AuditError, subprocess.CalledProcessError) as error:
            print(error)
            passed = False
    return 0 if passed else 1


def _bill_file(image: str) -> Path:
    return FOLDER / f"{image}.cdx.json"


def _read(file: Path) -> dict[str, Any]:
    try:
        read: dict[str, Any] = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise AuditError(f"{file} cannot be read: {error}") from error
    return read


if __name__ == "__main__":
    sys.exit(main())
