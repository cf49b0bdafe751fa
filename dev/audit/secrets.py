"""Secrets in the git history, including those that a later commit removed."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

KNOWN = ("tests/", "docker-compose.dev.yml", ".github/workflows/test.yml")
"""Paths with passwords of databases for tests and development."""


def leaks(root: Path) -> list[str]:
    """Suspected secrets in the history of HEAD: commit, file, line and kind, never the secret.

    Raises CalledProcessError if the history cannot be read.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "found.json"
        scanner = Path(sys.executable).with_name("betterleaks")
        options = ["--no-banner", "--redact", "--confidence=medium", "--log-opts=HEAD", "--exit-code=0"]
        command = [str(scanner), "git", str(root), *options, f"--output={report}"]
        subprocess.run(command, check=True, capture_output=True, text=True)
        found = json.loads(report.read_text())["findings"]
    return sorted(_described(each) for each in found if not _is_known(each))


def _is_known(finding: dict[str, Any]) -> bool:
    kind, path = str(finding["rule_id"]), str(finding["location"]["path"])
    return kind.startswith("generic-") and path.startswith(KNOWN)


def _described(finding: dict[str, Any]) -> str:
    location = finding["location"]
    commit = finding["attributes"].get("git.sha", "")[:12]
    return f"{commit} {location['path']}:{location['start_line']}: {finding['rule_id']}"
