"""Mode replace: after a run the sink is what the source was in one snapshot, and readers see nothing in between."""

import os
import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

import psycopg
import pytest
from airflow.sdk.exceptions import AirflowFailException
from etl.errors import ConfigurationError, DataError, TryAgainError
from etl.model.pipeline import Pipeline
from etl.model.window import Partition
from etl.sqlserver.sink import Sink

from dev.sandbox.pipeline_fixture import PipelineFixture, connect, pipeline_fixture
from dev.sandbox.pipelines import ORDERS
from tests.faults.cuts import CutError, count_statements, cut_commit
from tests.harness.runs import Runs

COLUMNS = {"order_id": "bigint", "customer": "varchar(100)", "status": "varchar(16)", "amount": "numeric(12,2)"}
KEPT = "status <> 'pending'"
KILLS = int(os.environ.get("KILLS") or 8)
SEED = int(os.environ.get("SEED") or 20)
REPLACED = {**ORDERS, "columns": COLUMNS, "version": None, "mode": "replace", "deletes": "delete", "filter": KEPT}


@pytest.fixture
def made(source_url: str, sink_url: str, tmp_path: Path) -> Iterator[PipelineFixture]:
    with pipeline_fixture(REPLACED, source_url, sink_url, tmp_path) as site:
        yield site


@pytest.fixture
def runs(made: PipelineFixture, monkeypatch: pytest.MonkeyPatch) -> Runs:
    return Runs(made, monkeypatch)


def change(made: PipelineFixture) -> None:
    """No version grows: rows are inserted, updated, deleted, and get other keys."""
    made.change("ALTER TABLE orders DISABLE TRIGGER USER")
    made.change("UPDATE orders SET amount = amount + 1 WHERE order_id % 50 = 0")
    made.change("UPDATE orders SET order_id = order_id + 100000 WHERE order_id % 50 = 1")
    made.change("DELETE FROM orders WHERE order_id % 50 = 2")
    made.change("INSERT INTO orders (customer, status, currency, amount) VALUES ('New', 'shipped', 'EUR', 5)")


def test_a_run_makes_the_sink_equal_and_the_next_finds_nothing_changed(made: PipelineFixture, runs: Runs) -> None:
    first = runs.run("first")
    assert made.sink_rows() == made.source_rows(KEPT)
    assert (first["inserted"], first["kept"]) == (len(made.sink_rows()), len(made.sink_rows()))
    assert runs.plan() == []
    before = made.sink_rows()
    change(made)
    second = runs.run("second")
    after = made.source_rows(KEPT)
    assert made.sink_rows() == after
    same = before.keys() & after.keys()
    assert second == second | {
        "inserted": len(after.keys() - before.keys()), "deleted": len(before.keys() - after.keys()),
        "updated": sum(before[key] != after[key] for key in same), "verdict": "adds up",
    }  # fmt: skip
    assert second["updated"] > 20 < second["deleted"]
    assert runs.plan() == []
    assert len(runs.plan(full_refresh=True)) == 1
    made.execute(f"DELETE FROM [dbo].[{made.pipeline.sink.table}] WHERE [order_id] = 10")
    assert runs.run("third")["inserted"] == 1


