"""The sink fails on demand in the middle of a load: the load says so, and repeated it is in, once.

Only the SQL Server double fails on demand; against a real server (SINK_URL) these tests are skipped.
"""

import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from etl.errors import ConfigurationError, EtlError, TryAgainError
from etl.model.window import Partition
from etl.sqlserver.sink import Sink

from dev.sandbox.pipeline_fixture import PipelineFixture
from dev.sandbox.pipelines import window
from dev.sandbox.waiting import wait_for
from tests.faults.double import inject, needs_double

pytestmark = needs_double


@pytest.fixture
def filtered(orders: PipelineFixture) -> Iterator[PipelineFixture]:
    """Orders ready to be loaded into a sink whose tables are there."""
    orders.run("earlier")
    orders.change("UPDATE orders SET amount = amount + 1 WHERE order_id <= 500")
    orders.change("INSERT INTO orders (customer, status, currency, amount) VALUES ('New', 'confirmed', 'EUR', 1)")
    orders.run("run", None, "extract", "filter")
    yield orders
    orders.execute("EXEC standin_clear_faults")


@pytest.mark.parametrize("step", ["load", "run"])
@pytest.mark.parametrize(
    ("fault", "value", "error", "told"),
    [
        ("drop_connection_after_bulk_rows", 1, TryAgainError, "the sink 127.0.0.1"),
        ("drop_connection_after_bulk_rows", 900, TryAgainError, "the sink 127.0.0.1"),
        ("drop_connection_before_commit", 0, TryAgainError, "the sink 127.0.0.1"),
        ("deadlock_victim", 0, TryAgainError, "deadlock"),
        ("lock_timeout", 0, TryAgainError, "Another load has held the lock"),
        ("disk_full", 0, TryAgainError, "the sink 127.0.0.1"),
        ("lose_bulk_rows", 1, TryAgainError, "of 1601 rows sent 1600 arrived in the sink; nothing was applied"),
        # Of the sink, and of master, which is asked why.
        ("login_failure", 2, ConfigurationError, "Login failed"),
    ],
)
def test_a_failed_load_changes_nothing_and_repeated_it_is_in_once(
    filtered: PipelineFixture, step: str, fault: str, value: int, error: type[EtlError], told: str
) -> None:
    before, audits = filtered.sink_rows(), filtered.audits()
    inject(filtered, fault, value, times=value if fault == "login_failure" else 1)
    with pytest.raises(error) as caught:
        filtered.run("run", None, step)
    assert told in str(caught.value)
    assert (filtered.sink_rows(), filtered.audits()) == (before, audits)
    assert [thread.name for thread in threading.enumerate() if thread.name == "read-ahead"] == []
    loaded = filtered.run("run", None, step)[step]
    assert (loaded.inserted, loaded.updated) == (1, 200)
    assert filtered.sink_rows() == filtered.source_rows("status = 'confirmed'")
    assert filtered.staging_tables() == []


def test_a_connection_lost_after_the_commit_loads_nothing_twice(filtered: PipelineFixture) -> None:
    # The tables are there and the leftovers dropped; of the commits that change rows the last is the load's own.
    inject(filtered, "drop_connection_after_commit")
    with pytest.raises(TryAgainError):
        filtered.run("run", None, "load")
    filtered.run("run", None, "load")
    assert filtered.sink_rows() == filtered.source_rows("status = 'confirmed'")
    (audit,) = [audit for audit in filtered.audits() if audit["run_id"] == "run"]
    assert (audit["inserted"], audit["updated"], audit["unchanged"]) == (1, 200, 1400)
    assert filtered.staging_tables() == []


def test_what_a_killed_load_leaves_in_the_sink_goes_with_the_next_load(filtered: PipelineFixture) -> None:
    # Of the next run: its two partitions are loaded at once, and neither may drop what the other is filling.
    inject(filtered, "bulk_delay", 5_000)
    process = subprocess.Popen(filtered.command("load"), env=filtered.environment(), stderr=subprocess.DEVNULL)
    wait_for(filtered.staging_tables)
    process.kill()
    process.wait()
    bounds = [None, ["2000"], None]
    parts = [
        Partition(window=window(), id=str(number), lower=bounds[number], upper=bounds[number + 1])
        for number in range(2)
    ]
    for part in parts:
        filtered.run("next", part, "extract", "filter")
    at_once(filtered, parts, run_id="next")
    assert filtered.staging_tables() == []
    assert filtered.sink_rows() == filtered.source_rows("status = 'confirmed'")


def test_a_slow_network_is_only_slow(filtered: PipelineFixture) -> None:
    inject(filtered, "slow_network", 20, times=20)
    filtered.run("run", None, "load")
    assert filtered.sink_rows() == filtered.source_rows("status = 'confirmed'")


def test_partitions_loaded_at_once_are_all_in(orders: PipelineFixture) -> None:
    bounds = [None, ["1000"], ["2000"], ["3000"], None]
    parts = [
        Partition(window=window(), id=str(number), lower=bounds[number], upper=bounds[number + 1])
        for number in range(4)
    ]
    for part in parts:
        orders.run("run", part, "extract", "filter")
    at_once(orders, parts)
    assert orders.sink_rows() == orders.source_rows("status = 'confirmed'")
    assert sum(audit["inserted"] for audit in orders.audits()) == 1600


def test_the_same_partition_loaded_twice_at_once_is_in_once(orders: PipelineFixture) -> None:
    part = Partition(window=window())
    orders.run("run", part, "extract", "filter")
    at_once(orders, [part, part], may_fail=True)
    orders.run("run", part, "load")
    assert orders.sink_rows() == orders.source_rows("status = 'confirmed'")
    assert [audit["kept"] for audit in orders.audits()] == [1600]
    assert orders.staging_tables() == []


def test_tables_that_another_load_creates_while_this_one_looks_for_them(
    orders: PipelineFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    part, looks, rows = Partition(window=window()), iter([1]), Sink.rows
    orders.run("run", part, "extract", "filter")

    def then_another_loads(sink: Sink, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        found = rows(sink, statement, *parameters)
        if ("sys.columns" in statement or "INFORMATION_SCHEMA.COLUMNS" in statement) and next(looks, None):
            at_once(orders, [part])
        return found

    monkeypatch.setattr(Sink, "rows", then_another_loads)
    orders.run("run", part, "load")
    assert [audit["kept"] for audit in orders.audits()] == [1600]


def at_once(made: PipelineFixture, parts: list[Partition], may_fail: bool = False, run_id: str = "run") -> None:
    """Load partitions in processes that run together; a loser of two at the same partition may have to try again."""
    processes = [
        subprocess.Popen(made.command("load", run_id, part), env=made.environment(), stderr=subprocess.PIPE, text=True)
        for part in parts
    ]
    for process in processes:
        _, output = process.communicate()
        assert process.returncode in ((0, 75) if may_fail else (0,)), output
