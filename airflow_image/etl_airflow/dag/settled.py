"""How far the source's transactions are done: a run begins where they were, and not only the look-back earlier.

A transaction that is open while a run reads may commit rows whose version is before the end of that run's window. So
beside the watermark it is kept from where on such rows can be. A row gets its version when it is written, after its
transaction got its id; what has a later id than any that a snapshot knew was written after that snapshot.
"""

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.microsoft.mssql.hooks.mssql import MsSqlHook
from etl.model.pipeline import Pipeline
from etl.model.window import Settled, Window
from etl.sqlserver import sql as sink_sql

_TABLE = sink_sql.quote_table(sink_sql.SETTLED)
log = logging.getLogger(__name__)


def read(pipeline: Pipeline, watermark: datetime | None, hook: MsSqlHook) -> Settled | None:
    """Return what the last run that added up has left; None before the first."""
    if watermark is None or not hook.get_first(f"SELECT OBJECT_ID({sink_sql.quote_text(_TABLE)}, N'U')")[0]:
        return None  # the first load makes the table, or `etl prepare-sink`
    columns = f"{sink_sql.time_text('value')}, {sink_sql.time_text('pending')}, [xmax]"
    found = hook.get_first(f"SELECT {columns} FROM {_TABLE} WHERE [pipeline] = %s", parameters=(pipeline.name,))
    if found is None:
        return None
    value, pending = (datetime.fromisoformat(text).replace(tzinfo=UTC) for text in found[:2])
    return Settled(value=min(value, watermark), pending=min(pending, watermark), xmax=int(found[2]))


def settle(
    left: Settled | None, begin: datetime | None, window: Window, look_back: timedelta, snapshot: tuple[int, int]
) -> Settled | None:
    """What a run over this window leaves, where the one before has left that, and would have begun after `begin`.

    `snapshot` has the first id of a transaction that is open, and the first that no transaction has yet.
    """
    xmin, xmax = snapshot
    if window.low is not None and (begin is None or window.low > begin - look_back):
        return left  # not all was read that was to be
    if xmin == xmax:
        return Settled(value=window.high, pending=window.high, xmax=xmax)
    if left is None:
        # How old the open ones are is not known; they are taken to have begun since the last run.
        return Settled(value=begin or window.high, pending=window.high, xmax=xmax)
    if left.xmax <= xmin:
        return Settled(value=left.pending, pending=window.high, xmax=xmax)
    log.warning(
        "A transaction of the source has been open since %s or before, and may still write versions from then on: runs"
        " read again from %s until it ends. See pg_stat_activity and pg_prepared_xacts there.",
        *(left.pending, left.value),
    )
    return left


def write(pipeline: Pipeline, run_id: str, settled: Settled, cursor: Any) -> None:
    """Keep it, in the transaction that moves the watermark."""
    value, pending = sink_sql.quote_time(settled.value), sink_sql.quote_time(settled.pending)
    cursor.execute(
        f"UPDATE {_TABLE} SET [value] = {value}, [pending] = {pending}, [xmax] = {settled.xmax}, [run_id] = %s"
        " WHERE [pipeline] = %s",
        (run_id, pipeline.name),
    )
    cursor.execute(
        f"INSERT INTO {_TABLE} ([pipeline], [value], [pending], [xmax], [run_id])"
        f" SELECT %s, {value}, {pending}, {settled.xmax}, %s"
        f" WHERE NOT EXISTS (SELECT 1 FROM {_TABLE} WHERE [pipeline] = %s)",
        (pipeline.name, run_id, pipeline.name),
    )
