"""A run's window never leaves a gap, and its partitions cover every key once."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from etl.errors import ConfigurationError
from etl.model.pipeline import Pipeline
from etl.model.planning import MOST_PARTITIONS, choose_window, cut, rows_of_a_partition
from etl.model.window import Window
from etl_airflow.dag.source_regression import FEW, looks_restored
from hypothesis import given
from hypothesis import strategies as st

from dev.sandbox.pipelines import ORDERS, make, window

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
YESTERDAY = NOW - timedelta(days=1)
PIPELINE = make(ORDERS, look_back=600)


def test_the_first_run_reads_from_the_beginning() -> None:
    assert choose_window(PIPELINE, {}, None, NOW) == Window(low=None, high=NOW)


def test_the_next_run_reads_after_the_watermark_less_the_look_back() -> None:
    assert choose_window(PIPELINE, {}, YESTERDAY, NOW) == Window(low=YESTERDAY - timedelta(minutes=10), high=NOW)


def test_params_choose_another_window() -> None:
    params = {"full_refresh": True, "since": None, "until": "2026-04-01T00:00:00+02:00"}
    wanted = Window(low=None, high=datetime(2026, 3, 31, 22, tzinfo=UTC), refresh="differing")
    assert choose_window(PIPELINE, params, YESTERDAY, NOW) == wanted
    params = {"full_refresh": False, "since": "2026-01-01T00:00:00Z", "until": None}
    wanted = Window(low=datetime(2026, 1, 1, tzinfo=UTC), high=NOW, refresh="differing")
    assert choose_window(PIPELINE, params, YESTERDAY, NOW) == wanted


@pytest.mark.parametrize("watermark", [None, YESTERDAY])
def test_only_what_is_asked_for_again_is_compared_where_its_version_is_the_same(watermark: datetime | None) -> None:
    assert choose_window(PIPELINE, {"until": "2026-05-01T00:00:00Z"}, watermark, NOW).refresh == "newer"


DAYS = make(ORDERS, columns={**ORDERS["columns"], "updated_at": "date"})
NUMBERS = make(ORDERS, columns={**ORDERS["columns"], "updated_at": "bigint"})
TODAY = NOW.replace(hour=0)


def test_since_and_until_are_of_the_kind_of_the_version() -> None:
    days = choose_window(DAYS, {"since": "2026-04-01", "until": "2026-04-02"}, TODAY, TODAY)
    first, last = datetime(2026, 4, 1, tzinfo=UTC), datetime(2026, 4, 2, tzinfo=UTC)
    assert days == Window(low=first - timedelta(days=1), high=last, refresh="differing")
    numbers = choose_window(NUMBERS, {"since": 0, "until": 7}, 5000, 6000, NOW)
    assert numbers == Window(low=0, high=7, at=NOW, refresh="differing")


@pytest.mark.parametrize(("look_back", "days"), [(timedelta(0), 2), (timedelta(hours=24), 2), (timedelta(hours=25), 3)])
def test_days_are_read_again_from_the_day_before_the_watermark_on(look_back: timedelta, days: int) -> None:
    pipeline = make(ORDERS, columns={**ORDERS["columns"], "updated_at": "date"}, look_back=look_back)
    wanted = Window(low=TODAY - timedelta(days=days), high=TODAY, refresh="differing")
    assert choose_window(pipeline, {}, TODAY, TODAY) == wanted


def test_numbers_are_read_again_from_a_number_before_the_watermark_on() -> None:
    assert choose_window(NUMBERS, {}, 5000, 6000, NOW) == Window(low=4000, high=6000, at=NOW)


@pytest.mark.parametrize(
    ("pipeline", "params", "told"),
    [
        (DAYS, {"since": "2026-04-01T00:00:00Z"}, "since (2026-04-01T00:00:00Z) is not a day such as 2026-01-31"),
        (DAYS, {"until": "2026-05-02"}, "lies in the future"),
        (NUMBERS, {"since": "2026-04-01"}, "since (2026-04-01) is not a number"),
        (NUMBERS, {"until": 6001}, "until (6001) is above the highest number"),
        (NUMBERS, {"until": 10}, "The window is empty: the watermark less the look-back of 1000 (4000)"),
    ],
)
def test_versions_of_another_kind_or_beyond_the_last_are_refused(
    pipeline: Pipeline, params: dict[str, Any], told: str
) -> None:
    watermark, end, at = (5000, 6000, NOW) if pipeline is NUMBERS else (TODAY, TODAY, None)
    with pytest.raises(ConfigurationError) as caught:
        choose_window(pipeline, params, watermark, end, at)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"full_refresh": True, "since": "2026-01-01T00:00:00Z"}, "give one of them"),
        ({"until": "2026-06-01T00:00:00Z"}, "lies in the future"),
        ({"since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"}, "The window is empty: since"),
        ({"until": "2026-01-01T00:00:00Z"}, "The window is empty: the watermark"),
        ({"accept_older_versions": True}, "needs full_refresh, or since"),
        ({"since": "yesterday"}, "since (yesterday) is not a time"),
        ({"until": "2026-01-01T00:00:00"}, "has no time zone"),
    ],
)
def test_params_that_make_no_sense_are_refused_in_words(params: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        choose_window(PIPELINE, params, YESTERDAY, NOW)
    assert told in str(caught.value)


def test_the_rows_of_the_source_win_whatever_their_version_only_where_a_person_says_so() -> None:
    assert choose_window(PIPELINE, {"full_refresh": True}, YESTERDAY, NOW).refresh != "all"
    for params in ({"full_refresh": True}, {"since": "2026-01-01T00:00:00Z"}):
        assert choose_window(PIPELINE, {**params, "accept_older_versions": True}, YESTERDAY, NOW).refresh == "all"


@given(differences=st.lists(st.sampled_from([-1, 0, 1, None]), max_size=30), restored_to=st.integers(1, 30))
def test_a_source_was_restored_only_where_no_row_after_an_older_one_is_as_it_was(
    differences: list[int | None], restored_to: int
) -> None:
    """Rows come newest first. A restored source has none of the newest as it was read; a clock leaves some."""
    assert not looks_restored([0, *differences])
    assert not looks_restored([each for each in differences if each != -1])
    lost = [each or -1 for each in [-1, *differences][:restored_to]]
    assert looks_restored([-1] * FEW + [*lost, 0]) == (FEW + lost.count(-1) > FEW)


@given(rows=st.integers(0, 60), size=st.integers(1, 25))
def test_partitions_cover_every_key_exactly_once(rows: int, size: int) -> None:
    bounds = [[str(position)] for position in range(size, rows + 1, size)] if rows > size else []
    partitions = cut(window(), rows, size, bounds)
    for key in range(-1, rows + 3):  # keys that come after the count belong somewhere, too
        holders = [
            partition
            for partition in partitions
            if (partition.lower is None or key > int(partition.lower[0]))
            and (partition.upper is None or key <= int(partition.upper[0]))
        ]
        assert len(holders) == (1 if rows else 0)
    assert sum(partition.expected_rows or 0 for partition in partitions) == rows
    assert len({partition.id for partition in partitions}) == len(partitions)


@pytest.mark.parametrize(
    ("rows", "partitions"), [(1, 1), (500_000, 1), (500_001, 2), (2_000_000, 4), (2_000_001, 8), (4_000_001, 12)]
)
def test_the_number_of_partitions_follows_from_the_rows_and_the_pods(rows: int, partitions: int) -> None:
    assert math.ceil(rows / rows_of_a_partition(rows, at_most=500_000, pods=4)) == partitions


@given(rows=st.integers(0, 10**10), at_most=st.integers(1, 10**6), pods=st.integers(1, 200))
def test_no_partition_is_larger_than_it_may_be_unless_there_are_too_many(rows: int, at_most: int, pods: int) -> None:
    size = rows_of_a_partition(rows, at_most, pods)
    assert size <= max(at_most, math.ceil(rows / MOST_PARTITIONS))
    assert size * MOST_PARTITIONS >= rows
