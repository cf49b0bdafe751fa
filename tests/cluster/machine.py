"""Whether this machine can carry a cluster, said before anything is made."""

import os
import platform
import shutil
import subprocess
from pathlib import Path

from tests.cluster.building.cache import cache_folder
from tests.cluster.errors import ClusterError

_GIGABYTE = 10**9
_MEMORY = 6
_DISK = 15
_SETUP = Path(__file__).with_name("setup-system.sh")


def check_machine(folder: Path) -> None:
    """Raise ClusterError unless a cluster can be brought up in the folder; install programs that are missing."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise ClusterError(
            f"The tests' cluster runs on Linux on x86_64, and this is {platform.system()} on {platform.machine()}. "
            "Set KUBECONFIG to use a cluster that is there."
        )
    if os.geteuid() != 0:
        raise ClusterError(
            "The tests' cluster takes root: it mounts, and makes network interfaces, in namespaces of its own. "
            "Run it as root, or set KUBECONFIG to use a cluster that is there."
        )
    if (memory := _memory_available()) < _MEMORY:
        raise ClusterError(f"The tests' cluster takes {_MEMORY} GB of memory, and {memory:.1f} GB are available.")
    for place in (cache_folder(), folder):
        if (free := shutil.disk_usage(place).free / _GIGABYTE) < _DISK:
            raise ClusterError(f"The tests' cluster takes {_DISK} GB of disk, and {place} has {free:.1f} GB free.")
    add_system_folders()
    install_programs()
    tried = subprocess.run(
        ["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "true"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if tried.returncode:
        raise ClusterError(
            f"The tests' cluster needs namespaces of its own, and root may not make them here: {tried.stderr.strip()}. "
            "In a container, that takes --privileged."
        )


def install_programs() -> None:
    """Install missing system programs. Raises ClusterError if that is not possible."""
    ran = subprocess.run([_SETUP], stderr=subprocess.PIPE, text=True, check=False)
    if ran.returncode:
        raise ClusterError(ran.stderr.strip() or f"{_SETUP} failed.")


def add_system_folders() -> None:
    """Let this process and its children find the programs that only root uses."""
    missing = [path for path in ("/usr/local/sbin", "/usr/sbin", "/sbin") if path not in os.environ["PATH"].split(":")]
    os.environ["PATH"] = ":".join([os.environ["PATH"], *missing])


def _memory_available() -> float:
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    return next(int(line[1]) * 1024 / _GIGABYTE for line in lines if line[0] == "MemAvailable:")
