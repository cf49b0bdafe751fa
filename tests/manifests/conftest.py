"""Shows the progress of builds before the tests below are collected."""

from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.harness.manifests.rendering import kubectl


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> None:
    """Have kubectl before a module renders with it. Building it takes minutes, once: that is not kept quiet."""
    capture = parent.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture else nullcontext():
        kubectl()
