"""What a run covers: its window, from the watermark in the sink to now at the source, cut into partitions by key."""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Literal

import psycopg
from airflow.providers.microsoft.mssql.hooks.mssql import MsSqlHook
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowFailException
from etl.errors import ConfigurationError, shown
from etl.model.masking import Mask
from etl.model.pipeline import Pipeline
from etl.model.window import Partition, Window
from etl.postgres import sql as source_sql
from etl.postgres.checks import check_source
from etl.sqlserver import sql as sink_sql
from pydantic import ValidationError

from etl_airflow import metrics
from etl_airflow.dag import settled, source_regression
from etl_airflow.dag.hooks import SinkHook, source_hook

MOST_PARTITIONS = 1000
"""Airflow's own bound is [core] max_map_length = 1024; larger windows get larger partitions."""
TOLERANCE = timedelta(minutes=1)
"""How far a version may be ahead of the source's clock, as client clocks are, before it counts as unreachable."""
EXAMPLES = 5
_WINDOW = ("full_refresh", "since", "until")
"""The Params that choose another window than the one after the watermark."""
log = logging.getLogger(__name__)


def plan_partitions(pipeline: Pipeline, params: dict[str, Any], source: str, sink: str) -> list[str]:
    """The run's partitions as JSON, none where nothing changed. `source` and `sink` are Airflow connections.

    Raises AirflowFailException for Params that contradict each other or the clock, for a source that is not as the
    pipeline says, and for one that has gone back behind what was read from it.
    """
    hook = SinkHook(sink)
    mask = Mask(pipeline, hook.mask_key)
    watermark = read_watermark(pipeline, hook)
    newest = source_regression.newest_rows(pipeline, hook) if watermark else []
    with _snapshot(pipeline, source, mask) as (cursor, now, end):
        check_source(pipeline, cursor)
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
            tell_unreachable(pipeline, unreachable, cursor.fetchall(), mask)
        size = rows_of_a_partition(rows, pipeline.partition_size, conf.getint("core", "default_pool_task_slot_count"))
        bounds: list[list[str]] = []
        if rows > size and not pipeline.has_sensitive_key:
            cursor.execute(source_sql.partition_bounds(pipeline, window, size))
            bounds = [list(keys) for keys in cursor.fetchall()]
    metrics.tolerated_rejects(pipeline)
    if watermark and (window.low is None or window.low <= watermark) and not params.get("until"):
        # The window covers all that has not been moved yet.
        metrics.lag(pipeline, float(oldest or 0))
    partitions = share(window, rows, size) if pipeline.has_sensitive_key else cut(window, rows, size, bounds)
    log.info(
        "%s: the watermark is %s; versions after %s up to %s are %d rows in %d partitions.",
        *(pipeline.name, watermark or "not set", window.low or "the beginning", window.high, rows, len(partitions)),
    )
    if not partitions:
        log.info(
            "%s: nothing to move, the tasks after plan are skipped: %s has no row whose %s is after %s and up to %s.",
            *(pipeline.name, pipeline.source, pipeline.version, window.low or "the beginning", window.high),
        )
    return [partition.model_dump_json(exclude_defaults=True) for partition in partitions]


def _window(
    pipeline: Pipeline, params: dict[str, Any], watermark: datetime | None, end: datetime, hook: SinkHook, cursor: Any
) -> Window:
    """The run's window, and what it leaves of the source's transactions."""
    cursor.execute(source_sql.TRANSACTIONS)
    snapshot = cursor.fetchone()
    left = settled.read(pipeline, watermark, hook)
    if left is not None and left.xmax > snapshot[1]:
        left = None  # of another server: one that was restored, or took over, has not come as far
    window, begin = choose_window(pipeline, params, watermark, end), watermark
    if left is not None:  # the clock is not behind the watermark, and the window may begin earlier
        begin = left.value
        window = choose_window(pipeline, params, begin, end)
    leaves = settled.settle(left, begin, window, pipeline.look_back, snapshot)
    return window.model_copy(update={"settled": leaves})


def tell_unreachable(pipeline: Pipeline, number: int, examples: list[Any], mask: Mask) -> None:
    """Log that rows are at versions that the run does not read, of which `examples` are given: key and version as text.

    Raises AirflowFailException instead where the pipeline says so.
    """
    told = (
        f"{number} rows of {pipeline.source} are not read: their {pipeline.version} is in the future, and they will be"
        " read when that time has come; or it is infinite, and they never will. Correct them at the source:"
        f" {'; '.join(f'{mask.row(key)} at {version}' for *key, version in examples)}."
    )
    if pipeline.unreachable_versions == "refuse":
        raise AirflowFailException(f"{pipeline.name}: {told} (unreachable_versions is refuse.)")
    log.warning("%s: %s", pipeline.name, told)


