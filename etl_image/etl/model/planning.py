"""Planning of a run, without I/O: its window, and the partitions it is cut into."""

import math
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any, Literal

from pydantic import ValidationError

from etl.errors import ConfigurationError, printable
from etl.model.pipeline import Pipeline
from etl.model.version_kind import Version, before, is_after
from etl.model.window import Partition, Window

MOST_PARTITIONS = 1000
"""Airflow's limit is [core] max_map_length = 1024; larger windows get larger partitions."""


def choose_window(
    pipeline: Pipeline, params: dict[str, Any], watermark: Version | None, end: Version, at: datetime | None = None
) -> Window:
    """The versions to read, up to `end` at the latest; `at` is the time of the source where these are numbers.

    `params` are the Params of the run. Raises ConfigurationError for those that contradict each other or the clock.
    """
    since, until = (_given(pipeline, params, name) for name in ("since", "until"))
    if params.get("accept_older_versions") and not (params.get("full_refresh") or since is not None):
        raise ConfigurationError(
            "accept_older_versions needs full_refresh, or since: the older rows are not in the window otherwise."
        )
    if params.get("full_refresh") and since is not None:
        raise ConfigurationError("full_refresh reads from the beginning and since does not: give one of them.")
    if until is not None and is_after(until, end):
        beyond = "is above the highest number" if isinstance(until, int) else "lies in the future"
        raise ConfigurationError(f"until ({until}) {beyond}: the source can be read up to {end}.")
    if since is not None:
        low = since
    elif params.get("full_refresh") or watermark is None:
        low = None
    else:
        low = before(watermark, pipeline.reach)
    # The user asks for the rows again: also rows that differ in the sink at the same version are overwritten. Changes
    # of one day have the same version.
    asked = bool(params.get("full_refresh") or since is not None or pipeline.version_kind == "day")
    refresh: Literal["newer", "differing", "all"] = "differing" if asked else "newer"
    if params.get("accept_older_versions"):
        refresh = "all"
    high = end if until is None else until
    try:
        return Window(low=low, high=high, at=at, refresh=refresh)
    except ValidationError:
        reason = "since" if since is not None else f"the watermark less the look-back of {pipeline.look_back}"
        raise ConfigurationError(f"The window is empty: {reason} ({low}) is not before {high}.") from None


def rows_of_a_partition(rows: int, at_most: int, pods: int) -> int:
    """Rows of a partition, if `pods` may run at once.

    Partitions have the same size. If there are more of them than pods, they are a multiple of the pods, so that no pod
    is idle at the end.
    """
    number = math.ceil(rows / at_most)
    if number > pods:
        number = math.ceil(number / pods) * pods
    return math.ceil(rows / max(1, min(number, MOST_PARTITIONS)))


def cut(window: Window, rows: int, size: int, bounds: list[list[str]]) -> list[Partition]:
    """Partitions between the bounds. The first and the last are open, so that no key is outside of all."""
    if rows == 0:
        return []
    # If the last partition is full too, its upper bound is one of the bounds.
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
    """Partitions of about `size` rows each, by a hash of the key: a bound would show the value of a sensitive key."""
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


def _given(pipeline: Pipeline, params: dict[str, Any], name: str) -> Version | None:
    """The version that a Param gives; `since` is the last one before the window, and of days the first in it."""
    if params.get(name) in (None, ""):
        return None
    match pipeline.version_kind:
        case "number":
            return _number(params[name], name)
        case "day":
            day = _day(params[name], name)
            return before(day, timedelta(days=1)) if name == "since" else day
    return _time(params, name)


def _number(given: Any, name: str) -> int:
    if isinstance(given, bool) or not isinstance(given, int):
        raise ConfigurationError(f"{name} ({printable(str(given))}) is not a number: this pipeline's versions are.")
    return given


def _day(given: Any, name: str) -> datetime:
    try:
        return datetime.combine(date.fromisoformat(given), datetime.min.time(), UTC)
    except (ValueError, TypeError):
        raise ConfigurationError(f"{name} ({printable(str(given))}) is not a day such as 2026-01-31.") from None


def _time(params: dict[str, Any], name: str) -> datetime | None:
    if not params.get(name):
        return None
    given = f"{name} ({printable(params[name])})"
    try:
        value = datetime.fromisoformat(params[name])
    except (ValueError, TypeError):
        raise ConfigurationError(f"{given} is not a time such as 2026-01-31T00:00:00Z.") from None
    if value.tzinfo is None:
        raise ConfigurationError(f"{given} has no time zone; add Z or an offset such as +01:00.")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ConfigurationError(f"{given} is outside the years 1 to 9999 in UTC.") from None
