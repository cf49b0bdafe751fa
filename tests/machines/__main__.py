"""`make machines`: the README's commands on minimal Debian systems, under conditions that are unusual and allowed."""

import argparse
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.cluster.building.cache import say
from tests.cluster.errors import ClusterError
from tests.machines.proxy import Proxy, run_proxy
from tests.machines.root import Root, minimal_root

_PROJECT = Path(__file__).resolve().parents[2]
_SUITES = ("bookworm", "trixie")
_COMMANDS = {
    "demo": "make demo",
    "test": "make test",
    "k3s": "scripts/install-k3s.sh --dry-run; scripts/install-k3s.sh --help && scripts/apply-all.sh --help"
    " && scripts/doctor.sh --help && scripts/restore.sh --help",
}
_USER = "someone"
_INSTALL = (
    "DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes --no-install-recommends"
    " curl libltdl7 libkrb5-3 libgssapi-krb5-2 >/dev/null"
)


@dataclass(frozen=True)
class Conditions:
    """User and folder of the commands."""

    name: str
    user: str
    home: str
    folder: str
    mask: str = "022"


CONDITIONS = (
    Conditions("root", "root", "/root", "/root/orders"),
    Conditions(
        "a user without sudo, an unwritable home, umask 077, a proxy, spaces in the path",
        _USER, "/home/some one", "/srv/some where/orders to sql", "077",
    ),
)  # fmt: skip


def main() -> int:
    """Try each command on each system under each of the conditions, and show a table of how it went."""
    options = _options()
    results: list[tuple[str, str, str, str, str]] = []
    for suite in options.suites:
        for conditions in CONDITIONS:
            if conditions.user not in options.users:
                continue
            with minimal_root(suite) as root, run_proxy() as proxy:
                _place_project(root, conditions)
                for name in options.commands:
                    say(f"\n=== Debian {suite}, {conditions.name}: {_COMMANDS[name]}")
                    results.append((suite, conditions.name, name, *_try(root, conditions, proxy, _COMMANDS[name])))
    _show(results)
    return int(any(result[3] != "well" for result in results))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make machines", description=__doc__)
    parser.add_argument("--suites", nargs="+", default=_SUITES, choices=_SUITES)
    parser.add_argument("--users", nargs="+", default=("root", _USER), choices=("root", _USER))
    parser.add_argument("--commands", nargs="+", default=list(_COMMANDS), choices=_COMMANDS)
    return parser.parse_args()


def _place_project(root: Root, conditions: Conditions) -> None:
    """Copy the committed files there, owned by its user."""
    target = root.folder / conditions.folder.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["git", "clone", "--quiet", _PROJECT, target], check=True)
    if conditions.user == "root":
        return
    # A user who may not install packages is asked to have these installed.
    root.change(f"apt-get update --quiet=2 && {_INSTALL}")
    root.change(f"useradd --home-dir '{conditions.home}' {conditions.user} && mkdir --mode 755 '{conditions.home}'")
    root.change(f"chown --recursive {conditions.user} '{conditions.folder}'")
    for path in target.rglob("*"):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & ~0o077)


def _try(root: Root, conditions: Conditions, proxy: Proxy, command: str) -> tuple[str, str]:
    environment = {"HOME": conditions.home, "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
    if conditions.user != "root":
        environment |= dict.fromkeys(("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"), proxy.url)
    before = time.monotonic()
    status = root.run(
        f"umask {conditions.mask}; {command}",
        user=conditions.user, cwd=conditions.folder, environment=environment,
    )  # fmt: skip
    seconds = f"{time.monotonic() - before:.0f} s"
    if proxy.local:
        asked = sorted(set(proxy.local))
        proxy.local.clear()
        return f"asked the proxy for {', '.join(asked[:3])}", seconds
    return "well" if status == 0 else f"status {status}", seconds


def _show(results: list[tuple[str, str, str, str, str]]) -> None:
    table = Table("Debian", "conditions", "command", "how it went", "time", title="Minimal systems")
    for result in results:
        table.add_row(*result)
    Console(width=max(shutil.get_terminal_size().columns, 120)).print(table)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ClusterError as error:
        sys.exit(str(error))
