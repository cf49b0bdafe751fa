"""Secrets in the history, also those that a later commit has taken out again."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

KNOWN = ("tests/", "docker-compose.dev.yml", ".github/workflows/test.yml")
"""Where passwords stand that open nothing but databases of tests and of development."""


def leaks(root: Path) -> list[str]:
    """Every place in the history of HEAD with what looks like a secret: commit, file, line and kind, never the secret.

    Raises CalledProcessError where the history cannot be read.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "found.json"
        scanner = Path(sys.executable).with_name("betterleaks")
        options = ["--no-banner", "--redact", "--confidence=medium", "--log-opts=HEAD", "--exit-code=0"]
        command = [str(scanner), "git", str(root), *options, f"--output={report}"]
        subprocess.run(command, check=True, capture_output=True, text=True)
        found = json.loads(report.read_text())["findings"]
    return sorted(_told(each) for each in found if not _is_known(each))


def _is_known(finding: dict[str, Any]) -> bool:
    kind, path = str(finding["rule_id"]), str(finding["location"]["path"])
    return kind.startswith("generic-") and path.startswith(KNOWN)


def _told(finding: dict[str, Any]) -> str:
    place = finding["location"]
    commit = finding["attributes"].get("git.sha", "")[:12]
    return f"{commit} {place['path']}:{place['start_line']}: {finding['rule_id']}"
