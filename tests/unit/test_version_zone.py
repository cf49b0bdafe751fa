"""In a zone that a version may be in, a later time is a later one on the clock, as far apart."""

import zoneinfo
from datetime import UTC, datetime, timedelta

from etl.model.version_zone import as_local, check_zone
from hypothesis import example, given
from hypothesis import strategies as st

times = st.datetimes(datetime(2025, 1, 1), datetime(2037, 12, 1), timezones=st.just(UTC))


@given(zone=st.sampled_from(sorted(zoneinfo.available_timezones())), one=times, apart=st.timedeltas(timedelta(0)))
@example(zone="Europe/London", one=datetime(2026, 10, 25, 0, 59, tzinfo=UTC), apart=timedelta(minutes=2))
@example(zone="Antarctica/Troll", one=datetime(2026, 10, 25, 0, 59, tzinfo=UTC), apart=timedelta(minutes=2))
@example(zone="Africa/Casablanca", one=datetime(2026, 2, 15, 1, 59, tzinfo=UTC), apart=timedelta(minutes=2))
def test_a_zone_is_refused_or_keeps_times_in_order_and_apart(zone: str, one: datetime, apart: timedelta) -> None:
    apart %= timedelta(days=365)
    try:
        check_zone(zone)
    except ValueError:
        return
    assert as_local(one + apart, zone) - as_local(one, zone) == apart


@given(time=st.datetimes(timezones=st.just(UTC)))
@example(time=datetime.min.replace(tzinfo=UTC))
@example(time=datetime.max.replace(tzinfo=UTC))
def test_no_time_is_too_early_or_too_late(time: datetime) -> None:
    for zone in ("Etc/GMT-14", "Etc/GMT+12"):
        assert abs(as_local(time, zone) - time.replace(tzinfo=None)) < timedelta(days=1)
    assert as_local(time, None) == time.replace(tzinfo=None)
