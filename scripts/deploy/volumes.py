"""The data: its folders on the node, and the PersistentVolumes that point at them."""

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from scripts.deploy.console import Console, DeployError
from scripts.deploy.kubectl import Kubectl, Object
from scripts.deploy.passwords import KEPT_FILE

OWNERS = {
    "etl-poc-mssql": (10001, 10001, 0o750),
    "etl-poc-metadata": (999, 999, 0o750),
    "etl-poc-staging": (10001, 10001, 0o2770),
    "etl-poc-backup": (10001, 10001, 0o750),
    "etl-poc-loki": (10001, 10001, 0o750),
    "etl-poc-prometheus": (65534, 65534, 0o750),
    "etl-poc-alertmanager": (65534, 65534, 0o750),
}
"""User, group and mode of the folder of each volume."""


def missing_folders(volumes: Mapping[str, Path]) -> dict[str, Path]:
    """The volumes of ours whose folder is not there yet."""
    return {name: path for name, path in volumes.items() if name in OWNERS and not path.exists()}


def make_folders(console: Console, volumes: Mapping[str, Path]) -> None:
    """Make the folders that are missing; one that is there is never touched."""
    for name, path in missing_folders(volumes).items():
        user, group, mode = OWNERS[name]
        # The folder above also holds the generated passwords.
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.mkdir()
        os.chown(path, user, group)
        path.chmod(mode)
        console.say(f"Made {path}.")


def folder_commands(volumes: Mapping[str, Path]) -> list[str]:
    """The same as commands for a person on another machine."""
    return [
        f"install --directory --owner={user} --group={group} --mode={mode:o} {volumes[name]}"
        for name, (user, group, mode) in OWNERS.items()
        if name in volumes
    ]


def live_volumes(kubectl: Kubectl, names: Iterable[str]) -> dict[str, Object]:
    """The PersistentVolumes of ours that the cluster has."""
    wanted = set(names)
    return {item["metadata"]["name"]: item for item in kubectl.items("pv") if item["metadata"]["name"] in wanted}


def free_released(console: Console, kubectl: Kubectl, names: Iterable[str]) -> None:
    """Let volumes whose claim was deleted be bound again by the claim of the same name, with the data in them."""
    for name, item in live_volumes(kubectl, names).items():
        if item.get("status", {}).get("phase") == "Released":
            patch = json.dumps({"spec": {"claimRef": {"uid": None, "resourceVersion": None}}})
            kubectl.run("patch", "pv", name, "--type=merge", f"--patch={patch}")
            console.say(f"PersistentVolume {name} may be bound again; its data is kept.")


def delete_folders(console: Console, paths: Iterable[Path]) -> None:
    """Delete data folders, and the folder above where nothing else is in it."""
    for path in paths:
        if path.is_symlink() or len(path.parts) < 3:
            raise DeployError(f"{path} is not a folder that this script made; delete what is in it yourself.")
        if path.exists():
            shutil.rmtree(path)
            console.say(f"Deleted {path}.")
        kept = path.parent / KEPT_FILE
        kept.unlink(missing_ok=True)
        with suppress(OSError):  # something else is in it, or it is where a disk is mounted
            path.parent.rmdir()
