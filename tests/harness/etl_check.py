"""`etl check` as a command, and its result."""

import json
import subprocess
import sys
from typing import Any
from urllib.parse import urlsplit

from dev.sandbox.pipeline_fixture import PipelineFixture


def check(site: PipelineFixture, *arguments: str, **environment: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit code, and the lines by what they are about."""
    command = [sys.executable, "-m", "etl", "check", *arguments]
    ran = subprocess.run(command, env=site.environment(**environment), capture_output=True, text=True, check=False)
    for url in (site.source_url, site.sink_url):
        assert (urlsplit(url).password or "no password") not in ran.stderr + ran.stdout
    lines = [json.loads(line) for line in ran.stderr.splitlines()]
    return ran.returncode, {line["check"]: line for line in lines if "check" in line}


def problem(site: PipelineFixture, name: str, *arguments: str, **environment: str) -> tuple[int, str, str]:
    """The exit code, and the only failed check, by code and text; all others pass."""
    code, lines = check(site, *arguments, **environment)
    assert {other for other, line in lines.items() if line["problem"]} == {name}, lines
    return code, lines[name]["problem"], lines[name]["words"]
