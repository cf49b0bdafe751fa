"""Faster start and less memory of the image's Python processes; Python imports this before anything else.

A worker runs one task, so most of its work is imports. Half of that is the two Kubernetes clients, each a thousand
generated modules of which a task uses a dozen, and garbage collection over freshly imported objects.
"""

import gc
import os
import re
import signal
import sys
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

LAZY = frozenset(
    f"{client}{package}"
    for client in ("kubernetes", "kubernetes_asyncio")
    for package in ("", ".client", ".client.api", ".client.models")
)
"""Packages whose `__init__` only re-exports names of their modules: each name is imported on first use."""
FORKING_SERVERS = {"scheduler", "triggerer"}
"""Commands of Airflow whose processes fork long-lived children once. (The DAG processor calls gc.freeze itself.)"""
_GATHERED = re.compile(r"^from (\S+) import (?:\(\s*)?(\w+)", re.MULTILINE)
_ASSIGNED = re.compile(r'^(__\w+__) = [\'"](.*)[\'"]$', re.MULTILINE)


class LazyPackages(MetaPathFinder):
    """Import finder for the packages of LAZY."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Spec of a package that does not run its `__init__`; None for every other module."""
        if fullname not in LAZY:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _LazyLoader()
        return spec


class _LazyLoader(Loader):
    def exec_module(self, module: ModuleType) -> None:
        text = Path(str(module.__file__)).read_text(encoding="utf-8")
        homes = {name: home for home, name in _GATHERED.findall(text) if home != "."}
        module.__dict__.update(_ASSIGNED.findall(text))

        def __getattr__(name: str) -> Any:  # noqa: N807 - what Python asks for a name that a module has not
            if name.startswith("__"):
                raise AttributeError(name)
            try:
                home = homes.get(name)
                value = getattr(import_module(home), name) if home else import_module(f"{module.__name__}.{name}")
            except ModuleNotFoundError:
                raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}") from None
            setattr(module, name, value)
            return value

        module.__dict__["__getattr__"] = __getattr__


sys.meta_path.insert(0, LazyPackages())
# Imported objects stay: with the default threshold of some hundred new objects they would be scanned repeatedly.
gc.set_threshold(50_000, 20, 50)
if FORKING_SERVERS & set(sys.orig_argv):
    # The collector writes to each object, and so copies the memory shared with the parent process: half an hour after
    # its start the triggerer grew at once from 220 to 278 MiB.
    os.register_at_fork(before=gc.freeze)
if "scheduler" in sys.orig_argv:
    # Forked processes inherit the handler of SIGTERM, which does nothing there: each time the scheduler waited 20 s for
    # the end of the process that watches pods.
    os.register_at_fork(after_in_child=partial(signal.signal, signal.SIGTERM, signal.SIG_DFL))
