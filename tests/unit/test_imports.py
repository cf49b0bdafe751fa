"""A step starts without what it has no use for."""

import json
import subprocess
import sys

import pytest

UNUSED = {
    "rich", "pygments", "pydantic_settings", "pandas", "s3fs", "aiobotocore", "aiohttp", "prometheus_client", "pyrage",
}  # fmt: skip
"""Colours of a terminal, and libraries of other commands and of staging in S3."""


@pytest.mark.parametrize("step", ["extract", "filter", "load", "run"])
def test_a_step_imports_only_what_it_needs(step: str) -> None:
    code = (
        f"import json, sys, etl.__main__, etl.steps.{step}; print(json.dumps([n for n, m in sys.modules.items() if m]))"
    )
    imported = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert UNUSED.isdisjoint(json.loads(imported))
