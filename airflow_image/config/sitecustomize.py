"""Makes every Python process of the image start sooner and stay small; Python imports this before anything else.

A worker lives for one task, so what it imports is most of its work. Half of that is the two Kubernetes clients, each a
thousand generated modules of which a task uses a dozen, and the looking for garbage among what has just been imported.
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
"""Packages whose `__init__` only gathers names from their modules: each name is imported when it is asked for."""
FORKING_SERVERS = {"scheduler", "triggerer"}
"""Commands of Airflow whose processes fork others once, which stay as long as they. (The DAG processor freezes by
itself what it shares.)"""
_GATHERED = re.compile(r"^from (\S+) import (?:\(\s*)?(\w+)", re.MULTILINE)
_ASSIGNED = re.compile(r'^(__\w+__) = [\'"](.*)[\'"]$', re.MULTILINE)


class LazyPackages(MetaPathFinder):
    """Finds the packages of LAZY."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """A package that does not run its own `__init__`; None for every other module."""
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
# Most of what is imported stays: the default of some hundred new objects would look through them all again and again.
gc.set_threshold(50_000, 20, 50)
if FORKING_SERVERS & set(sys.orig_argv):
    # Whoever looks for garbage writes to each object, and so gets a copy of all that it shares with the process that it
    # was forked from: half an hour after its start the triggerer grew in a moment from 220 to 278 MiB.
    os.register_at_fork(before=gc.freeze)
if "scheduler" in sys.orig_argv:
    # What it forks has its handler of SIGTERM, which does nothing there: the end of the process that watches the pods
    # was waited for in vain, for 20 s each time that the scheduler ended.
    os.register_at_fork(after_in_child=partial(signal.signal, signal.SIGTERM, signal.SIG_DFL))
