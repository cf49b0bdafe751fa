"""`etl copy-backups`: copy backups from BACKUP_FOLDER to BACKUP_URL, off the machine; or the newest back from there.

With BACKUP_RECIPIENTS a copy is encrypted before it is sent, in the format of age (age-encryption.org/v1), and its name
ends in .age. Copies are not deleted: their retention is a rule of the bucket.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

import fsspec
import structlog

from etl.config.settings import Settings
from etl.errors import ConfigurationError
from etl.storage import encryption
from etl.storage.staging import open_storage, storage_errors

SUFFIXES = (".dump", ".bak")
"""Suffixes of backups of the metadata database and of the sink."""
ENCRYPTED = ".age"
_DRAFT = ".part"


def copy_backups(settings: Settings, *, back: bool) -> list[str]:
    """Copy files that the other side does not have, `back` only the newest of each kind; returns their names.

    Raises ConfigurationError or TryAgainError.
    """
    if not settings.backup_url:
        raise ConfigurationError("BACKUP_URL is not set; write s3://bucket/folder, or file:///path.")
    filesystem, root = open_storage("BACKUP_URL", settings.backup_url)
    copies = _Copies(settings, filesystem, root)
    try:
        with storage_errors("copied", "A backup"):
            copied = copies.fetch() if back else copies.send()
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"A backup cannot be copied: {error.filename or error} is not there; check BACKUP_URL and BACKUP_FOLDER."
        ) from error
    structlog.get_logger().info("copy-backups: done", copied=copied, url=settings.backup_url, back=back)
    return copied


class _Copies:
    """The backups here, and their copies at BACKUP_URL."""

    def __init__(self, settings: Settings, filesystem: fsspec.AbstractFileSystem, root: str) -> None:
        self._settings, self._filesystem, self._root = settings, filesystem, root
        self._folder = settings.backup_folder
        self._is_local = "file" in filesystem.protocol
        for left in self._folder.glob(f".*{_DRAFT}"):  # by a killed attempt
            left.unlink()

    def send(self) -> list[str]:
        """Copy missing files to BACKUP_URL."""
        recipients = encryption.read_recipients(self._settings.backup_recipients)
        if not recipients:
            structlog.get_logger().warning(
                "copy-backups: the copies are not encrypted: whoever can read BACKUP_URL reads both databases. Name a"
                " public key of age in BACKUP_RECIPIENTS."
            )
        missing = self._missing(is_encrypted=bool(recipients))
        if self._is_local:  # in S3 this would create a bucket for a misspelt name
            self._filesystem.makedirs(self._root, exist_ok=True)
        for name in missing:
            if not recipients:
                self._filesystem.put_file(str(self._folder / name), f"{self._root}/{name}")
                continue
            with self._draft(name) as draft:
                encryption.encrypt(self._folder / name, draft, recipients)
                self._put(draft, name + ENCRYPTED)
        return missing

    def fetch(self) -> list[str]:
        """Fetch the newest of each kind; a file appears only when it is complete."""
        here, newest = self._here(), _newest(self._there())
        fetched = []
        for name, size in sorted(newest.items()):
            plain = name.removesuffix(ENCRYPTED)
            if plain in here if name != plain else here.get(name) == size:
                continue
            with self._draft(plain) as draft:
                self._filesystem.get_file(f"{self._root}/{name}", str(draft))
                if name != plain:
                    with self._draft(name) as decrypted:
                        encryption.decrypt(draft, decrypted, self._settings.backup_identity, name)
                        decrypted.rename(self._folder / plain)
                else:
                    draft.rename(self._folder / plain)
            fetched.append(plain)
        return fetched

    def _missing(self, *, is_encrypted: bool) -> list[str]:
        """Backups without a complete copy: a partial plain copy has another size, an encrypted one is complete."""
        there = self._there()
        return [
            name
            for name, size in sorted(self._here().items())
            if (name + ENCRYPTED not in there if is_encrypted else there.get(name) != size)
        ]

    def _put(self, file: Path, name: str) -> None:
        """Copy a file so that it appears when it is complete: in a bucket at once, in a folder by a rename."""
        target = f"{self._root}/{name}"
        self._filesystem.put_file(str(file), target + _DRAFT if self._is_local else target)
        if self._is_local:
            self._filesystem.mv(target + _DRAFT, target)

    @contextmanager
    def _draft(self, name: str) -> Iterator[Path]:
        """A temporary file beside the backups."""
        draft = self._folder / f".{name}{_DRAFT}"
        try:
            yield draft
        finally:
            with suppress(FileNotFoundError):
                draft.unlink()

    def _here(self) -> dict[str, int]:
        return {path.name: path.stat().st_size for path in self._folder.iterdir() if path.suffix in SUFFIXES}

    def _there(self) -> dict[str, int]:
        """Names and sizes of the copies; the folder may not exist yet."""
        self._filesystem.invalidate_cache()
        if not self._filesystem.exists(self._root):
            return {}
        listed = self._filesystem.ls(self._root, detail=True)
        found = {PurePosixPath(info["name"]).name: int(info["size"]) for info in listed}
        return {name: size for name, size in found.items() if name.removesuffix(ENCRYPTED).endswith(SUFFIXES)}


def _newest(sizes: dict[str, int]) -> dict[str, int]:
    """The newest of each kind: names end in their time. If there are two copies, the encrypted one."""
    newest = {name.partition("-")[0]: name for name in sorted(sizes)}
    return {name: sizes[name] for name in newest.values()}
