"""Known vulnerabilities are found without a network, and only those pass that are accepted, until their date."""

import json
import shutil
import subprocess
import sys
import zipfile
from datetime import date
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dev.audit import __main__ as audit
from dev.audit import exceptions, vulnerabilities
from dev.audit.exceptions import Accepted, judge, read_accepted
from dev.audit.packages import IMAGES, AuditError
from dev.audit.reports import findings as reported
from dev.audit.severity import score_of
from dev.audit.versions import compare_debian
from dev.audit.vulnerabilities import Finding, Package, findings, packages_of
from tests.doubles.http_server import serving

CRITICAL = [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}]  # 9.8
HIGH = [{"type": "CVSS_V4", "score": "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:N/VA:N/SC:N/SI:N/SA:N"}]  # 8.7
LOW = [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:L/AC:H/PR:H/UI:R/S:U/C:L/I:N/A:N"}]  # 1.8
TODAY = date(2026, 11, 30)
X = Package("PyPI", "x", "1")


def database(folder: Path, *records: dict[str, Any], ecosystem: str = "PyPI") -> Path:
    """A folder as it is downloaded, with one ecosystem."""
    file = folder / ecosystem / "all.zip"
    file.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file, "w") as archive:
        for record in records:
            archive.writestr(f"{record['id']}.json", json.dumps(record))
    return folder


def record(*affected: dict[str, Any], identifier: str = "PYSEC-1", **more: Any) -> dict[str, Any]:
    return {"id": identifier, "summary": "It is bad.", "affected": list(affected), **more}


def of(
    name: str, *events: dict[str, str], versions: tuple[str, ...] = (), ecosystem: str = "PyPI", **more: Any
) -> dict[str, Any]:
    """An affected package of a vulnerability record."""
    ranges = [{"type": "ECOSYSTEM", "events": list(events)}] if events else []
    package = {"name": name, "ecosystem": ecosystem}
    return {"package": package, "ranges": ranges, "versions": list(versions), **more}


@pytest.mark.parametrize(
    ("affected", "versions"),
    [
        (of("Some.Package", {"introduced": "0"}, {"fixed": "1.5"}), {"1.4", "1.5rc1"}),
        (of("some_package", {"introduced": "1.5"}), {"1.5", "1.10"}),
        (of("some-package", {"introduced": "0"}, {"last_affected": "1.4"}), {"1.4"}),
        (of("some-package", {"introduced": "0"}, {"fixed": "1.4"}, {"introduced": "1.10"}), {"1.10"}),
        (of("some-package", versions=("1.4", "1.10")), {"1.4", "1.10"}),
        (of("other-package", {"introduced": "0"}), set()),
        (of("some-package", {"introduced": "0"}, ecosystem="npm"), set()),
    ],
)
def test_each_form_of_a_record_is_understood(tmp_path: Path, affected: dict[str, Any], versions: set[str]) -> None:
    file = database(tmp_path, record(affected))
    asked = [Package("PyPI", "some-package", version) for version in ("1.4", "1.5rc1", "1.5", "1.10")]
    assert {each.package.version for each in findings(file, asked)} == versions


@pytest.mark.parametrize(
    ("affected", "versions"),
    [
        (of("openssl", {"introduced": "0"}, {"fixed": "3.5.4-1~deb13u2"}, ecosystem="Debian:13"), {"3.5.4-1~deb13u1"}),
        (of("openssl", {"introduced": "0"}, ecosystem="Debian:13"), {"3.5.4-1~deb13u1", "3.5.4-1"}),
        (of("openssl", {"introduced": "0"}, ecosystem="Debian:12"), set()),
        (of("libssl3t64", {"introduced": "0"}, ecosystem="Debian:13"), set()),
        (
            of("openssl", {"introduced": "0"}, ecosystem="Debian:13", ecosystem_specific={"urgency": "unimportant"}),
            set(),
        ),
    ],
)
def test_a_package_of_debian_is_found_by_its_source_and_its_release(
    tmp_path: Path, affected: dict[str, Any], versions: set[str]
) -> None:
    folder = database(tmp_path, record(affected, identifier="DEBIAN-CVE-1"), ecosystem="Debian")
    bills = [
        {"components": [{"purl": f"pkg:deb/debian/libssl3t64@{v}?arch=amd64&distro=debian-13&upstream=openssl%40{v}"}]}
        for v in ("3.5.4-1~deb13u1", "3.5.4-1")
    ]
    asked = set().union(*map(packages_of, bills))
    assert {each.package.version for each in findings(folder, asked)} == versions


@pytest.mark.skipif(not shutil.which("dpkg"), reason="Only Debian has dpkg.")
@settings(max_examples=40, deadline=None)
@given(*[st.from_regex(r"([0-3]:)?[0-9][0-9a-b.+~]{0,6}(-[0-9a-b.+~]{1,4})?", fullmatch=True)] * 2)
def test_versions_of_debian_are_ordered_as_dpkg_orders_them(one: str, other: str) -> None:
    (relation,) = (
        sign
        for sign in ("lt", "eq", "gt")
        if subprocess.run(["dpkg", "--compare-versions", one, sign, other], check=False, capture_output=True).returncode
        == 0
    )
    found = compare_debian(one, other)
    assert (found < 0, found == 0, found > 0) == (relation == "lt", relation == "eq", relation == "gt")


