"""The audit keeps what its retention says, and of every pipeline the latest run."""

from datetime import UTC, datetime, timedelta

import pytest
from etl.model.outcome import COUNTS
from etl.sqlserver import ledger
from etl.sqlserver import sql as sink_sql

from dev.sandbox.pipeline_fixture import PipelineFixture

NEW, OLD = timedelta(hours=1), timedelta(days=401)


def enter(made: PipelineFixture, run_id: str, age: timedelta, partition_id: str = "all", pipeline: str = "") -> None:
    """An audit row of that age."""
    times = (
        moment.replace(tzinfo=None).isoformat(timespec="microseconds")
        for moment in (datetime.now(UTC), datetime.now(UTC) - age)
    )
    values = {
        "pipeline": pipeline or made.pipeline.name, "run_id": run_id, "partition_id": partition_id, "fingerprint": "f",
        "checksum": "c", **dict.fromkeys(COUNTS, 0),
        **dict(zip(("window_high", "loaded_at"), times, strict=True)),
    }  # fmt: skip
    names = ", ".join(map(sink_sql.quote_name, values))
    made.execute(f"INSERT INTO [etl].[audit] ({names}) VALUES ({', '.join(map(repr, values.values()))})")


def runs(made: PipelineFixture) -> list[str]:
    return sorted({audit["run_id"] for audit in made.audits()})


def test_a_load_deletes_rows_beyond_their_retention(orders: PipelineFixture) -> None:
    orders.run("first")
    for run_id, age in (("old", OLD), ("young", OLD - timedelta(days=2))):
        enter(orders, run_id, age)
    orders.run("second")
    assert runs(orders) == ["first", "second", "young"]
    enter(orders, "old", OLD)
    orders.cli("load", "second", AUDIT_RETENTION="P500D").check_returncode()
    assert runs(orders) == ["first", "old", "second", "young"]


def test_the_latest_run_stays_however_old_it_is(orders: PipelineFixture, request: pytest.FixtureRequest) -> None:
    """Until the next is in: its rows are how far a pipeline is known to have come that was off for long."""
    orders.run("first")
    orders.execute(f"DELETE FROM [etl].[audit] WHERE [pipeline] = '{orders.pipeline.name}'")
    other = f"other_{orders.pipeline.name}"[:48]
    request.addfinalizer(lambda: orders.execute(f"DELETE FROM [etl].[audit] WHERE [pipeline] = '{other}'"))
    enter(orders, "of another", OLD, pipeline=other)
    enter(orders, "before", OLD + NEW)
    for partition_id in ("0001", "0002"):
        enter(orders, "latest", OLD, partition_id)
    orders.run("next")
    assert runs(orders) == ["latest", "next"]
    orders.run("after next")
    assert runs(orders) == ["after next", "next"]
    assert orders.query("SELECT [run_id] FROM [etl].[audit] WHERE [pipeline] = ?", other) == [("of another",)]


def test_a_load_deletes_no_more_than_it_has_time_for(orders: PipelineFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "_PRUNED_AT_ONCE", 2)
    orders.run("first")
    for number in range(5):
        enter(orders, f"old {number}", OLD)
    for left in (3, 1, 0):
        orders.run("second", None, "load") if left < 3 else orders.run("second")
        assert len([run for run in runs(orders) if run.startswith("old")]) == left
