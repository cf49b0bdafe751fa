"""The data: its folders on the node, and the PersistentVolumes that point at them."""

import errno
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ops.cluster.console import Console, DeployError
from ops.cluster.kubectl import Kubectl, Object
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


def local_folders(live: Mapping[str, Object]) -> dict[str, Path]:
    """Where the cluster says that volumes lie which are folders."""
    return {name: Path(item["spec"]["local"]["path"]) for name, item in live.items() if "local" in item["spec"]}


def data_home(live: Mapping[str, Object], planned: Mapping[str, Path]) -> Path | None:
    """Where volumes of the default folder really are, as those tell that the cluster has."""
    default = [name for name, path in planned.items() if path.parent == Path(DATA_FOLDER)]
    return next((path.parent for name, path in local_folders(live).items() if name in default), None)


def data_folders(live: Mapping[str, Object], planned: Mapping[str, Path]) -> list[Path]:
    """Where the data of ours lies: where a volume really is counts more than where the manifests put it."""
    return list({**planned, **local_folders(live)}.values())


def with_claims(volumes: Iterable[Object]) -> list[Object]:
    """PersistentVolumes, and the claims that hold them."""
    found = list(volumes)
    holders = [item["spec"]["claimRef"] for item in found if "claimRef" in item["spec"]]
    claims: list[Object] = [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"namespace": holder["namespace"], "name": holder["name"]},
        }
        for holder in holders
    ]
    return claims + found


def free_released(console: Console, kubectl: Kubectl, names: Iterable[str]) -> None:
    """Let volumes whose claim was deleted be bound again by the claim of the same name, with the data in them."""
    for name, item in live_volumes(kubectl, names).items():
        if item.get("status", {}).get("phase") == "Released":
            patch = json.dumps({"spec": {"claimRef": {"uid": None, "resourceVersion": None}}})
            kubectl.run("patch", "pv", name, "--type=merge", f"--patch={patch}")
            console.say(f"PersistentVolume {name} may be bound again; its data is kept.")


def delete_folders(console: Console, paths: Sequence[Path]) -> None:
    """Delete data folders, then the passwords kept beside them, and the folder above where nothing else is in it.

    Where there may be data of an earlier overlay, which has no volume any more, the passwords stay. Raises DeployError
    where data is left, and then keeps the passwords that it needs.
    """
    left = [(path, reason) for path in paths if (reason := _delete_folder(console, path))]
    above = sorted({path.parent for path in paths})
    if left:
        told = [f"{path} could not be deleted ({reason})." for path, reason in left]
        passwords = ", ".join(str(folder / KEPT_FILE) for folder in above)
        raise DeployError("\n".join([*told, f"Delete what is left there yourself, then {passwords}."]))
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
        with suppress(OSError):  # something else is in it, or it is where a disk is mounted
            folder.rmdir()


def _delete_folder(console: Console, path: Path) -> str | None:
    """Delete a folder; returns why data is left in it, if so."""
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
