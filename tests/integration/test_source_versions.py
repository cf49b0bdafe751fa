"""Versions that a window never reaches, and versions in local time: said, or refused, and never a green run without."""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from airflow.sdk.exceptions import AirflowFailException
from etl.errors import ConfigurationError, TryAgainError
from etl.model.window import Partition
from etl.postgres.connection import connect_source

from dev.sandbox.pipeline_fixture import PipelineFixture, pipeline_fixture
from tests.harness.runs import Runs

DEFINITION: dict[str, Any] = {
    "name": "t", "source": "public.t", "columns": {"k": "integer", "v": "text", "at": "timestamptz"},
    "key": ["k"], "version": "at", "filter": "true", "look_back": 0,
}  # fmt: skip
Made = Callable[..., AbstractContextManager[tuple[PipelineFixture, Runs]]]


@pytest.fixture
def made(empty: str, sink_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """A pipeline of the definition above, changed, and its runs."""

    @contextmanager
    def make(**changes: Any) -> Iterator[tuple[PipelineFixture, Runs]]:
        with pipeline_fixture(DEFINITION, empty, sink_url, tmp_path, **changes) as table:
            yield table, Runs(table, monkeypatch)

    return make


def fill(table: PipelineFixture) -> None:
    table.change("CREATE TABLE t (k integer PRIMARY KEY, v text NOT NULL, at timestamptz NOT NULL)")
    table.change("INSERT INTO t SELECT n, 'a', now() FROM generate_series(1, 10) AS n")
    table.change("CREATE INDEX ON t (at)")


def send_away(table: PipelineFixture) -> None:
    for key, version in enumerate(("'infinity'", "'-infinity'", "now() + interval '3 hours'"), start=1):
        table.change(f"UPDATE t SET v = 'b', at = {version} WHERE k = {key}")


def test_versions_that_no_window_reaches_are_counted_and_named(made: Made, caplog: pytest.LogCaptureFixture) -> None:
    with made() as (table, runs):
        fill(table)
        with caplog.at_level(logging.WARNING):
            runs.run("first")
            assert "not read" not in caplog.text
            send_away(table)
            table.change("UPDATE t SET v = 'b', at = now() WHERE k = 4")
            assert runs.run("second")["updated"] == 1
    assert "3 rows of public.t are not read: their at is in the future" in caplog.text
    assert "k=1 at infinity; k=3 at 2" in caplog.text
    assert "; k=2 at -infinity." in caplog.text


def test_a_pipeline_may_refuse_to_run_without_them(made: Made) -> None:
    with made(unreachable_versions="refuse") as (table, runs):
        fill(table)
        runs.run("first")
        before = runs.watermark()
        send_away(table)
        with pytest.raises(AirflowFailException, match=r"3 rows of public\.t are not read: .*k=1 at infinity"):
            runs.plan()
        assert runs.watermark() == before


def test_a_clock_of_a_client_that_is_seconds_ahead_is_no_version_of_the_future(made: Made) -> None:
    with made(unreachable_versions="refuse") as (table, runs):
        fill(table)
        table.change("UPDATE t SET at = now() + interval '30 seconds' WHERE k = 1")
        assert runs.run("first")["inserted"] == 9


def test_a_transaction_that_is_open_over_runs_arrives_when_it_has_ended(
    made: Made, caplog: pytest.LogCaptureFixture
) -> None:
    """Its version is older than the windows that follow, and there is no look-back to help."""
    with made() as (table, runs):
        fill(table)
        runs.run("first")
        with psycopg.connect(table.source_url) as connection:
            connection.execute("UPDATE t SET v = 'late', at = clock_timestamp() WHERE k = 1")
            for key in (2, 3, 4):
                table.change(f"UPDATE t SET v = 'b', at = clock_timestamp() WHERE k = {key}")
                assert runs.run(f"with {key}")["updated"] == 1
            assert "A transaction of the source has been open since" in caplog.text
        assert runs.run("when it has ended")["updated"] == 1
        assert table.sink_rows() == table.source_rows()
        assert runs.plan() == []


def test_a_source_that_took_over_is_not_asked_for_the_transactions_of_the_one_before(made: Made) -> None:
    with made() as (table, runs):
        fill(table)
        runs.run("first")
        before = runs.watermark()
        assert before
        table.execute(f"UPDATE [etl].[settled] SET [xmax] = {2**62} WHERE [pipeline] = N'{table.pipeline.name}'")
        table.execute(
            "UPDATE [etl].[settled] SET [value] = '2000-01-01', [pending] = '2000-01-01'"
            f" WHERE [pipeline] = N'{table.pipeline.name}'"
        )
        table.change("UPDATE t SET v = 'b', at = clock_timestamp() WHERE k = 1")
        (partition,) = runs.plan()
        assert Partition.model_validate_json(partition).window.low == before.replace(tzinfo=UTC)


LOCAL = {"k": "integer", "v": "text", "at": "timestamp"}
ZONES = ["America/New_York", "Asia/Tokyo", "Europe/London"]


def write_in(table: PipelineFixture, zone: str) -> None:
    """Let the sessions of the database be in a zone, and a table have its version in it."""
    table.change(f"ALTER DATABASE {table.source_url.rpartition('/')[2]} SET timezone = '{zone}'")
    table.change(
        "CREATE TABLE t (k integer PRIMARY KEY, v text NOT NULL, at timestamp NOT NULL DEFAULT clock_timestamp())"
    )
    table.change("INSERT INTO t SELECT n, 'a' FROM generate_series(1, 10) AS n")


@pytest.mark.parametrize("zone", ZONES)
def test_a_version_in_local_time_is_refused_by_plan_and_extract(made: Made, zone: str) -> None:
    with made(columns=LOCAL) as (table, runs):
        write_in(table, zone)
        told = f'at of public.t is a timestamp, .* write the time of {zone}: .*a timestamptz; .*version_zone="UTC"'
        with pytest.raises(AirflowFailException, match=told):
            runs.plan()
        with pytest.raises(ConfigurationError, match=told):
            table.run()


@pytest.mark.parametrize("zone", ["UTC", "GMT", "Etc/UTC", "Africa/Abidjan"])
def test_a_source_whose_clock_shows_utc_needs_no_zone(made: Made, zone: str) -> None:
    with made(columns=LOCAL) as (table, runs):
        write_in(table, zone)
        assert runs.run("first")["inserted"] == 10


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/Sao_Paulo", "Asia/Kolkata"])
def test_in_the_zone_that_the_pipeline_names_every_change_arrives(
    made: Made, caplog: pytest.LogCaptureFixture, zone: str
) -> None:
    with made(columns=LOCAL, version_zone=zone, unreachable_versions="refuse") as (table, runs):
        write_in(table, zone)
        assert runs.run("first")["inserted"] == 10
        for key in (3, 4):
            table.change(f"UPDATE t SET v = 'b', at = clock_timestamp() WHERE k = {key}")
            assert runs.run(f"after {key}")["updated"] == 1
        assert runs.plan() == []
        assert table.sink_rows() == table.source_rows()
        since = runs.watermark() - timedelta(minutes=1)
        assert runs.run("again", since=f"{since.isoformat()}Z")["unchanged"] == 10
    assert "gone back" not in caplog.text


def test_a_column_that_holds_utc_is_read_so_in_whatever_zone_the_source_is(made: Made) -> None:
    with made(columns=LOCAL, version_zone="UTC", unreachable_versions="refuse") as (table, runs):
        write_in(table, "America/New_York")
        table.change("UPDATE t SET at = clock_timestamp() AT TIME ZONE 'UTC'")
        assert runs.run("first")["inserted"] == 10
        table.change("UPDATE t SET v = 'b', at = clock_timestamp() AT TIME ZONE 'UTC' WHERE k = 3")
        assert runs.run("second")["updated"] == 1


def test_tables_in_parts_are_read_where_a_key_is_in_one_of_them_alone(made: Made) -> None:
    """Partitions, and the chunks of TimescaleDB, which inherit and have a unique index over all."""
    with made() as (table, runs):
        table.change(
            "CREATE TABLE t (k integer PRIMARY KEY, v text NOT NULL, at timestamptz NOT NULL) PARTITION BY RANGE (k)"
        )
        table.change("CREATE TABLE p PARTITION OF t FOR VALUES FROM (0) TO (5); CREATE TABLE q PARTITION OF t DEFAULT")
        table.change("INSERT INTO t SELECT n, 'a', now() FROM generate_series(1, 10) AS n")
        assert runs.run("first")["inserted"] == 10
    with made() as (table, runs):
        table.change("DROP TABLE t; CREATE SCHEMA _timescaledb_internal")
        table.change("CREATE TABLE t (k integer PRIMARY KEY, v text NOT NULL, at timestamptz NOT NULL)")
        table.change("CREATE TABLE _timescaledb_internal.chunk () INHERITS (t)")
        table.change("INSERT INTO _timescaledb_internal.chunk VALUES (1, 'a', now())")
        assert runs.run("first")["inserted"] == 1


def read_and_be_ended(table: PipelineFixture, *then: str) -> None:
    """Have the server end a session that reads, which then sends more statements."""
    work = table.work()
    with connect_source(work.settings, work.pipeline, str(work)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        table.change(f"SELECT pg_terminate_backend({cursor.fetchone()[0]}, 5000)")
        for statement in then:
            cursor.execute(statement)


def test_the_first_error_of_a_session_that_the_server_ends_is_the_one_that_is_shown(made: Made) -> None:
    with made() as (table, _):
        fill(table)
        with pytest.raises(TryAgainError, match="terminating connection due to administrator command"):
            read_and_be_ended(table, "SELECT 1")


def test_a_session_that_the_server_ends_after_the_last_row_fails_nothing(made: Made) -> None:
    with made() as (table, _):
        fill(table)
        read_and_be_ended(table)
