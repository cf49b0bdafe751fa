"""`etl copy-backups`: the backups of BACKUP_FOLDER also in BACKUP_URL, off the machine; and the newest back from there.

Nothing is removed there: how long copies are kept is a rule of the bucket.
"""

from pathlib import Path, PurePosixPath

import fsspec
import structlog

from etl.errors import ConfigurationError
from etl.settings import Settings
from etl.staging import open_storage, told

SUFFIXES = (".dump", ".bak")
"""How the files of the metadata database and of the sink end."""


def copy_backups(settings: Settings, *, back: bool) -> list[str]:
    """Copy what the other side lacks, `back` the newest of each kind only; returns the names of what was copied.

    Raises ConfigurationError or TryAgainError.
    """
    if not settings.backup_url:
        raise ConfigurationError("BACKUP_URL is not set; write s3://bucket/folder, or file:///path.")
    filesystem, root = open_storage("BACKUP_URL", settings.backup_url)
    try:
        with told("copied", "A backup"):
            copied = _copy(filesystem, root, settings.backup_folder, back=back)
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"A backup cannot be copied: {error.filename or error} is not there; check BACKUP_URL and BACKUP_FOLDER."
        ) from error
    structlog.get_logger().info("copy-backups: done", copied=copied, url=settings.backup_url, back=back)
    return copied


def _copy(filesystem: fsspec.AbstractFileSystem, root: str, folder: Path, *, back: bool) -> list[str]:
    here = {path.name: path.stat().st_size for path in folder.iterdir() if path.suffix in SUFFIXES}
    there = _sizes(filesystem, root)
    origin, target = (_newest(there), here) if back else (here, there)
    missing = [name for name, size in sorted(origin.items()) if target.get(name) != size]
    if "file" in filesystem.protocol:  # in S3 this would make a bucket of a misspelt name
        filesystem.makedirs(root, exist_ok=True)
    for name in missing:
        if back:
            _fetch(filesystem, f"{root}/{name}", folder / name)
        else:
            filesystem.put_file(str(folder / name), f"{root}/{name}")
    return missing


def _sizes(filesystem: fsspec.AbstractFileSystem, root: str) -> dict[str, int]:
    """Names and sizes of the backups in a folder, which may not be there yet."""
    filesystem.invalidate_cache()
    if not filesystem.exists(root):
        return {}
    found = {PurePosixPath(info["name"]).name: int(info["size"]) for info in filesystem.ls(root, detail=True)}
    return {name: size for name, size in found.items() if name.endswith(SUFFIXES)}


def _newest(sizes: dict[str, int]) -> dict[str, int]:
    """The newest of each kind: names end in their time."""
    newest = {name.partition("-")[0]: name for name in sorted(sizes)}
    return {name: sizes[name] for name in newest.values()}


def _fetch(filesystem: fsspec.AbstractFileSystem, path: str, local: Path) -> None:
    """Fetch a file whole, or not at all."""
    draft = local.with_name(local.name + ".part")
    filesystem.get_file(path, str(draft))
    draft.rename(local)
