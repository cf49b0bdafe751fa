"""Metrics of a pipeline's steps and DAG, seen on the wire."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from etl.errors import DataError
from etl.model.window import Window
from etl.postgres import sql as source_sql

from dev.sandbox.pipeline_fixture import STEPS, PipelineFixture, pipeline_fixture
from dev.sandbox.pipelines import ORDERS
from tests.harness.metrics.statsd import Line, Listener

NOW = datetime(2100, 1, 1, tzinfo=UTC)


def rows(lines: list[Line]) -> Counter[tuple[str, str]]:
    """Rows by step and outcome."""
    counted: Counter[tuple[str, str]] = Counter()
    for line in lines:
        labels = dict(line.labels)
        if line.name == "etl.rows":
            counted[labels["step"], labels["outcome"]] += int(line.value)
    return counted


def test_what_a_process_measures_has_left_when_it_ends(orders: PipelineFixture) -> None:
    with Listener() as statsd:
        assert orders.cli("run", STATSD_HOST="127.0.0.1", STATSD_PORT=str(statsd.port)).returncode == 0
        statsd.catch_up()
        lines = statsd.lines
    wanted, unwanted = (len(orders.source_rows(f"status {sign} 'confirmed'")) for sign in ("=", "<>"))
    assert +rows(lines) == {
        ("extract", "extracted"): wanted + unwanted,
        ("filter", "kept"): wanted,
        ("filter", "dropped"): unwanted,
        ("load", "inserted"): wanted,
    }
    assert {dict(line.labels)["pipeline"] for line in lines} == {orders.pipeline.name}
    assert Counter(line.name for line in lines) == {"etl.rows": 7, "etl.bytes": 2, "etl.step_duration": 3}


def test_rows_that_are_refused_are_counted(source_url: str, sink_url: str, tmp_path: Path) -> None:
    with Listener() as statsd, pipeline_fixture(ORDERS, source_url, sink_url, tmp_path) as made:
        made.change("UPDATE orders SET amount = 'NaN', status = 'confirmed' WHERE order_id IN (1, 2, 3)")
        work = made.work(statsd_host="127.0.0.1", statsd_port=statsd.port)
        made.run("run", None, "extract")
        with pytest.raises(DataError, match="3 rows break the type rules"):
            STEPS["filter"](work)
        statsd.catch_up()
        assert rows(statsd.lines)["filter", "rejected"] == 3


@pytest.mark.parametrize(
    ("age", "told"),
    [
        (timedelta(hours=2), 3600),  # an hour old, and not moved
        (timedelta(minutes=30), None),  # moved already
    ],
)
def test_the_lag_is_the_age_of_the_oldest_change_that_is_not_moved(
    orders: PipelineFixture, age: timedelta, told: int | None
) -> None:
    orders.change("ALTER TABLE orders DISABLE TRIGGER USER")
    orders.change("UPDATE orders SET updated_at = now() - interval '3 hours'")
    orders.change("UPDATE orders SET updated_at = now() - interval '1 hour' WHERE order_id = 1")
    with psycopg.connect(orders.source_url) as connection:
        for statement in source_sql.SESSION:
            connection.execute(statement)
        window = Window(low=None, high=NOW)
        query = source_sql.count_window(orders.pipeline, window, NOW, datetime.now(UTC) - age)
        found = connection.execute(query.encode()).fetchone()
    assert found is not None
    assert found[0] == len(orders.source_rows())
    assert found[1] is None if told is None else abs(float(found[1]) - told) < 60
