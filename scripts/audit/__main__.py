"""Looks at what the images bring and at the history: `make audit`, with `OSV=FILE.zip` also without a network.

Writes a bill of materials for each image into .audit/. Ends with 1 where something is wrong or could not be looked at.
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from scripts.audit import licences, secrets, vulnerabilities
from scripts.audit.packages import (
    IMAGES,
    ROOT,
    AuditError,
    bill_of_materials,
    debian_components,
    debian_status,
    python_packages,
)

FOLDER = ROOT / ".audit"


def write_bills() -> bool:
    """Write a bill of materials for each image."""
    FOLDER.mkdir(exist_ok=True)
    complete = True
    for image in IMAGES:
        bill = bill_of_materials(image)
        try:
            debian = debian_components(debian_status(f"localhost/{image}:{bill['metadata']['component']['version']}"))
        except AuditError as error:
            print(f"{image}: Debian's packages are missing in its bill of materials: {error}")
            debian, complete = [], False
        bill["components"] += debian
        file = FOLDER / f"{image}.cdx.json"
        file.write_text(json.dumps(bill, indent=1) + "\n")
        print(f"{file.relative_to(ROOT)}: {len(python_packages(bill))} Python packages, {len(debian)} of Debian.")
    return complete


def check_licences() -> bool:
    """Whether every licence is allowed."""
    refused: dict[str, str] = {}
    for image in IMAGES:
        refused |= licences.refused(python_packages(bill_of_materials(image)))
    for package, said in refused.items():
        print(f"{package}: its licence is not one of those allowed: {said or 'it names none'}")
    print("Licences: " + ("look at those." if refused else "all are allowed."))
    return not refused


def check_vulnerabilities(database: Path | None) -> bool:
    """Whether nothing is known of the packages: by the database's file, else by asking OSV's service."""
    if database is None:
        uv = shutil.which("uv") or str(ROOT / ".uv" / "bin" / "uv")
        ended = subprocess.run(
            [uv, "audit", "--preview-features=audit-command", "--frozen", "--no-dev"], cwd=ROOT, check=False
        ).returncode
        if ended:
            print("Where api.osv.dev cannot be reached, give a file of its database: make audit OSV=all.zip")
        return ended == 0
    packages = {
        name: version for image in IMAGES for name, version in python_packages(bill_of_materials(image)).items()
    }
    found = vulnerabilities.findings(database, packages)
    for each in found:
        print(f"{each.package} {each.version}: {each.id}, fixed in {each.fixed or 'no version yet'}. {each.summary}")
    print(f"Known vulnerabilities of {len(packages)} packages: {len(found) or 'none'}.")
    return not found


def check_history() -> bool:
    """Whether the history holds no secret."""
    found = secrets.leaks(ROOT)
    for each in found:
        print(f"This looks like a secret: {each}")
    print("Secrets in the history: " + ("look at those." if found else "none."))
    return not found


def main() -> int:
    """Do everything, whatever fails in between."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--osv", type=Path, help="a file of the OSV database, to look in it instead of asking")
    options = parser.parse_args()
    checks: list[Callable[[], bool]] = [
        write_bills,
        check_licences,
        lambda: check_vulnerabilities(options.osv),
        check_history,
    ]
    passed = True
    for check in checks:
        try:
            passed = check() and passed
        except (AuditError, subprocess.CalledProcessError) as error:
            print(error)
            passed = False
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
