"""A standby is read up to what it has replayed: what it replays late arrives, whatever the look-back."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from dev.sandbox.pipeline_fixture import PipelineFixture, pipeline_fixture
from dev.sandbox.pipelines import ORDERS
from dev.sandbox.postgres import Postgres, run_standby
from dev.sandbox.waiting import wait_for
from tests.harness.runs import Runs


@pytest.fixture
def standby(postgres: Postgres, source_url: str) -> Iterator[Postgres]:
    """A standby of the server that has the orders, which replays what comes."""
    if postgres.server is None:
        pytest.skip("the server of SOURCE_URL is not ours to copy")
    with run_standby(postgres) as made:
        yield made


@pytest.fixture
def reader(
    standby: Postgres, source_url: str, sink_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Runs]:
    """The orders as they are read from the standby, with no look-back to help."""
    url = standby.url(urlsplit(source_url).path[1:])
    with pipeline_fixture(ORDERS, url, sink_url, tmp_path, look_back=0) as made:
        yield Runs(made, monkeypatch)


def value(url: str, query: str) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def change(primary: str, standby: PipelineFixture | None, orders: str) -> None:
    """Confirm orders on the primary, and wait until the standby has replayed that, where one is given."""
    value(primary, f"UPDATE orders SET status = 'confirmed', amount = 1 WHERE {orders} RETURNING 1")
    if standby:
        lsn = value(primary, "SELECT pg_current_wal_flush_lsn()::text")
        replayed = f"SELECT pg_last_wal_replay_lsn() >= '{lsn}'"
        wait_for(lambda: bool(value(standby.source_url, replayed)), 30, 0.05)


def test_what_a_standby_replays_after_a_run_arrives_in_the_next(reader: Runs, source_url: str) -> None:
    standby = reader.made.source_url
    change(source_url, reader.made, "order_id = 1")
    value(standby, "SELECT pg_wal_replay_pause()::text")
    change(source_url, None, "order_id = 4")
    reader.run("first")
    assert reader.plan() == []
    value(standby, "SELECT pg_wal_replay_resume()::text")
    change(source_url, reader.made, "order_id = 9")
    assert reader.run("second")["inserted"] == 2
    assert reader.made.sink_rows() == reader.made.source_rows("status = 'confirmed'")
    assert reader.plan() == []
