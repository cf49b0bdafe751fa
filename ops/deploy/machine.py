"""Requirements of a node: memory, the kernel's controllers, free ports."""

import re
from collections.abc import Iterator
from pathlib import Path

from ops.deploy.manifests.rendering import Rendering

MEMORY_GIGABYTES = 6
_GIGABYTE = 1000**3


def machine_problems() -> Iterator[str]:
    """Too little memory, or no memory controller."""
    memory = re.search(r"MemTotal:\s+(\d+) kB", _text("/proc/meminfo"))
    gigabytes = int(memory[1]) * 1024 / _GIGABYTE if memory else MEMORY_GIGABYTES
    if gigabytes < MEMORY_GIGABYTES:
        yield f"The machine has {gigabytes:.1f} GB of memory, but Airflow and SQL Server need {MEMORY_GIGABYTES}."
    unified = "memory" in _text("/sys/fs/cgroup/cgroup.controllers").split()
    if not unified and not re.search(r"^memory\t\d+\t\d+\t1$", _text("/proc/cgroups"), re.MULTILINE):
        yield (
            "The kernel has no cgroup memory controller, so limits would not hold: add `cgroup_enable=memory` to its"
            " command line and restart the machine."
        )


def port_warnings(rendering: Rendering) -> Iterator[str]:
    """Programs on ports 80 and 443. K3s itself does not listen there: it forwards them to Traefik by packet filter."""
    if not rendering.of_kind("Ingress"):
        return
    listening = set()
    for line in (_text("/proc/net/tcp") + _text("/proc/net/tcp6")).splitlines():
        words = line.split()
        if len(words) > 3 and words[3] == "0A":
            listening.add(int(words[1].rpartition(":")[2], 16))
    for port in sorted({80, 443} & listening):
        yield (
            f"Something other than K3s listens on port {port} (`ss --listening --tcp --processes`), so Airflow may not"
            " be reached there."
        )


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
