"""`plan`: the window of a run, from the watermark in the sink to now at the source, cut into partitions by key."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import psycopg
from airflow.providers.microsoft.mssql.hooks.mssql import MsSqlHook
from airflow.sdk.exceptions import AirflowFailException
from etl.errors import ConfigurationError, printable
from etl.model.masking import Mask
from etl.model.pipeline import Pipeline
from etl.model.planning import choose_window
from etl.model.settled import settle
from etl.model.table_name import TableName
from etl.model.version_kind import Version, before, day_of, is_after
from etl.model.window import KEYS, Partition, Settled, Window
from etl.postgres import sql as source_sql
from etl.postgres.checks import check_source
from etl.sqlserver import ledger
from etl.sqlserver import sql as sink_sql
from etl.sqlserver import watermark as ledger_sql

from etl_airflow import metrics
from etl_airflow.dag import changes, source_regression
from etl_airflow.dag.division import divide
from etl_airflow.dag.hooks import SinkHook, source_hook
from etl_airflow.dag.log_plan import plan_log
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
    watermark = None if pipeline.is_log else read_watermark(pipeline, hook)
    newest = [] if watermark is None or not pipeline.version else source_regression.newest_rows(pipeline, hook)
    with _snapshot(pipeline, source, mask) as (cursor, now, end):
        found = check_source(pipeline, cursor)
        added = changes.columns_to_add(pipeline, found, hook)
        pipeline = pipeline.with_columns(added)
        unfilled = changes.find_unfilled(pipeline, hook)
        params = changes.params_to_fill(pipeline, params, unfilled)
        check_deletes(pipeline, params)
        if pipeline.is_log:
            metrics.gauge(metrics.TOLERATED_REJECTS, pipeline, pipeline.tolerated_rejects)
            fills = changes.is_filling(params, unfilled)
            return _as_json(plan_log(pipeline, params, hook, cursor, found, end or now, fills=fills), added)
        if pipeline.mode == "replace":
            metrics.gauge(metrics.TOLERATED_REJECTS, pipeline, pipeline.tolerated_rejects)
            return _as_json(plan_replacement(pipeline, params, hook, cursor, end or now, fills=bool(unfilled)), added)
        is_accepted = bool(params.get("accept_older_versions"))
        source_regression.check(pipeline, newest, cursor, mask, found.types, is_accepted=is_accepted)
        if end is None or (end == watermark and not _is_asked(params)):
            log.info(
                "%s: the source is a standby that has replayed nothing since %s.", pipeline.name, end or "it began"
            )
            return []
        is_due = watermark is not None and is_compare_due(pipeline, params, now, hook)
        window = _window(pipeline, params, watermark, end, hook, cursor, is_due=is_due)
        if window is None:
            metrics.gauge(metrics.LAG, pipeline, 0.0)
            log.info("%s: nothing to move: %s is its highest number.", pipeline.name, _shown(watermark, "none"))
            return []
        window = window.model_copy(update={"fills": changes.is_filling(params, unfilled)})
        future = now + TOLERANCE
        cursor.execute(source_sql.count_window(pipeline, window, future, watermark))
        rows, oldest, unreachable = cursor.fetchone()
        metrics.gauge(metrics.UNREACHABLE_VERSIONS, pipeline, unreachable)
        if unreachable:
            cursor.execute(source_sql.unreachable_rows(pipeline, window, future, EXAMPLES))
            warn_unreachable(pipeline, unreachable, cursor.fetchall(), mask)
        partitions = divide(pipeline, window, rows, found, cursor)
    metrics.gauge(metrics.TOLERATED_REJECTS, pipeline, pipeline.tolerated_rejects)
    if _covers_all(window, watermark, params) and (pipeline.version_kind != "number" or not rows):
        # Of numbers it is not known how old their rows are.
        metrics.gauge(metrics.LAG, pipeline, max(0.0, float(oldest or 0)))
    if is_due and _goes_on(window, watermark):
        partitions.append(
            Partition(window=window, kind=KEYS, id=KEYS, accept_deletes=bool(params.get("accept_deletes")))
        )
    log.info(
        "%s: the watermark is %s; versions after %s up to %s are %d rows in %d partitions.",
        *(pipeline.name, _shown(watermark, "not set"), _shown(window.low), window.high, rows, len(partitions)),
    )
    if not partitions:
        log.info(
            "%s: nothing to move, the tasks after plan are skipped: %s has no row whose %s is after %s and up to %s.",
            *(pipeline.name, pipeline.source, pipeline.version, _shown(window.low), window.high),
        )
    return _as_json(partitions, added)


def _as_json(partitions: list[Partition], added: dict[str, str]) -> list[str]:
    planned = [partition.model_copy(update={"added": added}) for partition in partitions]
    return [partition.model_dump_json(exclude_defaults=True) for partition in planned]


def _highest(pipeline: Pipeline, watermark: Version | None, end: datetime, cursor: Any) -> Version | None:
    """The highest version that the run may read; None where the version is a number and there is no row."""
    if pipeline.version_kind != "number":
        return end if pipeline.version_kind == "time" else day_of(end, pipeline.version_zone)
    cursor.execute(source_sql.highest_version(pipeline))
    # Rows may have been deleted since.
    return max((each for each in (cursor.fetchone()[0], watermark) if each is not None), default=None)


def _is_asked(params: dict[str, Any]) -> bool:
    """Whether the Params choose another window than the one after the watermark."""
    return any(params.get(name) not in (None, "", False) for name in _WINDOW)


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
    pipeline: Pipeline,
    params: dict[str, Any],
    watermark: Version | None,
    end: datetime,
    hook: SinkHook,
    cursor: Any,
    *,
    is_due: bool,
) -> Window | None:
    """The run's window, with its record of the source's transactions; None if there is no new number.

    Where keys are due to be compared nevertheless, the window has the highest number alone: one without rows is none.
    """
    highest, at = _highest(pipeline, watermark, end, cursor), end if pipeline.version_kind == "number" else None
    cursor.execute(source_sql.TRANSACTIONS)
    snapshot = cursor.fetchone()
    left = read_settled(pipeline, watermark, hook)
    if left is not None and left.xmax > snapshot[1]:
        left = None  # of another server: a restored one, or a failover, with lower transaction ids
    begin = watermark if left is None else left.value
    is_old = highest == begin and not pipeline.reach and not _is_asked(params)
    if highest is None or (is_old and not is_due):
        return None
    if highest != watermark:  # so that params are refused that the watermark contradicts; the window may begin earlier
        choose_window(pipeline, params, watermark, highest, at)
    window = choose_window(pipeline, params, before(begin, 1) if is_old else begin, highest, at)
    settled, warning = settle(left, begin, window, pipeline.reach, snapshot)
    if warning:
        log.warning(warning)
    return window.model_copy(update={"settled": settled})


def _goes_on(window: Window, watermark: Version | None) -> bool:
    """Whether the window leaves no gap after the watermark of an earlier run."""
    return watermark is not None and (window.low is None or not is_after(window.low, watermark))


def _covers_all(window: Window, watermark: Version | None, params: dict[str, Any]) -> bool:
    """Whether the window covers all rows that have not been moved yet."""
    return _goes_on(window, watermark) and params.get("until") in (None, "")


def _shown(version: Version | None, otherwise: str = "the beginning") -> str:
    return otherwise if version is None else str(version)


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
            now, end, _ = cursor.fetchone()
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
        problem = "is not as the pipeline says"
        if isinstance(error, psycopg.DataError):  # such as a division by zero
            problem = "has a row for which an expression, of the view or of the filter, fails"
        raise AirflowFailException(
            f"{pipeline.name}: {pipeline.source} {problem}; the source said: {message}."
        ) from None


def read_watermark(pipeline: Pipeline, hook: MsSqlHook) -> Version | None:
    """The version up to which the sink is complete; None before the first run."""
    if not _has_ledger(pipeline, ledger.WATERMARK, hook):
        return None
    found = hook.get_first(ledger_sql.read_watermark(pipeline))
    return None if found is None or found[0] is None else ledger_sql.as_version(found[0])


def read_settled(pipeline: Pipeline, watermark: Version | None, hook: MsSqlHook) -> Settled | None:
    """The last record of the source's transactions; None before the first run."""
    if watermark is None or not _has_ledger(pipeline, ledger.SETTLED, hook):
        return None
    found = hook.get_first(ledger_sql.read_settled(pipeline))
    if found is None or found[0] is None:
        return None
    value, pending = (min(ledger_sql.as_version(each), watermark) for each in found[:2])
    return Settled(value=value, pending=pending, xmax=int(found[2]))


def _has_ledger(pipeline: Pipeline, table: TableName, hook: MsSqlHook) -> bool:
    """Whether a table of the ledger is there, and of this version where that matters: the first load makes it so."""
    columns = [name for (name,) in hook.get_records(sink_sql.find_columns(table))]
    return bool(columns) and (pipeline.version_kind != "number" or "value_number" in columns)
