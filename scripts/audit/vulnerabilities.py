"""Known vulnerabilities, from a file of the OSV database: no network is needed.

The file is PyPI/all.zip of https://osv-vulnerabilities.storage.googleapis.com; its format is told at
https://ossf.github.io/osv-schema.
"""

import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from packaging.version import InvalidVersion, Version

from scripts.audit.packages import AuditError


class Finding(NamedTuple):
    """A vulnerability of a package."""

    package: str
    version: str
    id: str
    fixed: str
    summary: str


def findings(database: Path, packages: Mapping[str, str]) -> list[Finding]:
    """What the database knows of these packages at these versions. Raises AuditError where it is none."""
    try:
        with zipfile.ZipFile(database) as archive:
            records = [json.loads(archive.read(name)) for name in archive.namelist() if name.endswith(".json")]
    except (OSError, zipfile.BadZipFile, ValueError) as error:
        raise AuditError(f"{database} is no file of the OSV database: {error}") from error
    if not records:
        raise AuditError(f"{database} holds no record: nothing was looked for.")
    known = {_plain(name): (name, version) for name, version in packages.items()}
    return sorted(found for record in records if "withdrawn" not in record for found in _matches(record, known))


def _matches(record: dict[str, Any], known: Mapping[str, tuple[str, str]]) -> Iterator[Finding]:
    for affected in record.get("affected", []):
        package = affected.get("package", {})
        name, version = known.get(_plain(package.get("name", "")), ("", ""))
        if package.get("ecosystem") == "PyPI" and version and _is_affected(affected, version):
            yield Finding(name, version, record["id"], _fixed(affected), record.get("summary", ""))


def _is_affected(affected: dict[str, Any], version: str) -> bool:
    ranges = [each for each in affected.get("ranges", []) if each.get("type") == "ECOSYSTEM"]
    return version in affected.get("versions", []) or any(_is_within(each["events"], version) for each in ranges)


def _is_within(events: list[dict[str, str]], version: str) -> bool:
    """Whether the last event at or before the version makes it a vulnerable one."""
    here = Version(version)
    affected = False
    for kind, at in sorted(
        ((kind, at) for event in events for kind, at in event.items()), key=lambda each: _at(each[1])
    ):
        if kind == "last_affected":
            affected = affected and here <= _at(at)
        elif _at(at) <= here:
            affected = kind == "introduced"
    return affected


def _at(text: str) -> Version:
    try:
        return Version(text)  # "0" is before all
    except InvalidVersion:
        return Version("0")


def _fixed(affected: dict[str, Any]) -> str:
    events = [event for each in affected.get("ranges", []) for event in each.get("events", [])]
    return ", ".join(event["fixed"] for event in events if "fixed" in event and len(event["fixed"]) < 30)


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
