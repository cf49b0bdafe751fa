"""Faults of the SQL Server double on demand. A real server (SINK_URL) has none."""

import os

import pytest

from dev.sandbox.pipeline_fixture import PipelineFixture

needs_double = pytest.mark.skipif("SINK_URL" in os.environ, reason="a real server does not fail on demand")


def inject(made: PipelineFixture, fault: str, value: int = 0, times: int = 1) -> None:
    """Let the next matching requests fail."""
    made.execute(f"EXEC standin_inject @fault = N'{fault}', @value = {value}, @times = {times}")
