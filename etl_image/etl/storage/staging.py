"""The staging folder, on a volume or in S3: files from a step for the next.

    PIPELINE/RUN/PARTITION/STEP.json      the manifest, written last: only files that it names are read
    PIPELINE/RUN/PARTITION/STEP-ID/…      the files of one attempt; a repeated step writes new ones

So the next step never reads files of a killed step, and two attempts never share a file.
"""

import hashlib
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import IO, Any, Literal, Self, cast

import fsspec
import pyarrow as pa
from botocore.exceptions import BotoCoreError, NoCredentialsError
from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError

from etl.config.settings import Settings
from etl.config.urls import check_storage
from etl.errors import ConfigurationError, TryAgainError
from etl.model.version_kind import UtcDatetime
from etl.model.window import Partition

Step = Literal["extract", "filter", "run"]
_PART_BYTES = 8 * 1024 * 1024
"""Bytes of a part sent to a bucket, or of a read-ahead; a file in S3 has 10,000 parts at most."""
# For a few megabytes of rows dictionaries cost more than they save; statistics are not read.
CODEC = {"compression": "zstd", "use_dictionary": False, "write_statistics": False}
"""Options of Parquet files."""


class Content(BaseModel):
    """The rows of a table in one snapshot: their number, the sum of their hashes, and when they were read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: NonNegativeInt
    hash: str
    read_at: UtcDatetime


class LogCounts(BaseModel):
    """The changes of a table in a window of the log; `is_past`: the slot was beyond it, so none could be read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    inserts: NonNegativeInt = 0
    updates: NonNegativeInt = 0
    deletes: NonNegativeInt = 0
    truncates: NonNegativeInt = 0
    is_past: bool = False


class Manifest(BaseModel):
    """The output of a step, with its partition and fingerprint. Paths are relative to the staging folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    partition: Partition
    fingerprint: str
    files: dict[str, str]
    extracted: NonNegativeInt
    kept: NonNegativeInt = 0
    dropped: NonNegativeInt = 0
    rejected: NonNegativeInt = 0
    adjusted: NonNegativeInt = 0
    row_bytes: NonNegativeInt = 0
    checksum: str = ""
    content: Content | None = None
    log: LogCounts | None = None


class Staging:
    """The files of one partition of one run."""

    def __init__(self, settings: Settings, pipeline: str, run_id: str, partition: str) -> None:
        self.filesystem, root = open_storage("STAGING_URL", settings.staging_url)
        self._pipeline = f"{root.rstrip('/')}/{pipeline}"
        self._folder = f"{self._pipeline}/{run_folder(run_id)}/{partition}"
        self._is_local = "file" in self.filesystem.protocol

    def path(self, name: str) -> str:
        """The full path of a file named in a manifest."""
        return f"{self._folder}/{name}"

    def new_folder(self, step: Step) -> str:
        """A folder name for one attempt of a step, relative to the partition's."""
        return f"{step}-{uuid.uuid4().hex[:12]}"

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes] | pa.NativeFile]:
        """Open a new file for writing. Raises TryAgainError if the storage is full or unavailable."""
        folder = self.path(name).rsplit("/", 1)[0]
        with storage_errors("written"):
            self.filesystem.makedirs(folder, exist_ok=True)
            try:
                with self._open_to_write(self.path(name)) as file:
                    yield file
            except BaseException:
                # A full volume would stay full.
                with suppress(Exception):
                    self._remove(folder)
                raise

    @contextmanager
    def reading(self, name: str) -> Iterator[IO[bytes]]:
        """Open a file for reading. Raises TryAgainError if it is missing or the storage unavailable."""
        try:
            with storage_errors("read"), self._open_to_read(self.path(name)) as file:
                yield file
        except FileNotFoundError:
            raise TryAgainError(f"{self.path(name)} is gone; clear the run from `extract` on.") from None

    def publish(self, step: Step, manifest: Manifest) -> None:
        """Publish a step's manifest in place of an earlier attempt's, whose files are then removed."""
        final, draft = self.path(f"{step}.json"), self.path(f"{step}-{uuid.uuid4().hex[:12]}.json.part")
        with storage_errors("written"):
            self.filesystem.pipe_file(draft, manifest.model_dump_json(indent=1).encode())
            earlier = self._files_of(step)
            # A rename on a volume, a copy of one object in S3: a partial manifest is never visible.
            self.filesystem.mv(draft, final)
            for folder in {name.split("/")[0] for name in earlier - set(manifest.files.values())}:
                self._remove(self.path(folder))

    def has(self, step: Step) -> bool:
        """Whether a step has published its manifest."""
        with storage_errors("read"):
            return bool(self.filesystem.exists(self.path(f"{step}.json")))

    def manifest(self, step: Step, fingerprint: str) -> Manifest:
        """The manifest of a step. Raises TryAgainError if it has not finished, ConfigurationError if it is stale."""
        try:
            with storage_errors("read"):
                text = self.filesystem.cat_file(self.path(f"{step}.json"))
        except FileNotFoundError:
            raise TryAgainError(
                f"There is no finished `etl {step}` of this partition in {self._folder}; run `etl {step}` first."
            ) from None
        try:
            manifest = Manifest.model_validate_json(text)
        except ValidationError as error:
            raise ConfigurationError(f"{self.path(f'{step}.json')} was not written by this version of etl.") from error
        if manifest.fingerprint != fingerprint:
            raise ConfigurationError(
                f"The pipeline changed after `etl {step}` of this partition ran; clear the run from `extract` on."
            )
        return manifest

    def sweep(self, older_than: datetime) -> int:
        """Remove the runs of this pipeline whose files are all older; returns how many."""
        swept = 0
        with storage_errors("swept"):
            for run in self._list(self._pipeline):
                # Folders count too: an attempt that could not write has left nothing else.
                found = self.filesystem.find(run, detail=True, withdirs=True).values()
                times = [when for info in found if (when := _modified(info))]
                if times and max(times) < older_than:
                    self._remove(run)
                    swept += 1
        return swept

    def partitions(self) -> list[str]:
        """The folders of all partitions of all runs of this pipeline."""
        with storage_errors("read"):
            return [folder for run in self._list(self._pipeline) for folder in self._list(run)]

    def tables(self, folder: str) -> list[str]:
        """The files of rows in a folder."""
        with storage_errors("read"):
            return [str(path) for path in self.filesystem.find(folder) if str(path).endswith(".parquet")]

    @contextmanager
    def opened(self, path: str) -> Iterator[IO[bytes]]:
        """Open a file by its full path for reading."""
        with storage_errors("read"), self._open_to_read(path) as file:
            yield file

    def remove(self, folder: str) -> None:
        """Remove a folder."""
        with storage_errors("removed"):
            self._remove(folder)

    def _open_to_read(self, path: str) -> IO[bytes]:
        return cast("IO[bytes]", self.filesystem.open(path, "rb", block_size=_PART_BYTES))

    def _open_to_write(self, path: str) -> IO[bytes] | pa.NativeFile:
        # Python's files copy each write, which may be a value of 100 MB.
        if self._is_local:
            return pa.OSFile(path, "wb")
        return cast("IO[bytes]", _InParts(self.filesystem.open(path, "wb", block_size=_PART_BYTES)))

    def _files_of(self, step: Step) -> set[str]:
        try:
            return set(Manifest.model_validate_json(self.filesystem.cat_file(self.path(f"{step}.json"))).files.values())
        except (FileNotFoundError, ValidationError):
            return set()

    def _list(self, folder: str) -> list[str]:
        if not self.filesystem.exists(folder):
            return []
        return [str(path) for path in self.filesystem.ls(folder, detail=False)]

    def _remove(self, path: str) -> None:
        with suppress(FileNotFoundError):  # another attempt may have removed it
            self.filesystem.rm(path, recursive=True)


