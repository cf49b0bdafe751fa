"""The kinds of versions: times, days and numbers.

A `Version` is a time in UTC, a day as its midnight in UTC, or a number, and `Reach` a distance between two. Numbers are
drawn from one sequence for the whole table, so that a later change has a higher one than all before.
"""

import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, TypeAdapter, ValidationError

from etl.errors import printable
from etl.model.column_types import ColumnType
from etl.model.version_zone import as_local, check_zone, find_zone

Kind = Literal["time", "day", "number"]
TIME_TYPES = ("timestamptz", "timestamp")
VERSION_TYPES: dict[str, Kind] = {
    **dict.fromkeys(TIME_TYPES, "time"),
    "date": "day",
    **dict.fromkeys(("bigint", "integer", "smallint"), "number"),
}
UtcDatetime = Annotated[AwareDatetime, AfterValidator(lambda value: value.astimezone(UTC))]
if TYPE_CHECKING:  # of one pipeline all are of one kind, which the type checker cannot know
    Version = Any
    Reach = Any
else:
    Version = UtcDatetime | int
    Reach = timedelta | int
DEFAULT_LOOK_BACK = timedelta(minutes=10)
NUMBERS_BACK = 1000
"""The look-back of a number by default: it is drawn before its transaction commits, and with CACHE in blocks."""
_DAY = timedelta(days=1)
_LONGEST_LOOK_BACK = timedelta(days=36500)
_MOST_NUMBERS = (1 << 63) - 1


def check_version(name: str, column: ColumnType, zone: str | None) -> None:
    """Raise ValueError, with a sentence, for a version column that cannot be one, or a zone that it cannot have."""
    if column.name not in VERSION_TYPES:
        *types, last = VERSION_TYPES
        raise ValueError(f"version: '{name}' is {column}; it must be {', '.join(types)} or {last}")
    if zone is None:
        return
    if column.name not in ("timestamp", "date"):
        raise ValueError(f"version_zone: '{name}' is a {column}, which needs none")
    try:
        # A day that has 23 or 25 hours is still before the next one.
        (find_zone if column.name == "date" else check_zone)(zone)
    except ValueError as error:
        raise ValueError(f"version_zone: '{printable(zone)}': {error}") from None


def read_look_back(kind: Kind, given: Any) -> Reach:
    """The look-back of a version: a duration, of numbers a count. Raises ValueError, with a sentence."""
    if kind == "number":
        if given == DEFAULT_LOOK_BACK:
            return NUMBERS_BACK
        if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given <= _MOST_NUMBERS:
            raise ValueError("the version is a number, so this is a count of numbers, such as 1000")
        return given
    try:
        value = TypeAdapter(timedelta).validate_python(given)
    except ValidationError:
        raise ValueError("it must be a duration, such as timedelta(minutes=10)") from None
    if not timedelta(0) <= value <= _LONGEST_LOOK_BACK:
        raise ValueError(f"it must be from 0 to {_LONGEST_LOOK_BACK.days} days")
    return value


def reach(kind: Kind, look_back: Reach) -> Reach:
    """The distance from the watermark back to the version after which a window begins.

    Of days always so that it has the day of the watermark, which had not ended, and the day before, of which a
    transaction may have committed late.
    """
    if kind == "day" and isinstance(look_back, timedelta):
        return _DAY * (max(1, math.ceil(look_back / _DAY)) + 1)
    return look_back


def before(version: Version, distance: Reach) -> Version | None:
    """The version that far before another; None before the first that there can be."""
    if isinstance(version, int) and isinstance(distance, int):
        return version - distance if version - distance >= -_MOST_NUMBERS else None
    try:
        return version - distance
    except OverflowError:  # before the year 1
        return None


def is_after(version: Version, other: Version) -> bool:
    """Whether a version is later than another of the same pipeline."""
    return bool(version > other)


def day_of(time: datetime, zone: str | None) -> datetime:
    """The day that a time is in, in a zone or in UTC, as its midnight in UTC."""
    return datetime.combine(as_local(time, zone).date(), datetime.min.time(), UTC)