def test_what_was_withdrawn_is_not_told(tmp_path: Path) -> None:
    folder = database(tmp_path, record(of("x", {"introduced": "0"}), withdrawn="2026-01-01T00:00:00Z"))
    assert findings(folder, [X]) == []


def test_records_of_one_vulnerability_are_one_finding_as_severe_as_the_severest(tmp_path: Path) -> None:
    everything = of("x", {"introduced": "0"}, {"fixed": "2"})
    folder = database(
        tmp_path,
        record(everything, identifier="PYSEC-1", aliases=["CVE-1"]),
        record(everything, identifier="GHSA-1", aliases=["CVE-1"], severity=CRITICAL),
        record(everything, identifier="GHSA-2", severity=LOW),
    )
    one, other = sorted(findings(folder, [X]), key=lambda each: -(each.score or 0))
    assert (one.ids, one.score, one.fixed) == (("CVE-1", "GHSA-1", "PYSEC-1"), 9.8, ("2",))
    assert other.ids == ("GHSA-2",)


@pytest.mark.parametrize(
    ("said", "affected", "score"),
    [
        ({"severity": CRITICAL}, {}, 9.8),
        ({"severity": HIGH}, {}, 8.7),
        ({"severity": LOW}, {"severity": CRITICAL}, 9.8),
        ({"database_specific": {"severity": "MODERATE"}}, {}, 4.0),
        ({}, {"ecosystem_specific": {"urgency": "high**"}}, 7.0),
        ({}, {"ecosystem_specific": {"urgency": "not yet assigned"}}, None),
        ({"severity": [{"type": "CVSS_V3", "score": "nonsense"}]}, {}, None),
        ({"severity": [{"type": "Ubuntu", "score": "high"}]}, {}, None),
    ],
)
def test_how_severe_it_is_is_read_from_whatever_says_it(
    said: dict[str, Any], affected: dict[str, Any], score: float | None
) -> None:
    assert score_of(said, affected) == score


@pytest.mark.parametrize("content", [b"an error page", None])
def test_a_database_that_is_none_is_no_proof(tmp_path: Path, content: bytes | None) -> None:
    with pytest.raises(AuditError, match="is no file of the OSV database"):
        findings(tmp_path, [X])  # none at all
    database(tmp_path)
    if content:
        (tmp_path / "PyPI" / "all.zip").write_bytes(content)
    with pytest.raises(AuditError, match="is no file of the OSV database" if content else "holds no record"):
        findings(tmp_path, [X])


def finding(score: float | None, ecosystem: str = "PyPI", fixed: tuple[str, ...] = ("2",)) -> Finding:
    return Finding(Package(ecosystem, "x", "1"), ("CVE-1", "GHSA-1"), score, fixed, "It is bad.")


@pytest.mark.parametrize(
    ("found", "level", "passes"),
    [
        (finding(9.8), "high", False),
        (finding(7.0), "high", False),
        (finding(6.9), "high", True),
        (finding(7.0), "critical", True),
        (finding(None), "critical", False),
        (finding(9.8, "PyPI", ()), "high", False),
        (finding(9.8, "Debian:13"), "high", False),
        (finding(9.8, "Debian:13", ()), "high", True),
    ],
)
def test_what_is_severe_is_refused_and_so_is_what_nobody_knows(found: Finding, level: str, passes: bool) -> None:
    assert judge([found], [], level, TODAY).passes is passes


@pytest.mark.parametrize(("until", "passes"), [("2026-11-30", True), ("2026-11-29", False)])
def test_an_exception_holds_until_its_date_under_each_name_of_the_vulnerability(
    tmp_path: Path, until: str, passes: bool
) -> None:
    file = tmp_path / "osv-scanner.toml"
    for name in ("CVE-1", "GHSA-1"):
        file.write_text(f'[[IgnoredVulns]]\nid = "{name}"\nignoreUntil = {until}\nreason = "It is not called."\n')
        verdict = judge([finding(9.8)], read_accepted(file), "high", TODAY)
        assert verdict.passes is passes
        assert ("It is not called." if passes else f"its exception ended on {until}") in verdict.lines[0]


def test_an_exception_that_nothing_needs_any_more_is_named() -> None:
    verdict = judge([], [Accepted("CVE-9", TODAY, "It is not called.")], "high", TODAY)
    assert verdict.passes
    assert "CVE-9 is accepted and was not found" in verdict.lines[0]


@pytest.mark.parametrize(
    "entry",
    [
        'ignoreUntil = 2026-12-31\nreason = "No id."',
        'id = "CVE-1"\nreason = "No end."',
        'id = "CVE-1"\nignoreUntil = 2026-12-31',
        'id = "CVE-1"\nignoreUntil = "2026-12-31"\nreason = "A text is no date."',
    ],
)
def test_an_exception_without_reason_or_end_is_none(tmp_path: Path, entry: str) -> None:
    file = tmp_path / "osv-scanner.toml"
    file.write_text(f"[[IgnoredVulns]]\n{entry}\n")
    with pytest.raises(AuditError, match="needs an id, a reason, and a date"):
        read_accepted(file)