@contextmanager
def _snapshot(pipeline: Pipeline, source: str, mask: Mask) -> Iterator[tuple[Any, datetime, datetime | None]]:
    """A cursor in one read-only snapshot of the source, the time there, and until when the snapshot is complete.

    The last is None on a standby that has replayed nothing yet. What a retry cannot help raises AirflowFailException.
    """
    try:
        with source_hook(source).get_conn() as connection, connection.cursor() as cursor:
            # Before the snapshot: what a standby replays in between would be later than the snapshot, and not in it.
            for statement in (*source_sql.SESSION, source_sql.CLOCK):
                cursor.execute(statement)
            now, end = cursor.fetchone()
            connection.rollback()
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            for statement in source_sql.SESSION:
                cursor.execute(statement)
            # Keys come as text, in one encoding whatever that of the database is.
            cursor.execute("SET client_encoding = 'UTF8'")
            yield cursor, now, end
    except ConfigurationError as error:
        raise AirflowFailException(str(error)) from None
    except (psycopg.ProgrammingError, psycopg.DataError) as error:
        words = shown(mask.words(str(error).splitlines()[0]))
        raise AirflowFailException(
            f"{pipeline.name}: {pipeline.source} is not as the pipeline says; the source said: {words}."
        ) from None


def read_watermark(pipeline: Pipeline, hook: MsSqlHook) -> datetime | None:
    """The version up to which the sink is complete; None before the first run."""
    table = sink_sql.quote_table(sink_sql.WATERMARK)
    if hook.get_first(f"SELECT OBJECT_ID({sink_sql.quote_text(table)}, N'U')")[0] is None:
        return None
    query = f"SELECT {sink_sql.time_text('value')} FROM {table} WHERE [pipeline] = %s"
    found = hook.get_first(query, parameters=(pipeline.name,))
    return None if found is None else datetime.fromisoformat(f"{found[0]}+00:00")


def choose_window(pipeline: Pipeline, params: dict[str, Any], watermark: datetime | None, end: datetime) -> Window:
    """The versions to read, up to `end` at the latest.

    Raises AirflowFailException, in words, for Params that make no sense.
    """
    since, until = (_time(params, name) for name in ("since", "until"))
    if params.get("accept_older_versions") and not (params.get("full_refresh") or since):
        raise AirflowFailException(
            "accept_older_versions needs full_refresh, or since: the older rows are not in the window otherwise."
        )
    if params.get("full_refresh") and since:
        raise AirflowFailException("full_refresh reads from the beginning and since does not: give one of them.")
    if until and until > end:
        raise AirflowFailException(f"until ({until}) lies in the future: the source can be read up to {end}.")
    if since is not None:
        low = since
    elif params.get("full_refresh") or watermark is None:
        low = None
    else:
        low = _before(watermark, pipeline)
    # Rows are asked for again: also those that have not changed since, but that the sink does not have as they are.
    refresh: Literal["newer", "differing", "all"] = "differing" if params.get("full_refresh") or since else "newer"
    if params.get("accept_older_versions"):
        refresh = "all"
    try:
        return Window(low=low, high=until or end, refresh=refresh)
    except ValidationError:
        reason = "since" if since else f"the watermark less the look-back of {pipeline.look_back}"
        raise AirflowFailException(f"The window is empty: {reason} ({low}) is not before {until or end}.") from None


def rows_of_a_partition(rows: int, at_most: int, pods: int) -> int:
    """How many rows a partition gets, where so many pods may run at once.

    Partitions are alike, and where they are more than the pods a multiple of them: no pod stands idle at the end.
    """
    number = math.ceil(rows / at_most)
    if number > pods:
        number = math.ceil(number / pods) * pods
    return math.ceil(rows / max(1, min(number, MOST_PARTITIONS)))


def cut(window: Window, rows: int, size: int, bounds: list[list[str]]) -> list[Partition]:
    """Partitions between the bounds. The first and the last are open, so that no key falls between or outside them."""
    if rows == 0:
        return []
    # Where the last partition is full too, its upper bound is one of them.
    inner = bounds if rows % size else bounds[:-1]
    return [
        Partition(
            window=window,
            id=f"{number:04d}",
            lower=lower,
            upper=upper,
            expected_rows=min(size, rows - (number - 1) * size),
        )
        for number, (lower, upper) in enumerate(pairwise([None, *inner, None]), start=1)
    ]


def share(window: Window, rows: int, size: int) -> list[Partition]:
    """Partitions of about so many rows each, by a hash of the key: where keys are sensitive no bound may be one."""
    number = math.ceil(rows / size) if rows else 0
    return [
        Partition(
            window=window,
            id=f"{place + 1:04d}",
            share=(place, number) if number > 1 else None,
            expected_rows=math.ceil(rows / number),
        )
        for place in range(number)
    ]


def _before(watermark: datetime, pipeline: Pipeline) -> datetime | None:
    try:
        return watermark - pipeline.look_back
    except OverflowError:  # before the year 1 there is nothing
        return None


def _time(params: dict[str, Any], name: str) -> datetime | None:
    if not params.get(name):
        return None
    told = f"{name} ({shown(params[name])})"
    try:
        value = datetime.fromisoformat(params[name])
    except (ValueError, TypeError):
        raise AirflowFailException(f"{told} is not a time such as 2026-01-31T00:00:00Z.") from None
    if value.tzinfo is None:
        raise AirflowFailException(f"{told} has no time zone; add Z or an offset such as +01:00.")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise AirflowFailException(f"{told} is outside the years 1 to 9999 in UTC.") from None
