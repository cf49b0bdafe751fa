"""Whatever type the version has: after every run that follows the last commit the sink equals the source."""

import logging
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from airflow.sdk.exceptions import AirflowFailException
from etl.model.window import Partition
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from dev.sandbox.pipeline_fixture import PipelineFixture, pipeline_fixture
from dev.sandbox.postgres import Postgres
from tests.harness.runs import Runs

DEFINITION: dict[str, Any] = {"name": "t", "source": "public.t", "key": ["k"], "version": "at", "filter": "true"}
NEXT = {
    "timestamptz": "clock_timestamp()",
    "timestamp": "clock_timestamp() AT TIME ZONE 'Asia/Tokyo'",
    "date": "current_date",
    "bigint": "nextval('versions')",
    "integer": "nextval('versions')",
    "smallint": "nextval('versions')",
}
"""By type: the version of a row that is written now."""
NUMBERS = ("bigint", "integer", "smallint")
Made = Callable[..., AbstractContextManager[PipelineFixture]]


@pytest.fixture
def made(postgres: Postgres, sink_url: str, tmp_path: Path) -> Iterator[Made]:
    """The fixture of a table with a version of a type, in a database that no other test uses."""
    names: list[str] = []

    def of(kind: str, **changes: Any) -> AbstractContextManager[PipelineFixture]:
        names.append(f"kinds_{uuid.uuid4().hex[:8]}")
        url = postgres.create_database(names[-1])
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE SEQUENCE versions")
            connection.execute(f"CREATE TABLE t (k integer PRIMARY KEY, v text NOT NULL, at {kind} NOT NULL)".encode())
        zone = {"version_zone": "Asia/Tokyo"} if kind == "timestamp" else {}
        columns = {"columns": {"k": "integer", "v": "text", "at": kind}}
        back = {"look_back": 10} if kind in NUMBERS else {"look_back": 0}
        return pipeline_fixture({**DEFINITION, **columns, **zone, **back}, url, sink_url, tmp_path, **changes)

    yield of
    for name in names:
        postgres.drop_database(name)


class History:
    """Rows that change, also in transactions that stay open over runs, and the runs."""

    def __init__(self, runs: Runs, kind: str, opened: ExitStack) -> None:
        self.runs, self.kind, self.opened = runs, kind, opened
        self.late: list[psycopg.Connection[Any]] = []
        self.number = 0

    def write(self, key: int, connection: psycopg.Connection[Any] | None = None) -> None:
        self.number += 1
        values = f"VALUES ({key}, 'v{self.number}', {NEXT[self.kind]})"
        statement = f"INSERT INTO t {values} ON CONFLICT (k) DO UPDATE SET v = excluded.v, at = excluded.at"
        if connection is None:
            self.runs.made.change(statement)
        else:
            connection.execute(statement.encode())

    def write_late(self, key: int) -> None:
        """The keys of each open transaction are its own, so that none waits for another."""
        if len(self.late) < 3:
            self.late.append(self.opened.enter_context(psycopg.connect(self.runs.made.source_url)))
        for connection in self.late:
            self.write(100 * (1 + self.late.index(connection)) + key, connection)

    def commit(self, _: int) -> None:
        while self.late:
            self.late.pop().commit()

    def run(self, _: int) -> None:
        self.number += 1
        partitions = self.runs.plan()
        if partitions:
            self.runs.steps(f"run {self.number}", partitions, "run")
            self.runs.reconcile(f"run {self.number}", partitions)
        if not self.late:
            sink = self.runs.made.sink_rows() if self.runs.made.sink_exists() else {}
            assert sink == self.runs.made.source_rows()


events = st.tuples(st.sampled_from(["write", "write_late", "commit", "run", "run"]), st.integers(1, 3))