def test_a_plan_goes_by_what_was_loaded_and_reconciled(
    made: PipelineFixture, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source changes between plan and extract and back, a run is not reconciled, the pipeline is another."""
    partitions = runs.plan()
    made.change("UPDATE orders SET customer = 'Interim' WHERE order_id = 10")
    runs.steps("first", partitions)
    assert len(runs.plan()) == 1
    runs.reconcile("first", partitions)
    assert runs.plan() == []
    made.change("UPDATE orders SET customer = 'Earlier' WHERE order_id = 10")
    assert runs.run("second")["updated"] == 1
    assert runs.plan() == []
    other = made.pipeline.model_dump() | {"filter": "status = 'shipped'"}
    assert len(Runs(replace(made, pipeline=Pipeline.model_validate(other)), monkeypatch).plan()) == 1
    with pytest.raises(AirflowFailException, match="since chooses versions"):
        runs.plan(since="2026-01-01T00:00:00Z")


@pytest.mark.parametrize("deletes", ["keep", "mark"])
def test_rows_that_are_gone_stay_or_are_marked_until_they_are_back(
    source_url: str, sink_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deletes: str
) -> None:
    with pipeline_fixture(REPLACED, source_url, sink_url, tmp_path, deletes=deletes) as made:
        runs = Runs(made, monkeypatch)
        runs.run("first")
        before = made.sink_rows()
        made.change("CREATE TABLE gone AS SELECT * FROM orders WHERE order_id <= 50")
        made.change("DELETE FROM orders WHERE order_id <= 50")
        count = sum(key[0] <= 50 for key in before)
        assert runs.run("second")["marked"] == (count if deletes == "mark" else 0)
        assert made.sink_rows() == before
        if deletes == "mark":
            marked = f"SELECT COUNT(*) FROM [dbo].[{made.pipeline.sink.table}] WHERE [deleted_at] IS NOT NULL"
            assert made.query(marked) == [(count,)]
            made.change("INSERT INTO orders SELECT * FROM gone WHERE order_id > 10")
            assert runs.run("third")["updated"] == sum(10 < key[0] <= 50 for key in before)
            assert made.query(marked) == [(sum(key[0] <= 10 for key in before),)]


@pytest.mark.parametrize("step", ["separate", "fused"])
def test_rows_without_a_key_are_exchanged_as_often_as_they_are_there(
    source_url: str, sink_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    columns = {"status": "varchar(16)", "currency": "char(3)", "note": "text null"}
    changes = {"columns": columns, "key": [], "filter": KEPT}
    with pipeline_fixture(REPLACED, source_url, sink_url, tmp_path, **changes) as made:
        runs = Runs(made, monkeypatch)
        steps = ["run"] if step == "fused" else []
        for run_id in ("first", "second"):
            partitions = runs.plan()
            for _ in range(2):  # a repetition changes nothing
                runs.steps(run_id, partitions, *steps)
            totals = runs.reconcile(run_id, partitions)
            assert totals["inserted"] == len(rows_of_source(made))
            assert (totals["deleted"] > 0) == (run_id == "second")
            assert Counter(rows_of_sink(made)) == Counter(rows_of_source(made))
            assert runs.plan() == []
            made.change("DELETE FROM orders WHERE order_id % 7 = 0")
            made.change("INSERT INTO orders (customer, status, currency, amount) VALUES ('N', 'shipped', 'EUR', 5)")


def rows_of_sink(made: PipelineFixture) -> list[tuple[Any, ...]]:
    names = ", ".join(f"[{name}]" for name in made.pipeline.columns)
    return made.query(f"SELECT {names} FROM [dbo].[{made.pipeline.sink.table}]")


def rows_of_source(made: PipelineFixture) -> list[tuple[Any, ...]]:
    names = ", ".join(made.pipeline.columns)
    with psycopg.connect(made.source_url) as connection:
        return connection.execute(f"SELECT {names} FROM orders WHERE {KEPT}".encode()).fetchall()


def test_a_key_that_is_there_twice_is_refused_by_name(
    source_url: str, sink_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pipeline_fixture(REPLACED, source_url, sink_url, tmp_path, key=["customer"]) as made:
        made.change("UPDATE orders SET customer = 'c' || order_id; UPDATE orders SET status = 'shipped'")
        runs = Runs(made, monkeypatch)
        runs.run("first")
        made.change("UPDATE orders SET customer = 'c7' WHERE order_id IN (8, 9)")
        before = made.sink_rows()
        with pytest.raises(DataError, match=r"3 rows of public.orders have the key customer=c7: it does not"):
            runs.run("second")
        assert made.sink_rows() == before


@pytest.mark.parametrize("change", ["DELETE FROM orders WHERE order_id > 100", "TRUNCATE orders"])
def test_too_many_rows_are_deleted_only_if_the_run_accepts_it(made: PipelineFixture, runs: Runs, change: str) -> None:
    runs.run("first")
    before = made.sink_rows()
    made.change(change)
    with pytest.raises(DataError, match=r"are gone at the source, .*: nothing was deleted.*run with accept_deletes"):
        runs.run("second")
    assert made.sink_rows() == before
    runs.run("third", accept_deletes=True)
    assert made.sink_rows() == made.source_rows(KEPT)


def test_rows_whose_keys_have_changed_are_no_loss(
    source_url: str, sink_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table of links is all key; one that is loaded again, with other keys so far, is not taken for it."""
    columns = {"order_id": "bigint", "customer": "varchar(100)"}
    changes = {"columns": columns, "key": list(columns), "filter": "true"}
    with pipeline_fixture(REPLACED, source_url, sink_url, tmp_path, **changes) as made:
        made.change("DELETE FROM orders WHERE order_id > 300")
        runs = Runs(made, monkeypatch)
        runs.run("first")
        made.change("UPDATE orders SET customer = 'Other ' || order_id")
        assert runs.run("second")["deleted"] == 300
        assert made.sink_rows() == made.source_rows()
        made.change("UPDATE orders SET customer = 'Again'; DELETE FROM orders WHERE order_id > 100")
        before = made.sink_rows()
        with pytest.raises(DataError, match=r"300 of 300 rows .* where there are 100 now, fewer by more than"):
            runs.run("third")
        assert made.sink_rows() == before


def test_rejected_rows_keep_theirs_in_the_sink(
    source_url: str, sink_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pipeline_fixture(REPLACED, source_url, sink_url, tmp_path, tolerated_rejects=1) as made:
        runs = Runs(made, monkeypatch)
        runs.run("first")
        made.change(
            "ALTER TABLE orders ALTER amount TYPE numeric; UPDATE orders SET amount = 'NaN' WHERE order_id = 10"
        )
        made.change("DELETE FROM orders WHERE order_id = 20")
        before = made.sink_rows()
        assert runs.run("second")["rejected"] == 1
        assert made.sink_rows() == before


def test_grants_indexes_foreign_keys_and_triggers_stay_and_a_foreign_key_that_refuses_is_named(
    made: PipelineFixture, runs: Runs
) -> None:
    runs.run("first")
    sink = f"[dbo].[{made.pipeline.sink.table}]"
    for statement in (
        f"CREATE INDEX [by_status] ON {sink} ([status])",
        f"CREATE TABLE [dbo].[{made.pipeline.name}_lines] ([order] bigint, CONSTRAINT [fk_{made.pipeline.name}] FOREIGN"
        f" KEY ([order]) REFERENCES {sink} ([order_id]))",
        f"INSERT INTO [dbo].[{made.pipeline.name}_lines] ([order]) VALUES (60)",
    ):
        made.execute(statement)
    try:
        described = (
            f"SELECT i.[name] FROM sys.indexes AS i WHERE i.[object_id] = OBJECT_ID(N'{sink}') UNION ALL"
            f" SELECT f.[name] FROM sys.foreign_keys AS f WHERE f.[referenced_object_id] = OBJECT_ID(N'{sink}')"
        )
        there = made.query(described)
        change(made)
        runs.run("second")
        assert made.sink_rows() == made.source_rows(KEPT)
        assert made.query(described) == there
        assert len(there) == 3
        made.change("DELETE FROM orders WHERE order_id < 100")
        before = made.sink_rows()
        with pytest.raises(DataError, match=r"_lines.*deletes=\"keep\" or \"mark\""):
            runs.run("third")
        assert made.sink_rows() == before
    finally:
        made.execute(f"DROP TABLE [dbo].[{made.pipeline.name}_lines]")


def test_rows_of_an_earlier_run_do_not_replace_later_ones(made: PipelineFixture, runs: Runs) -> None:
    partitions = runs.plan()
    runs.steps("old", partitions)
    made.change("UPDATE orders SET customer = 'Later'")
    runs.run("new")
    with pytest.raises(ConfigurationError, match=r"nothing was changed\. Start a new run"):
        runs.steps("old", partitions, "load")
    assert made.sink_rows() == made.source_rows(KEPT)


def test_a_source_whose_clock_was_put_back_is_loaded_after_the_statement_that_the_error_names(
    made: PipelineFixture, runs: Runs
) -> None:
    runs.run("ahead")
    made.execute(f"UPDATE [etl].[replaced] SET [read_at] = '2126-01-01' WHERE [pipeline] = '{made.pipeline.name}'")
    made.change("UPDATE orders SET customer = 'Later'")
    with pytest.raises(ConfigurationError, match="clock was put back") as caught:
        runs.run("corrected")
    made.execute(str(caught.value).partition("in the sink: ")[2])
    assert runs.run("next")["verdict"] == "adds up"
    assert made.sink_rows() == made.source_rows(KEPT)


@pytest.mark.parametrize("key", [["order_id"], []], ids=["with a key", "without a key"])
def test_wherever_the_transaction_is_cut_the_sink_is_as_before_or_as_after(
    source_url: str, sink_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: list[str]
) -> None:
    with pipeline_fixture(REPLACED, source_url, sink_url, tmp_path, key=key) as made:
        runs = Runs(made, monkeypatch)
        made.change("DELETE FROM orders WHERE order_id > 300")
        runs.run("first")
        change(made)
        partitions = runs.plan()
        runs.steps("second", partitions, "extract", "filter")
        before, after = Counter(rows_of_sink(made)), Counter(rows_of_source(made))
        assert before != after
        statements, cut_at = count_statements(monkeypatch), 0
        while True:
            cut_at += 1
            statements.clear()
            statements.append(cut_at)
            try:
                runs.steps("second", partitions, "load")
            except CutError:
                assert Counter(rows_of_sink(made)) in (before, after)  # after the commit its staging table is dropped
            else:
                break
        assert cut_at > 15
        assert Counter(rows_of_sink(made)) == after
        assert runs.reconcile("second", partitions)["verdict"] == "adds up"


def test_a_column_that_the_pipeline_gains_is_filled_once(
    made: PipelineFixture, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.run("first")
    columns = {**COLUMNS, "currency": "char(3)"}
    wider = replace(made, pipeline=Pipeline.model_validate({**made.pipeline.model_dump(), "columns": columns}))
    runs = Runs(wider, monkeypatch)
    assert runs.run("second")["updated"] == len(wider.sink_rows())
    assert wider.sink_rows() == wider.source_rows(KEPT)
    assert runs.plan() == []


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_connection_that_is_lost_at_the_commit_is_followed_by_the_same_end(
    made: PipelineFixture, runs: Runs, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    runs.run("first")
    before = made.sink_rows()
    change(made)
    partitions = runs.plan()
    runs.steps("second", partitions, "extract", "filter")
    with monkeypatch.context() as patched:
        cut_commit(patched, moment)
        with pytest.raises(CutError):
            runs.steps("second", partitions, "load")
    assert made.sink_rows() == (before if moment == "before" else made.source_rows(KEPT))
    runs.steps("second", partitions, "load")
    assert made.sink_rows() == made.source_rows(KEPT)
    totals = runs.reconcile("second", partitions)
    assert (totals["verdict"], totals["deleted"] > 0) == ("adds up", True)


def test_a_reader_that_polls_sees_a_whole_table_whenever_the_step_is_killed(
    made: PipelineFixture, runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    """It asks 50 times a second while a process replaces the table, and is killed at random moments of that.

    `make kills` does it 200 times.
    """
    runs.run("first")
    choice = random.Random(SEED)
    whole = [as_summary(rows_of_sink(made))]
    ended = Counter[str]()
    shortest = Moments()
    with polled(made) as seen:
        while ended.total() - ended["not killed"] < KILLS:
            change_some(made, ended.total())
            (partition,) = runs.plan()
            before, after = Counter(rows_of_sink(made)), Counter(rows_of_source(made))
            whole.append(as_summary(list(after.elements())))
            run_id = f"run {ended.total()}"
            command = made.command("run", run_id, Partition.model_validate_json(partition))
            if killed(command, made.environment(), choice, shortest):
                found = Counter(rows_of_sink(made))
                assert found in (before, after)
                ended[moment(made, is_done=found == after)] += 1
                runs.steps(run_id, [partition], "run")
            else:
                ended["not killed"] += 1
            assert Counter(rows_of_sink(made)) == after
            assert runs.reconcile(run_id, [partition])["verdict"] == "adds up"
    states = [state for state, _ in groupby(seen)]
    left = iter(whole)
    assert [state for state in states if state not in left] == [], "each is a whole table, and none comes back"
    assert len(states) > KILLS // 2
    with capsys.disabled():
        counts = ", ".join(f"{count} {when}" for when, count in sorted(ended.items()))
        print(
            f"\n{ended.total()} replacements ({counts}); {len(seen):,} answers, {len(states)} states, all of them whole"
        )


@dataclass
class Moments:
    """The shortest times that processes took, in seconds: as a whole, and from the last row copied to the end."""

    whole: float = 60.0
    after_the_copy: float = 60.0


def killed(command: list[str], environment: dict[str, str], choice: random.Random, shortest: Moments) -> bool:
    """Kill a process at a random moment, every other time after it has copied the rows; false if it has ended before.

    So the transaction is hit as often as all that comes before it, which takes longer.
    """
    began = time.monotonic()
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    waits_for_copy = choice.random() < 0.5
    if waits_for_copy:
        process.stderr.readline()  # it logs nothing before
        began = time.monotonic()
    longest = shortest.after_the_copy if waits_for_copy else shortest.whole
    try:
        process.wait(timeout=choice.uniform(0, longest))
    except subprocess.TimeoutExpired:
        process.kill()
        return True
    else:
        took = time.monotonic() - began
        assert process.returncode == 0, process.stderr.read()
        if waits_for_copy:
            shortest.after_the_copy = min(shortest.after_the_copy, took)
        else:
            shortest.whole = min(shortest.whole, took)
        return False
    finally:
        process.communicate()


def change_some(made: PipelineFixture, number: int) -> None:
    made.change(f"UPDATE orders SET amount = amount + 1; DELETE FROM orders WHERE order_id % 90 = {number % 90}")
    made.change(
        "INSERT INTO orders (customer, status, currency, amount) SELECT 'N', 'shipped', 'EUR', 5"
        " FROM generate_series(1, 50)"
    )


def moment(made: PipelineFixture, is_done: bool) -> str:
    """The moment at which a process was killed, as the sink shows it."""
    if is_done:
        return "killed after the commit"
    return "killed with rows in staging" if made.staging_tables() else "killed before the copy"


@contextmanager
def polled(made: PipelineFixture) -> Iterator[list[tuple[Any, ...]]]:
    """The answers that a thread gets which asks the sink table 50 times a second for its rows, their sum and last."""
    seen: list[tuple[Any, ...]] = []
    stop = threading.Event()

    def poll() -> None:
        with connect(made.settings) as connection:
            cursor = connection.cursor()
            due = time.monotonic()
            while not stop.wait(max(due - time.monotonic(), 0)):
                due += 0.02
                cursor.execute(SUMMARY.format(made.pipeline.sink.table))
                seen.append(tuple(cursor.fetchall()[0]))

    reader = threading.Thread(target=poll)
    reader.start()
    try:
        yield seen
    finally:
        stop.set()
        reader.join()


def as_summary(rows: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    """The answer to SUMMARY of these rows: key and amount are their first and last columns."""
    return len(rows), sum(row[-1] for row in rows), max(row[0] for row in rows)


def test_a_session_that_keeps_its_lock_is_waited_for_so_long_and_then_the_load_is_tried_again(
    made: PipelineFixture, runs: Runs
) -> None:
    runs.run("first")
    change(made)
    before, partitions = made.sink_rows(), runs.plan()
    runs.steps("second", partitions, "extract", "filter")
    with connect(made.settings, autocommit=False) as holder:
        holder.cursor().execute(f"UPDATE [dbo].[{made.pipeline.sink.table}] SET [amount] = 0 WHERE [order_id] = -1")
        hasty = made.settings.model_copy(update={"sink_lock_timeout": timedelta(seconds=0.2)})
        with pytest.raises(TryAgainError, match=r"Lock request time out.* find it in sys\.dm_tran_locks"):
            replace(made, settings=hasty).run("second", Partition.model_validate_json(partitions[0]), "load")
        holder.rollback()
    assert made.sink_rows() == before
    runs.steps("second", partitions, "load")
    assert made.sink_rows() == made.source_rows(KEPT)


SUMMARY = "SELECT COUNT_BIG(*), SUM([amount]), MAX([order_id]) FROM [dbo].[{}]"


def test_no_reader_gets_between_the_statements_of_a_replacement(
    made: PipelineFixture, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under READ COMMITTED a scan beside them could count fewer rows than there are before or after."""
    runs.run("first")
    change(made)
    real = Sink.change
    got_in: list[str] = []
    tried: list[str] = []
    waited: list[str] = []

    def change_beside_a_reader(self: Sink, statement: str, *parameters: object) -> int:
        changed = real(self, statement, *parameters)
        if made.pipeline.sink.table in statement:
            with connect(made.settings) as connection:
                connection.timeout = 1
                tried.append(statement.split()[0])
                try:
                    connection.cursor().execute(SUMMARY.format(made.pipeline.sink.table)).fetchall()
                    got_in.append(statement)
                except Exception as error:  # the driver's, of a time limit
                    waited.append(str(error))
        return changed

    monkeypatch.setattr(Sink, "change", change_beside_a_reader)
    runs.run("second")
    assert tried == ["DELETE", "UPDATE", "INSERT"]
    assert got_in == []
    assert all("imeout" in error for error in waited)
