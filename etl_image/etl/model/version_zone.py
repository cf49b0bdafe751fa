"""The time zone of a version column of type `timestamp`, and conversion of UTC times to it."""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

_NAME = re.compile(r"[A-Z][A-Za-z0-9_+\-]*(/[A-Za-z0-9_+\-]+)*")
# Earlier offsets do not matter any more, and later rules are not known.
_FIRST, _END = datetime(2025, 1, 1, tzinfo=UTC), datetime(2038, 1, 1, tzinfo=UTC)


def find_zone(name: str) -> ZoneInfo:
    """The zone of a name. Raises ValueError, with a sentence, for one that is unknown."""
    try:
        zone = ZoneInfo(name) if _NAME.fullmatch(name) else None
    except (KeyError, OSError, ValueError):
        zone = None
    if zone is None:
        raise ValueError("it is not the name of a time zone; write for example Asia/Tokyo or UTC")
    return zone


@lru_cache
def check_zone(name: str) -> None:
    """Raise ValueError, with a sentence, for a zone that is unknown or has summer time."""
    zone = find_zone(name)
    # No country changes its clock for less than a week.
    times = (_FIRST + timedelta(weeks=week) for week in range((_END - _FIRST).days // 7))
    if len({time.astimezone(zone).utcoffset() for time in times}) > 1:
        raise ValueError(
            f"the clock of {name} is put back each year, and in the hour that comes twice a later change may have an"
            " earlier version and be lost; make the column a timestamptz at the source"
        )


def as_local(value: datetime, zone: str | None) -> datetime:
    """A UTC time as a column without a time zone holds it: in `zone`, or in UTC if it is None."""
    try:
        return value.astimezone(ZoneInfo(zone) if zone else UTC).replace(tzinfo=None)
    except OverflowError:  # in the first or last hours of a datetime's range
        return value.replace(tzinfo=None)
