"""What a machine lacks that is, or will be, a node: disk, memory, the kernel's controllers, free ports."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from scripts.deploy.images import work_place
from scripts.deploy.rendering import Rendering

FREE_GIGABYTES = 10
MEMORY_GIGABYTES = 6
_IMAGE_PLACE = "/var/lib"
_GIGABYTE = 1000**3


def machine_problems(rendering: Rendering) -> Iterator[str]:
    """Too little disk or memory, or no memory controller."""
    places = {str(path.parent) for path in rendering.volumes().values()} | {_IMAGE_PLACE, work_place()}
    by_device = {existing.stat().st_dev: existing for existing in map(_existing, sorted(places))}
    for place in by_device.values():
        free = shutil.disk_usage(place).free / _GIGABYTE
        if free < FREE_GIGABYTES:
            yield f"{place} has {free:.1f} GB free, but images and data need {FREE_GIGABYTES}: free some, or move it."
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
    """K3s leads ports 80 and 443 to Traefik by packet filter; whoever listens on them is something else."""
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


def _existing(place: str) -> Path:
    path = Path(place)
    return next(one for one in (path, *path.parents) if one.exists())


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
