"""`plan`: the window of a run, from the watermark in the sink to now at the source, cut into partitions by key."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import psycopg
from airflow.providers.microsoft.mssql.hooks.mssql import MsSqlHook
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowFailException
from etl.errors import ConfigurationError, printable
from etl.model.masking import Mask
from etl.model.pipeline import Pipeline
from etl.model.planning import choose_window, cut, rows_of_a_partition, share
from etl.model.settled import settle
from etl.model.window import KEYS, Partition, Settled, Window
from etl.postgres import sql as source_sql
from etl.postgres.checks import check_source
from etl.sqlserver import ledger
from etl.sqlserver import sql as sink_sql

from etl_airflow import metrics
from etl_airflow.dag import source_regression
from etl_airflow.dag.hooks import SinkHook, source_hook
from etl_airflow.dag.replacement import plan_replacement

TOLERANCE = timedelta(minutes=1)
"""How far a version may be ahead of the source's clock, since clients' clocks differ, until it is unreachable."""
EXAMPLES = 5
_WINDOW = ("full_refresh", "since", "until")
"""The Params that choose another window than the one after the watermark."""
log = logging.getLogger(__name__)


def plan_partitions(pipeline: Pipeline, params: dict[str, Any], source: str, sink: str) -> list[str]:
    """The run's partitions as JSON, none if nothing changed. `source` and `sink` are Airflow connections.

    Raises AirflowFailException for Params that contradict each other or the clock, for a source that differs from the
    pipeline, and for one whose rows are older than those that were read from it.
    """
    hook = SinkHook(sink)
    mask = Mask(pipeline, hook.mask_key)
    watermark = read_watermark(pipeline, hook)
    newest = source_regression.newest_rows(pipeline, hook) if watermark and pipeline.version else []
    with _snapshot(pipeline, source, mask) as (cursor, now, end):
        found = check_source(pipeline, cursor)
        check_deletes(pipeline, params)
        if pipeline.mode == "replace":
            metrics.tolerated_rejects(pipeline)
            return _as_json(plan_replacement(pipeline, params, hook, cursor, end or now))
        is_hashed = pipeline.has_sensitive_key or not found.is_ordered(pipeline.key)
        source_regression.check(pipeline, newest, cursor, mask, is_accepted=bool(params.get("accept_older_versions")))
        if end is None or (end == watermark and not any(params.get(name) for name in _WINDOW)):
            log.info(
                "%s: the source is a standby that has replayed nothing since %s.", pipeline.name, end or "it began"
            )
            return []
        window, future = _window(pipeline, params, watermark, end, hook, cursor), now + TOLERANCE
        cursor.execute(source_sql.count_window(pipeline, window, future, watermark))
        rows, oldest, unreachable = cursor.fetchone()
        metrics.unreachable_versions(pipeline, unreachable)
        if unreachable:
            cursor.execute(source_sql.unreachable_rows(pipeline, window, future, EXAMPLES))
            warn_unreachable(pipeline, unreachable, cursor.fetchall(), mask)
        size = rows_of_a_partition(rows, pipeline.partition_size, conf.getint("core", "default_pool_task_slot_count"))
        bounds: list[list[str]] = []
        if rows > size and not is_hashed:
            cursor.execute(source_sql.partition_bounds(pipeline, window, size))
            bounds = [list(keys) for keys in cursor.fetchall()]
    metrics.tolerated_rejects(pipeline)
    if watermark and (window.low is None or window.low <= watermark) and not params.get("until"):
        # The window covers all rows that have not been moved yet.
        metrics.lag(pipeline, float(oldest or 0))
    partitions = share(window, rows, size) if is_hashed else cut(window, rows, size, bounds)
    if watermark and is_compare_due(pipeline, params, now, hook):
        partitions.append(
            Partition(window=window, kind=KEYS, id=KEYS, accept_deletes=bool(params.get("accept_deletes")))
        )
    log.info(
        "%s: the watermark is %s; versions after %s up to %s are %d rows in %d partitions.",
        *(pipeline.name, watermark or "not set", window.low or "the beginning", window.high, rows, len(partitions)),
    )
    if not partitions:
        log.info(
            "%s: nothing to move, the tasks after plan are skipped: %s has no row whose %s is after %s and up to %s.",
            *(pipeline.name, pipeline.source, pipeline.version, window.low or "the beginning", window.high),
        )
    return _as_json(partitions)


def _as_json(partitions: list[Partition]) -> list[str]:
    return [partition.model_dump_json(exclude_defaults=True) for partition in partitions]


def check_deletes(pipeline: Pipeline, params: dict[str, Any]) -> None:
    """Raise ConfigurationError if the run accepts deletes that its pipeline does not make."""
    if params.get("accept_deletes") and pipeline.deletes == "keep":
        raise ConfigurationError(
            f"accept_deletes: the pipeline {pipeline.name} keeps rows that are gone at the source (deletes is keep)."
        )


def is_compare_due(pipeline: Pipeline, params: dict[str, Any], now: datetime, hook: MsSqlHook) -> bool:
    """Whether this run compares all keys, to find rows of the sink that the source does not have any more."""
    if pipeline.deletes == "keep":
        return False
    (latest,) = hook.get_first(ledger.latest_compare(pipeline))
    is_wanted = params.get("full_refresh") or params.get("accept_deletes")
    return bool(is_wanted or latest is None or now - ledger.utc(latest) >= pipeline.deletes_every)


def _window(
    pipeline: Pipeline, params: dict[str, Any], watermark: datetime | None, end: datetime, hook: SinkHook, cursor: Any
) -> Window:
    """The run's window, with its record of the source's transactions."""
    cursor.execute(source_sql.TRANSACTIONS)
    snapshot = cursor.fetchone()
    left = read_settled(pipeline, watermark, hook)
    if left is not None and left.xmax > snapshot[1]:
        left = None  # of another server: a restored one, or a failover, with lower transaction ids
    window, begin = choose_window(pipeline, params, watermark, end), watermark
    if left is not None:  # after choose_window accepted the watermark; the window may begin earlier
        begin = left.value
        window = choose_window(pipeline, params, begin, end)
    settled, warning = settle(left, begin, window, pipeline.look_back, snapshot)
    if warning:
        log.warning(warning)
    return window.model_copy(update={"settled": settled})


def warn_unreachable(pipeline: Pipeline, number: int, examples: list[Any], mask: Mask) -> None:
    """Warn of rows whose versions the run does not read; each of `examples` is key and version as text.

    Raises AirflowFailException instead if the pipeline's `unreachable_versions` is `refuse`.
    """
    text = (
        f"{number} rows of {pipeline.source} are not read: their {pipeline.version} is in the future, and they will be"
        " read when that time has come; or it is infinite or null, and they never will. Correct them at the source:"
        f" {'; '.join(f'{mask.row(key)} at {version}' for *key, version in examples)}."
    )
    if pipeline.unreachable_versions == "refuse":
        raise AirflowFailException(f"{pipeline.name}: {text} (unreachable_versions is refuse.)")
    log.warning("%s: %s", pipeline.name, text)


@contextmanager
def _snapshot(pipeline: Pipeline, source: str, mask: Mask) -> Iterator[tuple[Any, datetime, datetime | None]]:
    """A cursor in one read-only snapshot of the source, the time there, and the time up to which it is complete.

    The last is None on a standby that has replayed nothing yet. Raises AirflowFailException for errors that a retry
    does not resolve.
    """
    try:
        with source_hook(source).get_conn() as connection, connection.cursor() as cursor:
            # Before the snapshot: after it, `end` could include commits that a standby replayed in between.
            for statement in (*source_sql.SESSION, source_sql.CLOCK):
                cursor.execute(statement)
            now, end = cursor.fetchone()
            connection.rollback()
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            for statement in source_sql.SESSION:
                cursor.execute(statement)
            # Keys are text, in one encoding whatever that of the database is.
            cursor.execute("SET client_encoding = 'UTF8'")
            yield cursor, now, end
    except ConfigurationError as error:
        raise AirflowFailException(str(error)) from None
    except (psycopg.ProgrammingError, psycopg.DataError) as error:
        message = printable(mask.words(str(error).splitlines()[0]))
        raise AirflowFailException(
            f"{pipeline.name}: {pipeline.source} is not as the pipeline says; the source said: {message}."
        ) from None


def read_watermark(pipeline: Pipeline, hook: MsSqlHook) -> datetime | None:
    """The version up to which the sink is complete; None before the first run."""
    if hook.get_first(sink_sql.find_table(ledger.WATERMARK))[0] is None:
        return None
    found = hook.get_first(ledger.read_watermark(pipeline))
    return None if found is None else ledger.utc(found[0])


def read_settled(pipeline: Pipeline, watermark: datetime | None, hook: MsSqlHook) -> Settled | None:
    """The last record of the source's transactions; None before the first run."""
    if watermark is None or hook.get_first(sink_sql.find_table(ledger.SETTLED))[0] is None:
        return None  # the first load makes the table, or `etl prepare-sink`
    found = hook.get_first(ledger.read_settled(pipeline))
    if found is None:
        return None
    value, pending = map(ledger.utc, found[:2])
    return Settled(value=min(value, watermark), pending=min(pending, watermark), xmax=int(found[2]))
