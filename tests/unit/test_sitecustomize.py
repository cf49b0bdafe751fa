"""The start-up code of every Python process of the image.

The Kubernetes clients are imported name by name, and are what they are without that. What forked servers share stays
shared.
"""

import json
import os
import subprocess
import sys
from functools import cache
from typing import Any

import pytest

from dev.sandbox.stack import ROOT

PACKAGES = [
    f"{client}{package}"
    for client in ("kubernetes", "kubernetes_asyncio")
    for package in ("", ".client", ".client.api", ".client.models")
]
GATHER = """
import json, sys
from importlib import import_module
names = json.loads(sys.argv[1])
found = {}
for package in names:
    module = import_module(package)
    for name in names[package] or [name for name in vars(module) if not name.startswith("_")]:
        value = getattr(module, name)
        found[f"{package}.{name}"] = f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '')}"
print(json.dumps(found))
"""
FORK = """
import gc, json, os, re
from pathlib import Path
def own():  # in KiB
    return int(re.search(r"Private_Dirty:\\s*(\\d+)", Path("/proc/self/smaps_rollup").read_text())[1])
objects = [[number] for number in range(1_000_000)]
if os.fork() == 0:
    before = own()
    gc.collect()
    print(json.dumps((own() - before) // 1024))
else:
    os.wait()
"""
"""Prints the MiB that a forked process gains when it looks for garbage."""
TOLD_TO_END = """
import json, os, signal
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
begun, told = os.pipe()
child = os.fork()
if child == 0:
    os.write(told, b"begun")
    while True:
        signal.pause()
os.read(begun, 5)
os.kill(child, signal.SIGTERM)
print(json.dumps(os.WIFSIGNALED(os.waitpid(child, 0)[1])))
"""
"""Prints whether SIGTERM ends a forked process, and not the handler of it that its parent has."""


def run(script: str, *arguments: str, in_image: bool) -> Any:
    """Output of a script, with the image's start-up code or without."""
    path = f"{ROOT}/airflow_image/config" if in_image else ""
    command = [sys.executable, "-c", script, *arguments]
    ran = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@cache
def names_without() -> dict[str, str]:
    found: dict[str, str] = run(GATHER, json.dumps(dict.fromkeys(PACKAGES)), in_image=False)
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_every_name_of_a_package_is_what_it_is_without(package: str) -> None:
    expected = {name: value for name, value in names_without().items() if name.rpartition(".")[0] == package}
    names = [name.rpartition(".")[2] for name in expected]
    assert names
    assert run(GATHER, json.dumps({package: names}), in_image=True) == expected


def test_only_what_is_asked_for_is_imported() -> None:
    script = """
import json, sys
from kubernetes.client import CoreV1Api, models
models.V1Pod()
print(json.dumps([name for name in sys.modules if name.startswith("kubernetes.client.models.")]))
"""
    assert len(run(script, in_image=False)) > 500
    assert len(run(script, in_image=True)) < 20


def test_a_name_that_is_not_there_is_missed_as_always() -> None:
    script = """
import json, kubernetes.client
try:
    from kubernetes.client import V1Nothing
except ImportError as error:
    print(json.dumps([str(error)[:40], hasattr(kubernetes.client, "V1Nothing")]))
"""
    assert run(script, in_image=True) == run(script, in_image=False)


def test_versions_are_known() -> None:
    script = """
import json, kubernetes, kubernetes_asyncio
print(json.dumps([kubernetes.__version__, kubernetes_asyncio.__version__]))
"""
    assert run(script, in_image=True) == run(script, in_image=False)


@pytest.mark.parametrize("server", ["scheduler", "triggerer"])
def test_the_processes_of_a_server_share_their_memory_also_after_they_looked_for_garbage(server: str) -> None:
    assert run(FORK, server, in_image=False) > 50
    assert run(FORK, server, in_image=True) < 5


def test_what_the_scheduler_forks_ends_when_it_is_told_to() -> None:
    assert not run(TOLD_TO_END, "scheduler", in_image=False)
    assert run(TOLD_TO_END, "scheduler", in_image=True)
    assert not run(TOLD_TO_END, "triggerer", in_image=True)


def test_what_a_process_that_forks_often_leaves_is_still_looked_for() -> None:
    assert run(FORK, "dag-processor", in_image=True) > 50
