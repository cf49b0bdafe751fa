"""Reports of osv-scanner on pulled images (https://google.github.io/osv-scanner/output/)."""

from collections.abc import Mapping
from typing import Any

from dev.audit.packages import AuditError
from dev.audit.vulnerabilities import Finding, Package


def findings(report: Mapping[str, Any]) -> list[Finding]:
    """The findings of a report. Raises AuditError."""
    try:
        return [
            _finding(package, group)
            for result in report["results"] or []
            for package in result["packages"]
            for group in package.get("groups", [])
            if not _is_unimportant(group)
        ]
    except (KeyError, TypeError) as error:
        raise AuditError(f"This is no report of osv-scanner: it lacks {error}.") from error
    except ValueError as error:
        raise AuditError(f"This is no report of osv-scanner: max_severity is no number ({error}).") from error


def _is_unimportant(group: Mapping[str, Any]) -> bool:
    """Whether the distribution rates it as no vulnerability of its package."""
    analysis = group.get("experimental_analysis") or {}
    return bool(analysis) and all(each.get("unimportant") for each in analysis.values())


def _finding(package: Mapping[str, Any], group: Mapping[str, Any]) -> Finding:
    named = Package(*(package["package"].get(key, "") for key in ("ecosystem", "name", "version")))
    ids = tuple(sorted({*group["ids"], *group.get("aliases", [])}))
    described = [each for each in package.get("vulnerabilities", []) if each.get("id") in ids]
    concerned = [affected for record in described for affected in record.get("affected", [])]
    named_so = [affected for affected in concerned if affected.get("package", {}).get("name") == named.name]
    fixed = {
        event["fixed"]
        # A record may name the source package. Without its fixes the finding would count as not fixed yet.
        for affected in named_so or concerned
        for each in affected.get("ranges", [])
        if each.get("type") != "GIT"
        for event in each.get("events", [])
        if "fixed" in event
    }
    summary = next((each["summary"] for each in described if each.get("summary")), "")
    severity = group.get("max_severity")
    return Finding(named, ids, float(severity) if severity else None, tuple(sorted(fixed)), summary)
