"""The plan of a pipeline that reads the write-ahead log: the next window of it, or a snapshot from which it goes on."""

import logging
from datetime import datetime
from typing import Any

from airflow.providers.common.compat.sdk import AirflowException
from airflow.providers.microsoft.mssql.hooks.mssql import MsSqlHook
from etl.errors import ConfigurationError
from etl.model.lsn import parse_lsn, write_lsn
from etl.model.pipeline import Pipeline
from etl.model.window import LOG, LogWindow, Partition, Window
from etl.postgres import log_sql
from etl.postgres.checks import Source
from etl.postgres.log_checks import LogSource, check_log, check_types, explain_origin
from etl.sqlserver import ledger, log_position
from etl.sqlserver import sql as sink_sql
from etl.sqlserver.log_position import LogPosition

from etl_airflow import metrics
from etl_airflow.dag import slot_metrics
from etl_airflow.dag.division import divide

log = logging.getLogger(__name__)


def plan_log(
    pipeline: Pipeline,
    params: dict[str, Any],
    hook: MsSqlHook,
    cursor: Any,
    found: Source,
    end: datetime,
    *,
    fills: bool,
) -> list[Partition]:
    """The partitions of a run: one of the log, several of a snapshot, none if nothing has changed.

    The position in the ledger says where the window begins, and not the slot, which may be behind it. `cursor` reads a
    snapshot of the source, as of `end`. Raises ConfigurationError for a source whose log cannot be read without a gap.
    """
    check_types(pipeline, found.types)
    slot_metrics.send(pipeline, cursor)
    source = check_log(pipeline, cursor)
    position = read_position(pipeline, hook)
    if source.may_be_unsent:
        log.warning(
            "%s: of %s, %s an update sends no value that it did not change and that is stored out of line (over 2 kB);"
            " such a change would stop the runs. ALTER TABLE ... REPLICA IDENTITY FULL at the source sends them.",
            *(pipeline.name, pipeline.source, ", ".join(source.may_be_unsent)),
        )
    if position is None or params.get("full_refresh"):
        return _plan_snapshot(pipeline, cursor, found, source, position, Window(high=end, fills=fills))
    _check_position(pipeline, position, source)
    if parse_lsn(source.confirmed) < parse_lsn(position.lsn):  # its last run ended between the commit and this
        cursor.execute(log_sql.advance(pipeline, position.lsn))
    window = _next_changes(pipeline, hook, cursor, position.lsn, source)
    if window is None:
        metrics.gauge(metrics.LAG, pipeline, 0.0)
        log.info("%s: nothing to move: the log has no change from %s on.", pipeline.name, position.lsn)
        return []
    log.info(
        "%s: the log is read from %s to %s; up to %s it is there.",
        *(pipeline.name, window.low, window.high, source.flushed),
    )
    return [Partition(window=Window(high=end), kind=LOG, id=LOG, log=window)]


def _next_changes(pipeline: Pipeline, hook: MsSqlHook, cursor: Any, begin: str, source: LogSource) -> LogWindow | None:
    """The first window with changes; None if there is none yet. The position is moved over those without.

    Of an idle table the source keeps no log so, and a log full of other tables' changes takes no run each.
    """
    low, flushed = parse_lsn(begin), parse_lsn(source.flushed)
    while low < flushed:
        high = min(flushed, low + pipeline.max_wal_per_run)
        window = LogWindow(low=write_lsn(low), high=write_lsn(high), origin=source.origin)
        cursor.execute(log_sql.peek(pipeline, window.high, 1))
        if cursor.fetchone() is not None:
            return window
        hook.run(log_position.pass_over(pipeline, window))
        position = read_position(pipeline, hook)
        if position is None or position.lsn != window.high:  # the slot never goes ahead of the ledger
            raise AirflowException(
                f"{pipeline.name}: another run has moved the position in the ledger meanwhile; try again."
            )
        cursor.execute(log_sql.advance(pipeline, window.high))
        low = high
    # Also where nothing was written: the time of the position says when the log was last looked at.
    end = LogWindow(low=write_lsn(low), high=write_lsn(low), origin=source.origin)
    hook.run(log_position.pass_over(pipeline, end))
    return None


def read_position(pipeline: Pipeline, hook: MsSqlHook) -> LogPosition | None:
    """The pipeline's position in the ledger; None before its first run."""
    if hook.get_first(sink_sql.find_table(ledger.LOG_POSITION))[0] is None:
        return None
    row = hook.get_first(log_position.read(pipeline))
    return None if row is None else log_position.parse(row)


def _check_position(pipeline: Pipeline, position: LogPosition, source: LogSource) -> None:
    """Raise ConfigurationError if changes after the position are not there any more, or are those of another log."""
    if problem := explain_origin(pipeline, position.origin, source.origin):
        raise ConfigurationError(f"{pipeline.name}: {problem}")
    if parse_lsn(source.confirmed) > parse_lsn(position.lsn):
        raise ConfigurationError(
            f"{pipeline.name}: the slot {pipeline.slot_name} is at {source.confirmed}, ahead of {position.lsn}, up to"
            " where the sink has the changes: those between are lost to this pipeline. Was the slot read by another"
            " program, made anew, or the sink restored from a backup? Run with full_refresh, which reads all rows."
        )
    if parse_lsn(source.flushed) < parse_lsn(position.lsn):
        raise ConfigurationError(
            f"{pipeline.name}: the source's log ends at {source.flushed}, before {position.lsn}, up to where the sink"
            " has the changes: the source has gone back. Run with full_refresh."
        )


def _plan_snapshot(
    pipeline: Pipeline, cursor: Any, found: Source, source: LogSource, position: LogPosition | None, window: Window
) -> list[Partition]:
    """Partitions of the whole table. The changes from the slot's position on, which is before them, are read again."""
    is_same = position is not None and not explain_origin(pipeline, position.origin, source.origin)
    start = source.confirmed
    if position is not None and is_same and parse_lsn(start) < parse_lsn(position.lsn) <= parse_lsn(source.flushed):
        start = position.lsn
    at = LogWindow(low=position.lsn if position else None, high=start, origin=source.origin)
    cursor.execute(log_sql.count_rows(pipeline))
    (rows,) = cursor.fetchone()
    partitions = divide(pipeline, window, rows, found, cursor)
    log.info(
        "%s: the whole table is read, %d rows in %d partitions; changes are read from %s on afterwards.",
        *(pipeline.name, rows, len(partitions), start),
    )
    partitions = partitions or [Partition(window=window, id="0001")]
    return [partition.model_copy(update={"log": at}) for partition in partitions]
