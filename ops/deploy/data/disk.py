"""Disk space by part of a deployment: required before, used after."""

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from ops.cluster.console import Console, table
from ops.deploy.images.builders import Builder

CONTAINERD = Path("/var/lib/rancher/k3s/agent/containerd")
_GIGABYTE = 1000**3
_NODE_PLACE = Path("/var/lib")
# Gigabytes: always written, and written in addition if everything is missing.
_IMAGES = (1.5, 4.5)
_BUILDS = (1.0, 1.0)
_DATA = (0.5, 1.5)


def disk_problems(volumes: Mapping[str, Path], builder: Builder | None, *, missing: float) -> Iterator[str]:
    """File systems with too little free space. `missing`: the fraction of images that the node lacks."""
    wanted = [(_NODE_PLACE, _IMAGES[0] + missing * _IMAGES[1], "images")]
    if builder:
        wanted.append((builder.storage(), _BUILDS[0] + missing * _BUILDS[1], f"what {builder.name} builds"))
    places = {path.parent for path in volumes.values()}
    wanted += [(place, _DATA[0] + (0 if place.exists() else _DATA[1]), "data") for place in places]
    by_device: dict[int, list[tuple[Path, float, str]]] = {}
    for place, size, what in wanted:
        existing = next(one for one in (place, *place.parents) if one.exists())
        by_device.setdefault(existing.stat().st_dev, []).append((existing, size, what))
    for parts in by_device.values():
        place, needed = parts[0][0], sum(size for _, size, _ in parts)
        free = shutil.disk_usage(place).free / _GIGABYTE
        if free < needed:
            what = ", ".join(f"{what} {size:.1f}" for _, size, what in parts)
            yield f"{place} has {free:.1f} GB free, and {needed:.1f} are needed there ({what}): free some, or move it."


def show_disk(console: Console, volumes: Mapping[str, Path], builder: Builder | None) -> None:
    """Print disk usage on this machine, the node."""
    parts = {
        "images, as pulled or imported": CONTAINERD / "io.containerd.content.v1.content",
        "images, unpacked": CONTAINERD / "io.containerd.snapshotter.v1.overlayfs",
    }
    if builder:
        parts[f"all that {builder.name} keeps"] = builder.storage()
    parts |= {f"volume {name}": path for name, path in volumes.items()}
    sizes = {part: size_of(path) for part, path in parts.items() if path.is_dir()}
    rows = [(part, f"{size / 1000**2:,.0f}", parts[part]) for part, size in sizes.items()]
    if rows:
        console.show()
        console.show(table([("DISK", "MB", "WHERE"), *rows, ("all", f"{sum(sizes.values()) / 1000**2:,.0f}", "")]))


def size_of(top: Path) -> int:
    """The bytes that a folder uses on its file system; hard links count once."""
    seen, total, device = set[int](), 0, top.stat().st_dev
    for folder, inside, names in os.walk(top):
        inside[:] = [name for name in inside if not os.path.ismount(f"{folder}/{name}")]
        for name in (".", *names):
            try:
                status = os.lstat(f"{folder}/{name}")
            except OSError:  # deleted meanwhile
                continue
            if status.st_dev == device and status.st_ino not in seen:
                seen.add(status.st_ino)
                total += status.st_blocks * 512
    return total