@pytest.mark.parametrize("kind", NEXT)
def test_every_change_arrives(made: Made, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    last = [("write_late", 3), ("commit", 0), ("write_late", 2), ("run", 0)]
    late = [("write", 1), ("run", 0), ("write_late", 2), ("write", 3), ("run", 0), ("write", 1), ("run", 0)]

    # Types of numbers differ in their range alone, so other histories are those of one of them.
    phases = [Phase.explicit] if kind in NUMBERS[1:] else [Phase.explicit, Phase.generate]

    @settings(max_examples=3, phases=phases, deadline=None, suppress_health_check=list(HealthCheck))
    @given(history=st.lists(events, min_size=3, max_size=14))
    @example(history=[*late, ("commit", 0)])
    @example(history=last)  # no transaction has ended that began to write after the open one
    @example(history=[("run", 0), ("write", 1), ("run", 0), ("write", 1), ("run", 0)])
    def arrives(history: list[tuple[str, int]]) -> None:
        with made(kind) as table, ExitStack() as opened:
            lived = History(Runs(table, monkeypatch), kind, opened)
            # What is open while the first run reads may be missed, as the documentation says.
            for what, key in [("write", 1), ("run", 0), *history, ("commit", 0), ("run", 0)]:
                getattr(lived, what)(key)

    arrives()


@pytest.mark.parametrize("kind", NUMBERS)
def test_a_run_reads_the_numbers_after_the_watermark_and_some_before(
    made: Made, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with made(kind, look_back=3) as table:
        runs = Runs(table, monkeypatch)
        assert runs.plan() == []
        table.change("INSERT INTO t SELECT n, 'a', nextval('versions') FROM generate_series(1, 20) AS n")
        runs.run("first")
        table.change("UPDATE t SET v = 'b', at = nextval('versions') WHERE k IN (5, 6)")
        (partition,) = runs.plan()
        window = Partition.model_validate_json(partition).window
        assert (window.low, window.high) == (17, 22)
        assert datetime.now(UTC) - window.time < timedelta(minutes=5)
        totals = runs.run("second")
        assert (totals["extracted"], totals["updated"], totals["unchanged"]) == (5, 2, 3)
        query = "SELECT [value], [value_number] FROM [etl].[watermark] WHERE [pipeline] = ?"
        ((time, number),) = table.query(query, table.pipeline.name)
        assert number == 22
        assert abs(datetime.now(UTC).replace(tzinfo=None) - time) < timedelta(minutes=5)
        assert runs.run("some", since=10, until=12)["extracted"] == 2
        table.change("DELETE FROM t WHERE k > 3")
        assert runs.plan() == []


def test_where_numbers_look_back_at_none_no_new_one_is_nothing_to_move(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    with made("bigint", look_back=0) as table:
        runs = Runs(table, monkeypatch)
        table.change("INSERT INTO t SELECT n, 'a', nextval('versions') FROM generate_series(1, 20) AS n")
        runs.run("first")
        assert runs.plan() == []
        table.change("UPDATE t SET v = 'b', at = nextval('versions') WHERE k = 5")
        assert runs.run("second")["extracted"] == 1


@pytest.mark.parametrize("gone", [(3,), (3, 20)])
def test_where_numbers_look_back_at_none_rows_that_are_gone_are_found_without_a_new_one(
    made: Made, monkeypatch: pytest.MonkeyPatch, gone: tuple[int, ...]
) -> None:
    """Also that of the highest number. Where keys are not due to be compared there is nothing to do."""
    with made("bigint", look_back=0, deletes="delete", deletes_every=timedelta(hours=6)) as table:
        runs = Runs(table, monkeypatch)
        table.change("INSERT INTO t SELECT n, 'a', nextval('versions') FROM generate_series(1, 20) AS n")
        runs.run("first")
        table.change(f"DELETE FROM t WHERE k IN ({', '.join(map(str, gone))})")
        totals = runs.run("second")
        assert (totals["deleted"], totals["inserted"], totals["verdict"]) == (len(gone), 0, "adds up")
        assert table.sink_rows() == table.source_rows()
        assert runs.plan() == []
        table.change("INSERT INTO t VALUES (21, 'a', nextval('versions'))")
        assert runs.run("third")["inserted"] == 1


def test_changes_of_a_day_arrive_until_it_is_over_and_those_of_the_day_before(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    with made("date") as table:
        runs = Runs(table, monkeypatch)
        table.change("INSERT INTO t SELECT n, 'a', current_date - n FROM generate_series(0, 9) AS n")
        assert runs.run("first")["inserted"] == 10
        table.change("UPDATE t SET v = 'b' WHERE k < 5")
        totals = runs.run("second")
        assert (totals["extracted"], totals["updated"]) == (2, 2)
        totals = runs.run("some", since=str((datetime.now(UTC) - timedelta(days=4)).date()))
        assert (totals["extracted"], totals["updated"]) == (5, 3)


def test_days_that_no_window_reaches_are_named(
    made: Made, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with made("date") as table, caplog.at_level(logging.WARNING):
        runs = Runs(table, monkeypatch)
        table.change("INSERT INTO t SELECT n, 'a', current_date FROM generate_series(1, 9) AS n")
        runs.run("first")
        table.change("UPDATE t SET at = 'infinity' WHERE k = 1")
        table.change("UPDATE t SET at = current_date + 3 WHERE k = 2")
        runs.plan()
    assert "2 rows of public.t are not read: their at is in the future" in caplog.text
    assert "k=1 at infinity; k=2 at 2" in caplog.text


@pytest.mark.parametrize("kind", NUMBERS)
def test_a_sequence_that_began_again_is_a_source_that_has_gone_back(
    made: Made, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with made(kind) as table:
        runs = Runs(table, monkeypatch)
        table.change("INSERT INTO t SELECT n, 'a', nextval('versions') + 50 FROM generate_series(1, 20) AS n")
        runs.run("first")
        table.change("UPDATE t SET v = 'b', at = at - 50")
        with pytest.raises(AirflowFailException, match=r"the source has gone back: of the newest 20 rows .* 20"):
            runs.plan()
