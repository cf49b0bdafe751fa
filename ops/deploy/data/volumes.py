"""The data folders on the node, and their PersistentVolumes."""

import errno
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ops.cluster.console import Console, DeployError
from ops.cluster.kubectl import Kubectl, Object
from ops.cluster.objects import new
from ops.deploy.manifests.rendering import DATA_FOLDER
from ops.deploy.secrets.secrets import KEPT_FILE

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
    """The volumes whose folder does not exist."""
    return {name: path for name, path in volumes.items() if name in OWNERS and not path.exists()}


def make_folders(console: Console, volumes: Mapping[str, Path]) -> None:
    """Create missing folders; existing ones are never changed."""
    for name, path in missing_folders(volumes).items():
        user, group, mode = OWNERS[name]
        # The folder above also holds the generated passwords.
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.mkdir()
        os.chown(path, user, group)
        path.chmod(mode)
        console.say(f"Made {path}.")


def folder_commands(volumes: Mapping[str, Path]) -> list[str]:
    """Commands that create the folders on another machine."""
    return [
        f"install --directory --owner={user} --group={group} --mode={mode:o} {volumes[name]}"
        for name, (user, group, mode) in OWNERS.items()
        if name in volumes
    ]


def live_volumes(kubectl: Kubectl, names: Iterable[str]) -> dict[str, Object]:
    """The live PersistentVolumes with these names."""
    wanted = set(names)
    return {item["metadata"]["name"]: item for item in kubectl.items("pv") if item["metadata"]["name"] in wanted}


def local_folders(live: Mapping[str, Object]) -> dict[str, Path]:
    """The folders of live local volumes."""
    return {name: Path(item["spec"]["local"]["path"]) for name, item in live.items() if "local" in item["spec"]}


def data_home(live: Mapping[str, Object], planned: Mapping[str, Path]) -> Path | None:
    """The live location of the default data folder."""
    default = [name for name, path in planned.items() if path.parent == Path(DATA_FOLDER)]
    return next((path.parent for name, path in local_folders(live).items() if name in default), None)


def data_folders(live: Mapping[str, Object], planned: Mapping[str, Path]) -> list[Path]:
    """All data folders; a live volume's folder takes precedence over the manifest's."""
    return list({**planned, **local_folders(live)}.values())


def with_claims(volumes: Iterable[Object]) -> list[Object]:
    """PersistentVolumes with the claims that bind them, claims first."""
    found = list(volumes)
    holders = [item["spec"]["claimRef"] for item in found if "claimRef" in item["spec"]]
    return [new("PersistentVolumeClaim", holder["name"], holder["namespace"]) for holder in holders] + found


def free_released(console: Console, kubectl: Kubectl, names: Iterable[str]) -> None:
    """Make released volumes available to the claim of the same name, with their data."""
    for name, item in live_volumes(kubectl, names).items():
        if item.get("status", {}).get("phase") == "Released":
            patch = json.dumps({"spec": {"claimRef": {"uid": None, "resourceVersion": None}}})
            kubectl.run("patch", "pv", name, "--type=merge", f"--patch={patch}")
            console.say(f"PersistentVolume {name} may be bound again; its data is kept.")


def delete_folders(console: Console, paths: Sequence[Path]) -> None:
    """Delete data folders, then the passwords kept beside them, and the parent folder if it is empty.

    The passwords stay if there may be data of an earlier overlay, without a volume. Raises DeployError if data is left,
    and keeps its passwords.
    """
    left = [(path, reason) for path in paths if (reason := _delete_folder(console, path))]
    above = sorted({path.parent for path in paths})
    if left:
        lines = [f"{path} could not be deleted ({reason})." for path, reason in left]
        passwords = ", ".join(str(folder / KEPT_FILE) for folder in above)
        raise DeployError("\n".join([*lines, f"Delete what is left there yourself, then {passwords}."]))
    for folder in above:
        kept = folder / KEPT_FILE
        named = {folder / name.removeprefix("etl-poc-") for name in OWNERS} - set(paths)
        doubtful = sorted(path for path in named if path.exists())
        if doubtful and kept.exists():
            console.warn(
                f"{', '.join(map(str, doubtful))} may hold data of an earlier overlay, whose passwords are in {kept}:"
                " if it is yours to delete, delete both."
            )
            continue
        kept.unlink(missing_ok=True)
        with suppress(OSError):  # it is not empty, or a mount point
            folder.rmdir()


def _delete_folder(console: Console, path: Path) -> str | None:
    """Delete a folder; returns the reason if data is left in it."""
    if path.is_symlink() or len(path.parts) < 3:
        return "it is not a folder that this script made"
    if not path.exists():
        return None
    try:
        shutil.rmtree(path)
    except OSError as error:
        if error.errno != errno.EBUSY or any(path.iterdir()):
            return error.strerror or str(error)
        console.say(f"Emptied {path}, where a disk is mounted: the folder itself stays.")
    else:
        console.say(f"Deleted {path}.")
    return None
