"""Planning of a run, without I/O: its window, and the partitions it is cut into."""

import math
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Literal

from pydantic import ValidationError

from etl.errors import ConfigurationError, printable
from etl.model.pipeline import Pipeline
from etl.model.window import Partition, Window

MOST_PARTITIONS = 1000
"""Airflow's limit is [core] max_map_length = 1024; larger windows get larger partitions."""


def choose_window(pipeline: Pipeline, params: dict[str, Any], watermark: datetime | None, end: datetime) -> Window:
    """The versions to read, up to `end` at the latest.

    `params` are the Params of the run. Raises ConfigurationError for those that contradict each other or the clock.
    """
    since, until = (_time(params, name) for name in ("since", "until"))
    if params.get("accept_older_versions") and not (params.get("full_refresh") or since):
        raise ConfigurationError(
            "accept_older_versions needs full_refresh, or since: the older rows are not in the window otherwise."
        )
    if params.get("full_refresh") and since:
        raise ConfigurationError("full_refresh reads from the beginning and since does not: give one of them.")
    if until and until > end:
        raise ConfigurationError(f"until ({until}) lies in the future: the source can be read up to {end}.")
    if since is not None:
        low = since
    elif params.get("full_refresh") or watermark is None:
        low = None
    else:
        low = _before(watermark, pipeline)
    # The user asks for the rows again: also rows that differ in the sink at the same version are overwritten.
    refresh: Literal["newer", "differing", "all"] = "differing" if params.get("full_refresh") or since else "newer"
    if params.get("accept_older_versions"):
        refresh = "all"
    try:
        return Window(low=low, high=until or end, refresh=refresh)
    except ValidationError:
        reason = "since" if since else f"the watermark less the look-back of {pipeline.look_back}"
        raise ConfigurationError(f"The window is empty: {reason} ({low}) is not before {until or end}.") from None


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


def _before(watermark: datetime, pipeline: Pipeline) -> datetime | None:
    try:
        return watermark - pipeline.look_back
    except OverflowError:  # before the year 1
        return None


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
