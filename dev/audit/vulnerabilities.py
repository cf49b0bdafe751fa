"""Known vulnerabilities of packages, from a folder with the OSV database, offline.

The folder has ECOSYSTEM/all.zip of https://osv-vulnerabilities.storage.googleapis.com for each ecosystem; the format is
described at https://ossf.github.io/osv-schema.
"""

import json
import re
import urllib.request
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from functools import cmp_to_key, partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote

from dev.audit.packages import AuditError
from dev.audit.severity import score_of
from dev.audit.versions import compare

ADDRESS = "https://osv-vulnerabilities.storage.googleapis.com"
ECOSYSTEMS = ("PyPI", "Debian")
"""Ecosystems of the packages in the images."""
_PURL = re.compile(r"pkg:(pypi|deb/debian)/([^@?]+)@([^?]+)(?:\?(.*))?")


class Package(NamedTuple):
    """A package under its name in the database: for Debian the source package."""

    ecosystem: str
    name: str
    version: str


class Finding(NamedTuple):
    """A vulnerability of a package, with all its ids."""

    package: Package
    ids: tuple[str, ...]
    score: float | None
    """CVSS score from 0 to 10; None if no record has one."""
    fixed: tuple[str, ...]
    """Fixed versions; empty if there are none yet."""
    summary: str


def packages_of(bill: Mapping[str, Any]) -> set[Package]:
    """The packages of a bill of materials in ecosystems of the database."""
    return set(filter(None, (_package(each.get("purl", "")) for each in bill["components"])))


def download(folder: Path, address: str = ADDRESS) -> None:
    """Download the newest database to a folder. Raises AuditError."""
    for ecosystem in ECOSYSTEMS:
        target = folder / ecosystem / "all.zip"
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_suffix(".part")
        try:
            urllib.request.urlretrieve(f"{address}/{ecosystem}/all.zip", part)  # noqa: S310 -- an address of ours
        except OSError as error:
            raise AuditError(
                f"The OSV database cannot be downloaded ({error}). Without a network, give a folder with it:"
                " make audit OSV=FOLDER (docs/supply-chain.md)."
            ) from error
        part.replace(target)


def findings(database: Path, packages: Iterable[Package]) -> list[Finding]:
    """The findings of the database on packages. Raises AuditError if it is incomplete."""
    wanted: dict[tuple[str, str], list[Package]] = {}
    for package in packages:
        wanted.setdefault((package.ecosystem, _plain(package)), []).append(package)
    found: list[Finding] = []
    for ecosystem in sorted({name.partition(":")[0] for name, _ in wanted}):
        for record in _records(database / ecosystem / "all.zip"):
            if "withdrawn" not in record:
                found += _matches(record, wanted)
    return sorted(_joined(found))


def _package(purl: str) -> Package | None:
    match = _PURL.fullmatch(purl)
    if not match:
        return None
    kind, name, version = match[1], unquote(match[2]), unquote(match[3])
    if kind == "pypi":
        return Package("PyPI", name, version)
    qualifiers = parse_qs(match[4] or "")
    release = qualifiers.get("distro", ["debian"])[0].partition("-")[2]
    source, _, source_version = qualifiers.get("upstream", [f"{name}@{version}"])[0].partition("@")
    return Package(f"Debian:{release}" if release else "Debian", source, source_version or version)


def _records(file: Path) -> Iterator[dict[str, Any]]:
    try:
        with zipfile.ZipFile(file) as archive:
            names = [name for name in archive.namelist() if name.endswith(".json")]
            for name in names:
                yield json.loads(archive.read(name))
    except (OSError, zipfile.BadZipFile, ValueError) as error:
        raise AuditError(f"{file} is no file of the OSV database: {error}") from error
    if not names:
        raise AuditError(f"{file} holds no record: nothing was checked.")


def _matches(record: dict[str, Any], wanted: Mapping[tuple[str, str], list[Package]]) -> Iterator[Finding]:
    ids = (record["id"], *record.get("aliases", ()), *record.get("upstream", ()))
    for affected in record.get("affected", []):
        named = affected.get("package", {})
        asked = Package(named.get("ecosystem", ""), named.get("name", ""), "")
        # Debian rates it as no vulnerability of its package.
        if affected.get("ecosystem_specific", {}).get("urgency") == "unimportant":
            continue
        for package in wanted.get((asked.ecosystem, _plain(asked)), ()):
            if _is_affected(affected, package):
                score = score_of(record, affected)
                yield Finding(package, ids, score, tuple(_fixed(affected)), record.get("summary", ""))


def _is_affected(affected: dict[str, Any], package: Package) -> bool:
    ranges = [each for each in affected.get("ranges", []) if each.get("type") == "ECOSYSTEM"]
    listed = package.version in affected.get("versions", [])
    return listed or any(_is_within(each["events"], package) for each in ranges)


def _is_within(events: list[dict[str, str]], package: Package) -> bool:
    """Whether the last event at or before the version marks it as vulnerable."""
    order = cmp_to_key(partial(compare, package.ecosystem))
    affected = False
    for kind, at in sorted((pair for event in events for pair in event.items()), key=lambda pair: order(pair[1])):
        since = compare(package.ecosystem, package.version, at)
        if kind == "last_affected":
            affected = affected and since <= 0
        elif since >= 0 and kind in ("introduced", "fixed"):
            affected = kind == "introduced"
    return affected


def _fixed(affected: dict[str, Any]) -> Iterator[str]:
    for each in affected.get("ranges", []):
        if each.get("type") == "ECOSYSTEM":
            yield from (event["fixed"] for event in each.get("events", []) if "fixed" in event)


def _joined(found: Iterable[Finding]) -> list[Finding]:
    """Findings merged by package and shared id: several databases describe the same vulnerability."""
    joined: list[Finding] = []
    for finding in found:
        same = [one for one in joined if one.package == finding.package and set(one.ids) & set(finding.ids)]
        joined = [one for one in joined if one not in same]
        group = [*same, finding]
        scores = [one.score for one in group if one.score is not None]
        joined.append(
            Finding(
                finding.package,
                tuple(sorted({name for one in group for name in one.ids})),
                max(scores, default=None),
                tuple(sorted({version for one in group for version in one.fixed})),
                next((one.summary for one in group if one.summary), ""),
            )
        )
    return joined


def _plain(package: Package) -> str:
    return re.sub(r"[-_.]+", "-", package.name).lower() if package.ecosystem == "PyPI" else package.name
