"""A minimal Debian in a folder, and commands in it, as root or as an ordinary user."""

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.building.cache import made
from tests.cluster.building.images import debian_sources
from tests.cluster.errors import ClusterError

PACKAGES = ("ca-certificates", "git", "make", "python3", "python3-venv")
"""The README's prerequisites, and git."""
_OF_THE_MACHINE = ("/etc/hosts", "/etc/resolv.conf", "/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf")
"""How this machine reaches others."""
_ENTER = """
mount --rbind /dev "$0/dev"
mount --rbind /sys "$0/sys"
mount --types proc proc "$0/proc"
# Not exec: the first process has to take note of the end of those whose parents ended.
"$@" || exit
exit 0
"""


@dataclass(frozen=True)
class Root:
    """The root file system in a folder."""

    folder: Path

    def run(self, command: str, *, user: str = "root", cwd: str = "/", environment: Mapping[str, str]) -> int:
        """Run a shell command there, and show its output; returns its exit status."""
        variables = [f"{name}={value}" for name, value in environment.items()]
        inside = ["env", "--ignore-environment", f"--chdir={cwd}", *variables, "bash", "-c", command]
        chroot = ["chroot", f"--userspec={user}", str(self.folder), *inside]
        # unshare blocks the signal by which most children of tests end with their parent.
        namespaces = [
            *("setpriv", "--pdeathsig=KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child"),
            *("bash", "-euc", _ENTER, str(self.folder)),
        ]
        return subprocess.run([*namespaces, *chroot], check=False).returncode

    def change(self, command: str) -> None:
        """Run a command of the system as root, as an administrator would. Raises ClusterError."""
        status = self.run(command, environment={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"})
        if status:
            raise ClusterError(f"On the minimal system `{command}` failed with status {status}.")


@contextmanager
def minimal_root(suite: str) -> Iterator[Root]:
    """Make a minimal Debian of a suite, until the block ends."""
    with tempfile.TemporaryDirectory(prefix=f"{suite}-") as name:
        # Only for root by default, and an ordinary user has to pass.
        Path(name).chmod(0o755)
        folder = Path(name) / "root"
        folder.mkdir()
        subprocess.run(
            ["tar", "--extract", f"--file={_archive(suite)}", f"--directory={folder}", "--numeric-owner"], check=True
        )
        for path in filter(os.path.exists, _OF_THE_MACHINE):
            shutil.copyfile(path, folder / path.lstrip("/"))
        # Mounts in it have ended with the mount namespaces of the commands.
        yield Root(folder)


def _archive(suite: str) -> Path:
    sources = debian_sources(suite)

    def make(folder: Path) -> None:
        command = [
            "mmdebstrap",
            "--variant=minbase",
            f"--include={','.join(PACKAGES)}",
            suite,
            str(folder / "root.tar"),
        ]
        ran = subprocess.run([*command, *sources], capture_output=True, text=True, check=False)
        if ran.returncode:
            raise ClusterError(f"`{shlex.join(command)}` failed: {ran.stderr[-2000:]}")

    return made(f"minimal-{suite}", "minbase", suite, *PACKAGES, *sources, make=make) / "root.tar"