class _InParts:
    """A file in a bucket; a long write is passed on in parts, since s3fs holds each write until it is sent."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def __enter__(self) -> Self:
        self._file.__enter__()
        return self

    def __exit__(self, *failure: Any) -> None:
        self._file.__exit__(*failure)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, data: bytes) -> int:
        view = memoryview(data)
        return sum(self._file.write(view[at : at + _PART_BYTES]) for at in range(0, len(view), _PART_BYTES))


def open_storage(name: str, url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system of the setting `name`, and the folder in it. Raises ConfigurationError."""
    check_storage(name, url)
    try:
        filesystem, root = fsspec.core.url_to_fs(url)
    except (ValueError, ImportError) as error:
        raise ConfigurationError(f"{name} ({url}) cannot be used: {error}.") from error
    return filesystem, str(root)


def run_folder(run_id: str) -> str:
    """A folder name for a run: readable, safe in any file system, and unique."""
    readable = re.sub(r"[^A-Za-z0-9_.-]+", "_", run_id).strip(".")[:80]
    return f"{readable}-{hashlib.sha256(run_id.encode()).hexdigest()[:8]}"


@contextmanager
def storage_errors(done: str, what: str = "Staging") -> Iterator[None]:
    """Translate errors of the storage to EtlError; a missing file stays FileNotFoundError."""
    try:
        yield
    except FileNotFoundError:
        raise
    except PermissionError as error:
        raise ConfigurationError(
            f"{what} cannot be {done}: {error.strerror} ({error.filename}); check its owner."
        ) from error
    except NoCredentialsError as error:
        raise ConfigurationError(f"{what} cannot be {done}: {error}; set AWS_ACCESS_KEY_ID and its secret.") from error
    except (OSError, BotoCoreError) as error:
        number = getattr(error, "errno", None)
        words = os.strerror(number) if number else error
        raise TryAgainError(
            f"{what} cannot be {done}: {words}; where it is full, free or enlarge it, then retry."
        ) from error


def _modified(info: dict[str, object]) -> datetime | None:
    """Time of the last change of a file: seconds since 1970 locally, a date in S3, None for folders in S3."""
    when = info.get("mtime", info.get("LastModified"))
    return when if when is None or isinstance(when, datetime) else datetime.fromtimestamp(float(str(when)), UTC)
