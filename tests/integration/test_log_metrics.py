"""Metrics of pipelines that read the write-ahead log: of the slot, by plan; of the position, by the exporter."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from airflow.sdk.observability import stats
from etl.exporter.poller import Poller
from etl.exporter.sink import sink_database

import dev.sandbox.postgres
from dev.sandbox.pipeline_fixture import PipelineFixture
from dev.sandbox.postgres import Postgres, run_postgres
from tests.harness.log_sources import log_table
from tests.harness.runs import Runs


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """The gauges that were sent, by name."""
    found: dict[str, float] = {}
    monkeypatch.setattr(stats, "gauge", lambda name, value, **_: found.update({name: value}))
    return found


@pytest.fixture
def made(postgres: Postgres, sink_url: str, tmp_path: Path) -> Iterator[PipelineFixture]:
    with log_table(postgres, sink_url, tmp_path) as found:
        yield found


def test_a_plan_tells_how_much_log_the_slot_keeps(
    made: PipelineFixture, monkeypatch: pytest.MonkeyPatch, sent: dict[str, float]
) -> None:
    runs = Runs(made, monkeypatch)
    runs.run("first")
    before = sent["etl.log_retained"]
    made.change("SELECT pg_logical_emit_message(false, '', repeat('x', 3000000))")
    runs.plan()
    assert sent["etl.log_retained"] > before + 3_000_000
    assert sent["etl.log_slot_lost"] == 0
    assert "etl.log_retained_share" not in sent, "there is no limit"


def test_a_lost_slot_is_measured_though_the_plan_is_refused(
    sink_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: dict[str, float]
) -> None:
    monkeypatch.setitem(dev.sandbox.postgres.LOGICAL, "max_slot_wal_keep_size", "100MB")
    with run_postgres() as server, log_table(server, sink_url, tmp_path) as made:
        runs = Runs(made, monkeypatch)
        runs.run("first")
        made.change("SELECT pg_logical_emit_message(false, '', repeat('x', 40000000))")
        runs.plan()
        assert (0.3 < sent["etl.log_retained_share"] < 0.5, sent["etl.log_slot_lost"]) == (True, 0)
        for _ in range(4):
            made.change("SELECT pg_logical_emit_message(false, '', repeat('x', 40000000))")
        made.change("CHECKPOINT")
        with pytest.raises(Exception, match="is lost"):
            runs.plan()
        assert sent["etl.log_slot_lost"] == 1


def test_the_exporter_tells_the_age_of_the_position(made: PipelineFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs(made, monkeypatch)
    made.change("INSERT INTO t VALUES (1, 'confirmed', '')")
    runs.run("first")
    runs.run("second")  # the insert, which is after the slot's begin
    assert 0 <= age(made) < 120
    made.execute("UPDATE [etl].[log_position] SET [advanced_at] = '2026-01-01T00:00:00'")
    assert age(made) > 86_400
    # A run that finds nothing has looked.
    runs.plan()
    assert 0 <= age(made) < 120


def age(made: PipelineFixture) -> float:
    poller = Poller(sink_database(made.settings))
    poller.poll()
    found = next(metric for metric in poller.collect() if metric.name == "etl_log_position_age_seconds")
    return next(each.value for each in found.samples if each.labels["pipeline"] == made.pipeline.name)
