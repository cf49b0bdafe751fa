"""Vulnerabilities that are accepted until a date: `osv-scanner.toml`, in the format of osv-scanner."""

import tomllib
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import NamedTuple

from dev.audit.packages import ROOT, AuditError
from dev.audit.severity import LEVELS, level_of
from dev.audit.vulnerabilities import Finding

FILE = ROOT / "osv-scanner.toml"
_DISTRIBUTIONS = ("Debian", "Ubuntu", "Alpine")


class Accepted(NamedTuple):
    """An exception, with its reason and end."""

    id: str
    until: date
    reason: str


class Verdict(NamedTuple):
    """One line for each finding, and whether all are accepted."""

    lines: list[str]
    passes: bool


def read_accepted(file: Path = FILE) -> list[Accepted]:
    """The exceptions of a file. Raises AuditError if one lacks its reason or end."""
    try:
        entries = tomllib.loads(file.read_text()).get("IgnoredVulns", [])
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise AuditError(f"{file.name} cannot be read: {error}") from error
    accepted = []
    for entry in entries:
        until = entry.get("ignoreUntil")
        # A datetime is a date as well.
        if not entry.get("id") or not entry.get("reason", "").strip() or not isinstance(until, date):
            raise AuditError(
                f"{file.name}: the exception {entry.get('id', 'without an id')} needs an id, a reason, and a date"
                " `ignoreUntil` (without quotes)."
            )
        accepted.append(Accepted(entry["id"], date(until.year, until.month, until.day), entry["reason"].strip()))
    return accepted


def judge(found: Iterable[Finding], accepted: Iterable[Accepted], level: str, today: date) -> Verdict:
    """Refuse findings at the level or above, or of unknown severity, unless they are accepted.

    Findings in a distribution without a fixed version are listed, not refused: there is nothing to install instead.
    """
    lines, refused, used = [], 0, set[str]()
    accepted = list(accepted)
    for finding in found:
        exception = next((each for each in accepted if each.id in finding.ids), None)
        used |= {exception.id} if exception else set()
        if exception and today <= exception.until:
            why = f"accepted until {exception.until}: {exception.reason}"
        elif finding.score is not None and finding.score < LEVELS[level]:
            why = f"below {level}"
        elif finding.package.ecosystem.startswith(_DISTRIBUTIONS) and not finding.fixed:
            why = f"{finding.package.ecosystem} has no fixed version yet"
        else:
            refused += 1
            why = f"NOT ACCEPTED: its exception ended on {exception.until}" if exception else "NOT ACCEPTED"
        lines.append(f"{_described(finding)}: {why}")
    lines += [
        f"{each.id} is accepted and was not found: its exception can go." for each in accepted if each.id not in used
    ]
    lines.append(f"{refused or 'No'} vulnerabilities at {level} or above, or of unknown severity, are not accepted.")
    return Verdict(lines, passes=not refused)


def _described(finding: Finding) -> str:
    package, severity = finding.package, level_of(finding.score)
    score = "" if finding.score is None else f" {finding.score:.1f}"
    fixed = f", fixed in {' or '.join(finding.fixed)}" if finding.fixed else ""
    summary = f" ({finding.summary})" if finding.summary else ""
    return f"{severity}{score}: {package.name} {package.version}, {' = '.join(finding.ids)}{fixed}{summary}"