def test_the_exceptions_of_the_project_can_be_read() -> None:
    assert all(each.reason for each in read_accepted())


def test_a_report_of_osv_scanner_on_an_image_is_judged_likewise() -> None:
    package = {"name": "stdlib", "version": "1.25.1", "ecosystem": "Go"}
    events = [{"introduced": "0"}, {"fixed": "1.25.8"}]
    affected = [{"package": {"name": "stdlib"}, "ranges": [{"type": "SEMVER", "events": events}]}]
    described = [{"id": "GO-1", "aliases": ["CVE-1"], "summary": "It is bad.", "affected": affected}]
    groups: list[dict[str, Any]] = [
        {"ids": ["GO-1"], "aliases": ["CVE-1", "GO-1"], "max_severity": "7.5"},
        {"ids": ["GO-2"], "aliases": [], "max_severity": "", "experimental_analysis": {"GO-2": {"unimportant": True}}},
    ]
    report = {"results": [{"packages": [{"package": package, "vulnerabilities": described, "groups": groups}]}]}
    assert reported(report) == [
        Finding(Package("Go", "stdlib", "1.25.1"), ("CVE-1", "GO-1"), 7.5, ("1.25.8",), "It is bad.")
    ]
    with pytest.raises(AuditError, match="no report of osv-scanner"):
        reported({"message": "not found"})
    groups[0] |= {"max_severity": "HIGH"}
    with pytest.raises(AuditError, match="max_severity"):
        reported(report)


def test_a_fix_of_a_package_that_the_record_names_otherwise_is_a_fix() -> None:
    """Else a binary package of Debian would be accepted for want of a fixed version."""
    ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "3.5.4-1"}]}]
    described = [{"id": "CVE-1", "affected": [{"package": {"name": "openssl"}, "ranges": ranges}]}]
    found = {
        "package": {"name": "libssl3t64", "version": "3.5.1-1", "ecosystem": "Debian:13"},
        "vulnerabilities": described,
        "groups": [{"ids": ["CVE-1"], "max_severity": "9.8"}],
    }
    (finding,) = reported({"results": [{"packages": [found]}]})
    assert finding.fixed == ("3.5.4-1",)


@pytest.fixture
def run_audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`make audit` with a database, and with bills of materials that are there already."""
    bills = tmp_path / "bills"
    bills.mkdir()
    for image in IMAGES:
        (bills / f"{image}.cdx.json").write_text(json.dumps({"components": [{"purl": "pkg:pypi/planted@1.0"}]}))
    monkeypatch.setattr(audit, "FOLDER", bills)
    for check in ("write_bills", "check_licences", "check_history"):
        monkeypatch.setattr(audit, check, lambda: True)
    accepted = tmp_path / "osv-scanner.toml"
    accepted.write_text("")
    monkeypatch.setattr(exceptions, "read_accepted", partial(exceptions.read_accepted, accepted))

    def run(*arguments: str, exception: str = "") -> int:
        accepted.write_text(exception)
        monkeypatch.setattr(sys, "argv", ["audit", *arguments])
        return audit.main()

    return run


def test_a_vulnerable_version_fails_the_command_until_it_is_accepted(
    tmp_path: Path, run_audit: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    planted = record(of("planted", {"introduced": "0"}, {"fixed": "1.1"}), identifier="GHSA-1", severity=CRITICAL)
    folder = f"--osv={database(tmp_path / 'osv', planted)}"
    assert run_audit(folder) == 1
    assert "critical 9.8: planted 1.0, GHSA-1, fixed in 1.1 (It is bad.): NOT ACCEPTED" in capsys.readouterr().out
    entry = '[[IgnoredVulns]]\nid = "GHSA-1"\nreason = "It is not called."\nignoreUntil = '
    assert run_audit(folder, exception=f"{entry}2999-12-31") == 0
    assert run_audit(folder, exception=f"{entry}2020-12-31") == 1
    harmless = record(of("planted", {"introduced": "0"}), identifier="GHSA-1", severity=LOW)
    database(tmp_path / "osv", harmless)
    assert run_audit(folder) == 0
    assert run_audit(folder, "--level=low") == 1


def test_a_database_that_cannot_be_read_fails_the_command(tmp_path: Path, run_audit: Any) -> None:
    assert run_audit(f"--osv={tmp_path / 'nothing'}") == 1


def test_the_database_is_downloaded_where_there_is_a_network(
    tmp_path: Path, run_audit: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    served = database(tmp_path / "served", record(of("planted", {"introduced": "0"}), severity=CRITICAL))
    database(served, record(of("y", ecosystem="Debian:13")), ecosystem="Debian")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(served)))
    with serving(server) as address:
        monkeypatch.setattr(vulnerabilities, "download", partial(vulnerabilities.download, address=address))
        assert run_audit() == 1
        assert "planted 1.0, PYSEC-1" in capsys.readouterr().out
    assert run_audit() == 1
    assert "make audit OSV=FOLDER" in capsys.readouterr().out
