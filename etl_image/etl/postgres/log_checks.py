"""Checks of what reading the write-ahead log needs at the source, before a run is planned and before it is read."""

from dataclasses import dataclass
from typing import Any

from etl.errors import ConfigurationError, TryAgainError, printable
from etl.model.lsn import parse_lsn, write_lsn
from etl.model.pipeline import Pipeline
from etl.model.window import Origin
from etl.postgres import log_sql
from etl.postgres.checks import Cursor
from etl.postgres.quoting import quote_name, quote_table

_REFUSED_TYPES = ("money",)
"""Types whose text depends on the locale of the server."""
_PREPARE = "`etl prepare-source` makes it"


@dataclass(frozen=True)
class LogSource:
    """The write-ahead log of a source: the position up to which it is on disk, its origin, and the slot's position.

    `table` is the oid of the source table, `types` the oid of the type of each of its columns. `may_be_unsent`: columns
    that an update may not send, since they are stored out of line and the identity is not FULL.
    """

    flushed: str
    origin: Origin
    confirmed: str
    table: int
    types: dict[str, int]
    may_be_unsent: tuple[str, ...]


def check_log(pipeline: Pipeline, cursor: Cursor) -> LogSource:
    """Compare server, slot, publication and table with what the pipeline needs.

    Raises ConfigurationError, or TryAgainError for a slot that is in use, for the first difference by which changes
    would be missed or the application's own writes would fail.
    """
    cursor.execute(log_sql.SERVER)
    is_standby, version, wal_level, system, flushed, timeline = cursor.fetchall()[0]
    _refuse_if(is_standby, pipeline, "the source is a standby, and the log is read from the primary: name that instead")
    _refuse_if(
        version < log_sql.FIRST_VERSION,
        pipeline,
        f"capture is log, which needs PostgreSQL 15 and not {version // 10000}",
    )
    _refuse_if(
        wal_level != "logical",
        pipeline,
        f"wal_level of the source is {wal_level}; set wal_level = logical there, and restart it",
    )
    confirmed = _check_slot(pipeline, cursor)
    publication = _check_publication(pipeline, cursor)
    table, unsent = _check_table(pipeline, cursor)
    cursor.execute(log_sql.column_types(pipeline))
    types = {name: int(oid) for name, oid in cursor.fetchall()}
    origin = Origin(system=system, timeline=timeline, publication=publication)
    flushed, confirmed = (write_lsn(parse_lsn(each)) for each in (flushed, confirmed))
    return LogSource(flushed, origin, confirmed, table, types, unsent)


def _check_slot(pipeline: Pipeline, cursor: Cursor) -> str:
    """The slot's position."""
    slot = pipeline.slot_name
    cursor.execute(log_sql.find_slot(pipeline))
    found = cursor.fetchall()
    _refuse_if(
        not found, pipeline, f"the source has no replication slot {slot}; {_PREPARE}, then run with full_refresh"
    )
    plugin, is_here, is_other, is_active, status, confirmed = found[0]
    _refuse_if(
        plugin != "pgoutput" or not is_here or is_other or confirmed is None,
        pipeline,
        f"the replication slot {slot} is not one of this database with the plugin pgoutput, permanent and without"
        f" two-phase; {_PREPARE}, under a name of its own",
    )
    _refuse_if(
        status == "lost",
        pipeline,
        f"the replication slot {slot} is lost: the source has removed log that was not read, beyond"
        f" max_slot_wal_keep_size. Drop it, SELECT pg_drop_replication_slot('{slot}'), let `etl prepare-source` make it"
        " anew, and run with full_refresh, which reads the whole table; what came and went in between is lost",
    )
    if is_active:
        raise TryAgainError(
            f"{pipeline.name}: the replication slot {slot} is in use by another session of the source, as of an"
            " earlier attempt; try again when that has ended (pg_replication_slots there has its pid)."
        )
    return str(confirmed)


def _check_publication(pipeline: Pipeline, cursor: Cursor) -> str:
    """The fingerprint of the publication."""
    name, table = pipeline.publication_name, pipeline.source
    cursor.execute(log_sql.find_publication(pipeline))
    found = cursor.fetchall()
    _refuse_if(not found, pipeline, f"the source has no publication {printable(name)}; {_PREPARE}")
    publishes, is_via_root, columns, row_filter, mark = found[0]
    add = f"ALTER PUBLICATION {quote_name(name)}"
    _refuse_if(
        columns is None,
        pipeline,
        f"the publication {printable(name)} does not send {table}: {add} ADD TABLE {quote_table(table)}"
        + ("" if is_via_root else f"; of a partitioned table also {add} SET (publish_via_partition_root)"),
    )
    _refuse_if(
        not publishes, pipeline, f"the publication {printable(name)} lacks inserts or updates: {add} SET (publish = '')"
    )
    _refuse_if(
        row_filter is not None,
        pipeline,
        f"the publication {printable(name)} has a row filter for {table}, and rows that it drops would be missed; add"
        " the table without one",
    )
    missing = [each for each in pipeline.sources.values() if each not in (columns or ())]
    _refuse_if(
        bool(missing),
        pipeline,
        f"the publication {printable(name)} does not send the column {printable(', '.join(missing))} of {table}; add it"
        " to its list, or take it out of the pipeline (generated columns are not sent)",
    )
    return str(mark)


def _check_table(pipeline: Pipeline, cursor: Cursor) -> tuple[int, tuple[str, ...]]:
    """The oid of the source table, and the columns of which updates may not send a value."""
    cursor.execute(log_sql.find_identity(pipeline))
    ((table, kind, has_identity, unsent),) = cursor.fetchall()
    _refuse_if(
        kind not in ("r", "p"), pipeline, f"{pipeline.source} is no table, and the log has changes of tables alone"
    )
    _refuse_if(
        not has_identity,
        pipeline,
        f"{pipeline.source} has no replica identity, or a partition of it, so that the application's own UPDATE and"
        f" DELETE fail while it is published: ALTER TABLE {quote_table(pipeline.source)} REPLICA IDENTITY FULL (of"
        " each partition), or give it a primary key",
    )
    listed = set(pipeline.sources.values()) - {pipeline.sources.get(name) for name in pipeline.key}
    return int(table), tuple(sorted(name for name in unsent or () if name in listed))


def check_types(pipeline: Pipeline, types: dict[str, Any]) -> None:
    """Raise ConfigurationError for a column whose text in the log is not its value. `types`: as of `check_source`."""
    for name in pipeline.sources:
        _refuse_if(
            name in types and types[name].name in _REFUSED_TYPES,
            pipeline,
            f"column {name} is {name in types and types[name].name}, whose text in the log depends on the server's"
            " locale; leave it out",
        )


def explain_origin(pipeline: Pipeline, read: Origin, found: Origin) -> str:
    """Why a position that was read belongs to another log than the source has now, and what to do; empty if not."""
    if read.system != found.system:
        why = "the source is another server than the one that was read (its system identifier differs)"
    elif read.timeline != found.timeline:
        was = f"{found.timeline} and was {read.timeline}"
        why = f"the source's timeline is {was}: it was restored from a backup, or a standby took over"
    elif read.publication != found.publication:
        why = (
            f"the publication {printable(pipeline.publication_name)} or the table in it was changed or made anew, so"
            " changes may be missing"
        )
    else:
        return ""
    return f"{why}. Run with full_refresh, which reads the whole table and goes on from the slot's position."


def _refuse_if(is_so: bool, pipeline: Pipeline, why: str) -> None:
    if is_so:
        raise ConfigurationError(f"{pipeline.name}: {why}.")
