"""The one cgroup (in every hierarchy of version 1, or the one of version 2) below which the cluster's pods run."""

import time
from contextlib import suppress
from pathlib import Path

from tests.cluster.errors import ClusterError

_PREFIX = "orders-e2e-"
_MOUNTS = Path("/proc/self/mountinfo")
_PODS_NEED = {"cpu", "cpuset", "hugetlb", "memory", "pids"}
"""The controllers that the kubelet needs in a hierarchy of version 2, as far as the machine has them."""


def name_for(process: int) -> str:
    """The cgroup of the cluster that a process keeps."""
    return f"{_PREFIX}{process}"


def create(name: str) -> None:
    """Create the cgroup, or one of a further node below it."""
    roots = _roots()
    if not roots:
        raise ClusterError("No cgroups are mounted below /sys/fs/cgroup, and the kubelet needs them.")
    for root in roots:
        try:
            if (root / "cgroup.controllers").exists():
                _delegate((root / name).parent)
            (root / name).mkdir()
        except OSError as error:
            raise ClusterError(f"The cluster needs a cgroup of its own below {root}: {error}.") from error


def remove(name: str, seconds: float = 20) -> None:
    """Remove the cgroup with all that pods left in it, once their processes have ended."""
    deadline = time.monotonic() + seconds
    for root in _mounts():
        while (root / name).exists() and not _removed(root / name):
            if time.monotonic() > deadline:
                raise ClusterError(f"{root / name} still has processes, {seconds} s after the cluster's end.")
            # Version 1 has no event for "empty".
            time.sleep(0.05)


def processes(name: str) -> set[int]:
    """The processes of pods in the cgroup, but for those of further nodes."""
    found: set[int] = set()
    for root in _roots():
        for file in (root / name).glob("kubepods*/**/cgroup.procs"):
            with suppress(OSError):  # it is gone meanwhile
                found.update(map(int, file.read_text().split()))
    return found


def names() -> set[str]:
    """The cgroups of all clusters of this machine."""
    return {folder.name for root in _mounts() for folder in root.glob(f"{_PREFIX}*")}


def is_stale(name: str) -> bool:
    """Whether a name is that of a cluster whose supervisor has ended."""
    process = name.removeprefix(_PREFIX)
    return process != name and not Path("/proc", process).exists()


def _removed(folder: Path) -> bool:
    children = sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True)
    try:
        for cgroup in (*children, folder):
            cgroup.rmdir()
    except FileNotFoundError:
        return not folder.exists()
    except OSError:
        return False
    return True


def _delegate(parent: Path) -> None:
    """Let cgroups below one of version 2 have limits. Systemd has done so already for the root on most machines."""
    wanted = _PODS_NEED & set((parent / "cgroup.controllers").read_text().split())
    missing = wanted - set((parent / "cgroup.subtree_control").read_text().split())
    if missing:
        (parent / "cgroup.subtree_control").write_text(" ".join(f"+{controller}" for controller in sorted(missing)))


def _roots() -> list[Path]:
    """The roots of the kubelet's cgroups: beside hierarchies of version 1 it does not use the one of version 2."""
    mounts = _mounts()
    return [path for path, kind in mounts.items() if kind == "cgroup"] or list(mounts)


def _mounts() -> dict[Path, str]:
    """Mount points of the cgroup hierarchies, with their types."""
    mounts = (line.split() for line in _MOUNTS.read_text().splitlines() if " - cgroup" in line)
    kinds = {Path(mount[4]): mount[mount.index("-") + 1] for mount in mounts}
    return {path: kind for path, kind in kinds.items() if path.is_relative_to("/sys/fs/cgroup")}
