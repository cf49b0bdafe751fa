"""Confirmed orders reach the sink exactly once, whatever is repeated or killed on the way."""

import random
import subprocess

import pytest
from etl.model.window import Partition

from dev.sandbox.pipeline_fixture import STEPS, PipelineFixture, as_json
from dev.sandbox.pipelines import window

MANY = """
INSERT INTO orders (customer, status, currency, amount, note, created_at, updated_at)
SELECT 'Bulk ' || n, (ARRAY['confirmed', 'pending', 'shipped'])[1 + n % 3], 'EUR', n, 'n' || n,
       timestamptz '2026-03-01' + n * interval '1 second', timestamptz '2026-03-01' + n * interval '1 second'
FROM generate_series(1, 6000) AS n
"""


@pytest.fixture
def ten_thousand(orders: PipelineFixture) -> PipelineFixture:
    """The orders pipeline over ten thousand orders."""
    orders.change(MANY)
    assert len(orders.source_rows()) == 10_000
    return orders


def test_ten_thousand_in_exactly_the_confirmed_out_twice_the_same(ten_thousand: PipelineFixture) -> None:
    first = ten_thousand.run("first")["load"]
    confirmed = ten_thousand.source_rows("status = 'confirmed'")
    assert len(confirmed) == 3600
    assert ten_thousand.sink_rows() == confirmed
    assert (first.inserted, first.updated, first.unchanged) == (3600, 0, 0)
    second = ten_thousand.run("second")["load"]
    assert ten_thousand.sink_rows() == confirmed
    assert (second.inserted, second.updated, second.unchanged) == (0, 0, 3600)
    checksums = {audit["checksum"] for audit in ten_thousand.audits()}
    assert len(checksums) == 1


def test_after_500_changes_only_those_move(ten_thousand: PipelineFixture) -> None:
    ten_thousand.run("first")
    before = ten_thousand.sink_rows()
    high = max(row[-1] for row in ten_thousand.source_rows().values())
    ten_thousand.change("UPDATE orders SET status = 'confirmed', amount = amount + 1 WHERE order_id % 20 = 7")
    changed = ten_thousand.source_rows("order_id % 20 = 7")
    assert len(changed) == 500
    loaded = ten_thousand.run("second", Partition(window=window(f"{high.isoformat()}Z")))
    assert loaded["extract"].extracted == 500
    known = [key for key in changed if key in before]
    assert (loaded["load"].inserted, loaded["load"].updated) == (500 - len(known), len(known))
    assert ten_thousand.sink_rows() == {**before, **changed}


def test_a_confirmed_order_stays_when_it_is_cancelled_later(orders: PipelineFixture) -> None:
    orders.run("first")
    before = orders.sink_rows()
    orders.change("UPDATE orders SET status = 'cancelled'")
    assert orders.run("second")["load"].updated == 0
    assert orders.sink_rows() == before


def test_an_older_version_never_overwrites_a_newer_one(orders: PipelineFixture) -> None:
    orders.run("old", None, "extract", "filter")
    orders.change("UPDATE orders SET amount = 1 WHERE status = 'confirmed'")
    orders.run("new")
    newer = orders.sink_rows()
    late = orders.run("old", None, "load")["load"]
    assert orders.sink_rows() == newer
    assert (late.inserted, late.updated, late.standing) == (0, 0, late.unchanged)


def test_every_step_may_be_repeated_at_any_time(orders: PipelineFixture) -> None:
    orders.run()
    expected, audits = orders.sink_rows(), orders.audits()
    for step in (*STEPS, *STEPS, "load", "filter", "load", "extract", "filter", "load"):
        orders.run("run", None, step)
    assert orders.sink_rows() == expected
    assert orders.audits() == audits
    assert orders.staging_tables() == []


def test_partitions_together_are_the_whole(orders: PipelineFixture) -> None:
    bounds = [None, ["1000"], ["2500"], None]
    for number in range(3):
        part = Partition(window=window(), id=f"p{number}", lower=bounds[number], upper=bounds[number + 1])
        orders.run("run", part)
    assert orders.sink_rows() == orders.source_rows("status = 'confirmed'")
    assert sum(audit["extracted"] for audit in orders.audits()) == 4000


@pytest.mark.parametrize(("step", "times"), [("load", 12), ("run", 8)])
def test_killing_a_load_at_any_moment_and_repeating_it_loses_and_doubles_nothing(
    ten_thousand: PipelineFixture, step: str, times: int
) -> None:
    if step == "load":
        ten_thousand.run("run", None, "extract", "filter")
    confirmed = ten_thousand.source_rows("status = 'confirmed'")
    choice = random.Random(7)
    killed = 0
    for _ in range(times):
        process = subprocess.Popen(
            ten_thousand.command(step), env=ten_thousand.environment(), stderr=subprocess.DEVNULL
        )
        try:
            process.wait(timeout=choice.uniform(0.3, 1.6))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            killed += 1
        held = ten_thousand.sink_rows() if ten_thousand.sink_exists() else {}
        assert held in ({}, confirmed)
    assert killed
    completed = ten_thousand.cli(step)
    assert completed.returncode == 0, completed.stderr
    assert ten_thousand.sink_rows() == confirmed
    assert [audit["kept"] for audit in ten_thousand.audits()] == [3600]
    assert ten_thousand.staging_tables() == []
    assert as_json(completed)[-1]["event"] == "load: done"
