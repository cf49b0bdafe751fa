"""`etl backup-sink` and `etl restore-sink`: BACKUP and RESTORE of the sink's database, to and from one file.

SQL Server writes and reads the file, in BACKUP_FOLDER: a folder of the server, mounted here under the same path.
"""

import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import structlog

from etl.config.settings import Settings
from etl.errors import ConfigurationError
from etl.sqlserver import ledger, prepare_sql
from etl.sqlserver.connection import connect_to_prepare
from etl.sqlserver.prepare import prepare_logins
from etl.sqlserver.sink import Sink

_DRAFT = ".part"


def backup_sink(settings: Settings, keep: int) -> Path:
    """Write a backup, verify it, and then rename it to its final name; delete all backups but the newest `keep`.

    Raises ConfigurationError or TryAgainError, and leaves no partial file.
    """
    database, folder = settings.sink_database(), settings.backup_folder
    final = folder / f"sink-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.bak"
    draft = final.with_name(final.name + _DRAFT)
    for left in folder.glob(f"sink-*{_DRAFT}"):  # by a killed attempt
        left.unlink()
    try:
        with connect_to_prepare(settings, settings.sink_backup(), about="backup-sink") as sink:
            _refuse_azure(sink, "backup-sink")
            sink.execute(prepare_sql.backup_database(database, str(draft)))
            sink.execute(prepare_sql.verify_backup(str(draft)))
        if not draft.exists():
            raise ConfigurationError(
                f"The server wrote {draft} to a disk of its own, and it is not visible here: mount the same folder"
                " there and here, and name it in BACKUP_FOLDER."
            )
        _rename_durably(draft, final)
    except BaseException:
        with suppress(OSError):
            draft.unlink()
        raise
    removed = sorted(folder.glob("sink-*.bak"))[:-keep]
    for old in removed:
        old.unlink()
    structlog.get_logger().info(
        "backup-sink: done", file=final.name, bytes=final.stat().st_size, removed=[old.name for old in removed]
    )
    return final


def restore_sink(settings: Settings, name: str) -> dict[str, str]:
    """Restore a backup over the sink's database and repair the logins; returns the watermark of each pipeline.

    If the file is missing or damaged, the sink is unchanged. After a later failure it is offline: run this again.
    Raises ConfigurationError or TryAgainError.
    """
    database, path = settings.sink_logins()[0].database, str(settings.backup_folder / Path(name).name)
    with connect_to_prepare(settings, about="restore-sink") as sink:
        _refuse_azure(sink, "restore-sink")
        sink.execute(prepare_sql.verify_backup(path))
        state = sink.rows(prepare_sql.FIND_STATE, database)
        # After an interrupted restore there are no sessions, and the database cannot be taken offline (5052).
        if state and state[0][0] != "RESTORING":
            sink.execute(prepare_sql.take_offline(database))
        sink.execute(prepare_sql.restore_database(database, path))
    done = prepare_logins(settings)
    with connect_to_prepare(settings, database=database, about="restore-sink") as sink:
        watermarks = _watermarks(sink)
    structlog.get_logger().info("restore-sink: done", file=name, done=done, watermarks=watermarks)
    return watermarks


def _refuse_azure(sink: Sink, command: str) -> None:
    if sink.value(prepare_sql.EDITION) == prepare_sql.AZURE_SQL_DATABASE:
        raise ConfigurationError(
            f"{command}: the sink is an Azure SQL Database, which keeps backups without being asked and gives none out"
            " as a file: restore it in the Azure portal, then run `etl prepare-sink`."
        )


def _rename_durably(draft: Path, final: Path) -> None:
    """Rename a file once its data is on disk, and sync the rename."""
    _sync(draft)
    draft.rename(final)
    _sync(final.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _watermarks(sink: Sink) -> dict[str, str]:
    if not sink.exists(ledger.WATERMARK):
        return {}
    return {str(pipeline): ledger.utc(value).isoformat() for pipeline, value in sink.rows(ledger.read_watermarks())}
