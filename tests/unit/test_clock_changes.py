"""A schedule in a time zone whose clock is put forward and back: the windows of its runs leave no gap."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pendulum
import pytest
from airflow.serialization.serialized_objects import DagSerialization
from airflow.timetables.base import TimeRestriction
from etl.model.planning import choose_window
from etl.model.window import Window
from etl_airflow.dag.factory import pipeline_dag

from dev.sandbox.pipelines import ORDERS, make

PIPELINE = make(ORDERS)
FORWARD, BACK = datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2026, 10, 25, 1, tzinfo=UTC)
"""When clocks in Berlin go from 02:00 to 03:00, and from 03:00 to 02:00."""


def fired(schedule: str, around: datetime, days: int) -> Iterator[datetime]:
    """When the scheduler starts a run of the DAG, for some days before and after a time."""
    start = pendulum.instance(around - timedelta(days=days)).in_timezone("Europe/Berlin")
    dag = pipeline_dag(PIPELINE, schedule=schedule, start_date=start, owner="data-platform")
    # The scheduler has the DAG as it is written into the metadata database.
    timetable: Any = DagSerialization.from_dict(DagSerialization.to_dict(dag)).timetable
    restriction = TimeRestriction(earliest=start, latest=None, catchup=True)
    info = timetable.next_dagrun_info(last_automated_data_interval=None, restriction=restriction)
    while info.run_after < around + timedelta(days=days):
        yield datetime.fromtimestamp(info.run_after.timestamp(), UTC)
        info = timetable.next_dagrun_info(last_automated_data_interval=info.data_interval, restriction=restriction)


def windows(times: list[datetime]) -> Iterator[Window]:
    """The windows of these runs, each of which moves the watermark to its end."""
    watermark = None
    for now in times:
        window = choose_window(PIPELINE, {}, watermark, now)
        yield window
        watermark = window.high


@pytest.mark.parametrize("change", [FORWARD, BACK])
@pytest.mark.parametrize("schedule", ["*/15 * * * *", "30 2 * * *", "0 2,3 * * *"])
def test_the_windows_of_a_schedule_join_over_a_change_of_the_clock(schedule: str, change: datetime) -> None:
    times = list(fired(schedule, change, days=3))
    assert times == sorted(set(times))
    found = list(windows(times))
    assert found[0].low is None
    for earlier, later in pairwise(found):
        assert later.low == earlier.high - PIPELINE.look_back
    for moment in (change - timedelta(microseconds=1), change, change + timedelta(minutes=30)):
        assert any(window.high >= moment and (window.low is None or window.low < moment) for window in found)


@pytest.mark.parametrize("change", [FORWARD, BACK])
def test_every_quarter_of_an_hour_stays_one(change: datetime) -> None:
    times = list(fired("*/15 * * * *", change, days=1))
    gaps = {later - earlier for earlier, later in pairwise(times)}
    assert gaps == {timedelta(minutes=15)}


@pytest.mark.parametrize("change", [FORWARD, BACK])
def test_no_day_is_without_its_run_in_the_hour_that_is_missing_or_comes_twice(change: datetime) -> None:
    days = {pendulum.instance(time).in_timezone("Europe/Berlin").day for time in fired("30 2 * * *", change, days=3)}
    assert days >= set(range(change.day - 2, change.day + 3))
