"""Every change: pipelines that read the source's write-ahead log (docs/log-capture.md)."""

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from airflow.sdk.exceptions import AirflowFailException
from etl.errors import ConfigurationError, DataError, TryAgainError
from etl.model.pipeline import Pipeline
from etl.new.preview import preview
from psycopg import pq
from pydantic import ValidationError

from dev.sandbox.pipeline_fixture import PipelineFixture
from dev.sandbox.postgres import Postgres, run_postgres, run_standby
from dev.sandbox.waiting import wait_for
from tests.harness.log_sources import drop_slot, log_table, make_slot, slot_position
from tests.harness.runs import Runs


@pytest.fixture
def made(postgres: Postgres, sink_url: str, tmp_path: Path) -> Iterator[PipelineFixture]:
    with log_table(postgres, sink_url, tmp_path) as found:
        yield found


@pytest.fixture
def runs(made: PipelineFixture, monkeypatch: pytest.MonkeyPatch) -> Runs:
    return Runs(made, monkeypatch)


def statuses(made: PipelineFixture) -> dict[Any, str]:
    """By key what the sink has."""
    return {key[0]: row[1] for key, row in made.sink_rows().items()}


def position(made: PipelineFixture) -> str:
    query = "SELECT [lsn] FROM [etl].[log_position] WHERE [pipeline] = ?"
    return str(made.query(query, made.pipeline.name)[0][0])


@pytest.mark.parametrize("steps", [(), ("run",)], ids=["separate", "fused"])
def test_an_order_that_was_confirmed_and_shipped_between_two_runs_arrives(
    made: PipelineFixture, runs: Runs, steps: tuple[str, ...]
) -> None:
    made.change("INSERT INTO t VALUES (1, 'confirmed', 'there at first'), (2, 'new', NULL), (3, 'new', NULL)")
    first = runs.plan()
    runs.steps("first", first, *steps)
    runs.reconcile("first", first)
    assert statuses(made) == {1: "confirmed"}
    for status in ("confirmed", "shipped"):
        made.change("UPDATE t SET status = %s WHERE k = 2", status)
    second = runs.plan()
    runs.steps("second", second, *steps)
    totals = runs.reconcile("second", second)
    assert statuses(made) == {1: "confirmed", 2: "confirmed"}
    # With the three inserts: the slot is older than the first run.
    assert (totals["extracted"], totals["kept"], totals["dropped"], totals["inserted"]) == (5, 2, 3, 1)
    assert slot_position(made) == position(made)


def apply(runs: Runs, name: str) -> dict[str, Any]:
    """A run that has something to do."""
    partitions = runs.plan()
    assert partitions, "nothing to move"
    runs.steps(name, partitions)
    return runs.reconcile(name, partitions)


def begin(made: PipelineFixture, runs: Runs) -> None:
    """The first run, and the one that reads the changes since the slot was made."""
    made.change("INSERT INTO t VALUES (1, 'confirmed', 'first'), (2, 'new', NULL)")
    runs.run("first")
    runs.run("second")


def test_the_last_image_that_the_filter_keeps_counts_and_not_the_last_one(made: PipelineFixture, runs: Runs) -> None:
    begin(made, runs)
    for status, note in (("confirmed", "a"), ("confirmed", "b"), ("shipped", "c"), ("cancelled", "d")):
        made.change("UPDATE t SET status = %s, note = %s WHERE k = 2", status, note)
    made.change("UPDATE t SET status = 'shipped' WHERE k = 1")
    made.change("DELETE FROM t WHERE k = 2")
    totals = apply(runs, "third")
    assert made.sink_rows() == {(1,): (1, "confirmed", "first"), (2,): (2, "confirmed", "b")}
    assert (totals["extracted"], totals["kept"], totals["inserted"]) == (5, 2, 1)
    assert (totals["log_inserts"], totals["log_updates"], totals["log_deletes"]) == (0, 5, 1)


def test_work_that_was_rolled_back_never_comes(made: PipelineFixture, runs: Runs) -> None:
    begin(made, runs)
    made.change("BEGIN; INSERT INTO t VALUES (3, 'confirmed', NULL); ROLLBACK")
    made.change("INSERT INTO t VALUES (4, 'confirmed', NULL)")
    apply(runs, "third")
    assert statuses(made) == {1: "confirmed", 4: "confirmed"}


def test_a_repeated_and_a_late_cleared_step_change_nothing_and_say_so(
    made: PipelineFixture, runs: Runs, capfd: pytest.CaptureFixture[str]
) -> None:
    begin(made, runs)
    made.change("UPDATE t SET note = 'old' WHERE k = 1")
    old = runs.plan()
    runs.steps("old", old)
    runs.steps("old", old, "load")
    runs.reconcile("old", old)
    made.change("UPDATE t SET note = 'new' WHERE k = 1")
    apply(runs, "new")
    before, audits = position(made), made.audits()
    capfd.readouterr()
    for steps in ((), ("run",), ("load",)):
        runs.steps("old", old, *steps)
        assert "already loaded" in "".join(capfd.readouterr())
    made.execute(f"DELETE FROM [etl].[audit] WHERE [pipeline] = N'{made.pipeline.name}' AND [run_id] = N'old'")
    runs.reconcile("old", old)
    assert made.sink_rows()[(1,)][2] == "new"
    assert position(made) == before
    assert made.audits() == [audit for audit in audits if audit["run_id"] != "old"]


def test_a_snapshot_that_is_cleared_late_does_not_put_the_position_back(made: PipelineFixture, runs: Runs) -> None:
    partitions = runs.plan()
    runs.steps("first", partitions)
    runs.reconcile("first", partitions)
    made.change("CREATE TABLE other AS SELECT generate_series(1, 1000) AS n")
    assert runs.plan() == []
    before = position(made)
    runs.steps("first", partitions)
    runs.reconcile("first", partitions)
    assert position(made) == before == slot_position(made)
    made.change("INSERT INTO t VALUES (1, 'confirmed', NULL)")
    apply(runs, "second")
    assert statuses(made) == {1: "confirmed"}


def test_a_window_without_changes_of_the_table_moves_position_and_slot_in_plan(
    made: PipelineFixture, runs: Runs
) -> None:
    begin(made, runs)
    before = position(made)
    made.change("CREATE TABLE other AS SELECT generate_series(1, 1000) AS n")
    assert runs.plan() == []
    assert position(made) != before
    assert slot_position(made) == position(made)


def test_a_large_log_is_read_in_windows_of_whole_transactions(
    postgres: Postgres, sink_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with log_table(postgres, sink_url, tmp_path, max_wal_per_run=1 << 20) as made:
        runs = Runs(made, monkeypatch)
        begin(made, runs)
        for first in range(100, 20_000, 5000):
            rows = f"SELECT n, 'confirmed', repeat('x', 100) FROM generate_series({first}, {first + 4999}) AS n"
            made.change(f"INSERT INTO t {rows}")
        reads: list[int] = []
        while partitions := runs.plan():
            runs.steps(f"run {len(reads)}", partitions)
            reads.append(runs.reconcile(f"run {len(reads)}", partitions)["extracted"])
        assert sum(reads) == 20_000
        assert len(reads) > 2
        assert all(read % 5000 == 0 for read in reads)


def test_a_full_refresh_reads_the_whole_table_and_goes_on_from_the_log(made: PipelineFixture, runs: Runs) -> None:
    begin(made, runs)
    made.execute(f"DELETE FROM [dbo].[{made.pipeline.name}]")
    runs.run("refresh", full_refresh=True)
    assert statuses(made) == {1: "confirmed"}
    made.change("UPDATE t SET status = 'confirmed' WHERE k = 2")
    apply(runs, "after")
    assert statuses(made) == {1: "confirmed", 2: "confirmed"}


@pytest.mark.parametrize("change", ["slot", "ahead", "publication", "missing", "filter", "identity", "column"])
def test_what_would_lose_changes_is_refused_and_a_full_refresh_goes_on(
    made: PipelineFixture, runs: Runs, change: str
) -> None:
    begin(made, runs)
    made.change("UPDATE t SET status = 'confirmed' WHERE k = 2")
    publication, slot = made.pipeline.publication_name, made.pipeline.slot_name
    statements, expected = {
        "slot": ([f"SELECT pg_drop_replication_slot('{slot}')"], f"no replication slot {slot}"),
        "ahead": (
            [f"SELECT pg_replication_slot_advance('{slot}', pg_current_wal_flush_lsn())"],
            r"ahead of .*those between are lost",
        ),
        "publication": (
            [f"ALTER PUBLICATION {publication} DROP TABLE t", f"ALTER PUBLICATION {publication} ADD TABLE t"],
            "was changed or made anew",
        ),
        "missing": ([f"DROP PUBLICATION {publication}"], f"no publication {publication}"),
        "filter": ([f"ALTER PUBLICATION {publication} SET TABLE t WHERE (k > 0)"], "has a row filter"),
        "identity": (["ALTER TABLE t REPLICA IDENTITY NOTHING"], "no replica identity"),
        "column": ([f"ALTER PUBLICATION {publication} SET TABLE t (k, status)"], "does not send the column note"),
    }[change]
    for statement in statements:
        made.change(statement)
    with pytest.raises(AirflowFailException, match=expected):
        runs.plan()
    repairs = {
        "slot": [f"SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"],
        "missing": [f"CREATE PUBLICATION {publication} FOR TABLE t"],
        "filter": [f"ALTER PUBLICATION {publication} SET TABLE t"],
        "identity": ["ALTER TABLE t REPLICA IDENTITY FULL"],
        "column": [f"ALTER PUBLICATION {publication} SET TABLE t"],
    }.get(change, [])
    for statement in repairs:
        made.change(statement)
    runs.run("refresh", full_refresh=True)
    assert statuses(made) == {1: "confirmed", 2: "confirmed"}
    if partitions := runs.plan():  # what was written between the slot and the refresh
        runs.steps("after", partitions)
        runs.reconcile("after", partitions)
    made.change("INSERT INTO t VALUES (3, 'confirmed', NULL)")
    apply(runs, "later")
    assert statuses(made) == {1: "confirmed", 2: "confirmed", 3: "confirmed"}


def test_a_publication_that_changed_after_the_plan_is_refused_by_the_step(made: PipelineFixture, runs: Runs) -> None:
    begin(made, runs)
    made.change("UPDATE t SET status = 'confirmed' WHERE k = 2")
    partitions = runs.plan()
    for verb in ("DROP", "ADD"):
        made.change(f"ALTER PUBLICATION {made.pipeline.publication_name} {verb} TABLE t")
    with pytest.raises(ConfigurationError, match="was changed or made anew"):
        runs.steps("third", partitions)


def test_a_slot_that_another_session_reads_is_tried_again(made: PipelineFixture, runs: Runs) -> None:
    begin(made, runs)
    name = made.pipeline.publication_name
    options = f"(proto_version '1', publication_names '{name}')"
    with psycopg.connect(made.source_url, autocommit=True) as other:
        assert other.pgconn is not None
        url = made.source_url + "?replication=database"
        connection = pq.PGconn.connect(url.encode())
        connection.send_query(f"START_REPLICATION SLOT {made.pipeline.slot_name} LOGICAL 0/0 {options}".encode())
        active = "SELECT active FROM pg_replication_slots WHERE slot_name = %s"
        wait_for(lambda: bool(other.execute(active, [made.pipeline.slot_name]).fetchone() == (True,)), 10, 0.01)
        with pytest.raises(TryAgainError, match="is in use by another session"):
            runs.plan()
        connection.finish()
        wait_for(lambda: bool(other.execute(active, [made.pipeline.slot_name]).fetchone() == (False,)), 10, 0.01)


def test_a_value_that_the_log_does_not_have_is_refused_with_its_row(
    postgres: Postgres, sink_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with log_table(postgres, sink_url, tmp_path, identity="DEFAULT") as made:
        runs = Runs(made, monkeypatch)
        begin(made, runs)
        assert "an update sends no value that it did not change" in caplog.text
        long = "".join(random.Random(1).choices("0123456789abcdef", k=9000))
        made.change("UPDATE t SET note = %s WHERE k = 2", long)
        apply(runs, "third")
        made.change("UPDATE t SET status = 'confirmed' WHERE k = 2")
        with pytest.raises(DataError, match=r"k=2: note is stored out of line .* REPLICA IDENTITY FULL"):
            runs.steps("fourth", runs.plan())
        assert statuses(made) == {1: "confirmed"}


def test_a_type_that_changed_in_the_middle_of_the_log_is_refused(made: PipelineFixture, runs: Runs) -> None:
    begin(made, runs)
    made.change("ALTER TABLE t ALTER COLUMN note TYPE integer USING 1")
    made.change("UPDATE t SET status = 'confirmed' WHERE k = 2")
    made.change("ALTER TABLE t ALTER COLUMN note TYPE text")
    with pytest.raises(DataError, match="the column note had another type when the log was written"):
        runs.steps("third", runs.plan())


def test_a_column_that_is_added_in_the_middle_of_the_log_does_not_matter(made: PipelineFixture, runs: Runs) -> None:
    begin(made, runs)
    made.change("UPDATE t SET note = 'before' WHERE k = 1")
    made.change("ALTER TABLE t ADD COLUMN more integer DEFAULT 1")
    made.change("UPDATE t SET status = 'confirmed', note = 'after' WHERE k = 2")
    apply(runs, "third")
    assert made.sink_rows() == {(1,): (1, "confirmed", "before"), (2,): (2, "confirmed", "after")}


def test_a_preview_says_from_where_the_log_is_read(
    made: PipelineFixture, runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    preview(made.settings, made.pipeline)
    assert "read every change from the source's write-ahead log" in capsys.readouterr().out
    begin(made, runs)
    preview(made.settings, made.pipeline)
    assert f"every change of the write-ahead log from {position(made)} on" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"mode": "replace"}, "log reads changes, and mode is replace"),
        ({"deletes": "delete"}, 'say deletes="keep"'),
        ({"pushdown": True}, "each image is judged"),
        ({"slot": "Not a slot"}, "is no name of a replication slot"),
        ({"max_wal_per_run": 1000}, "max_wal_per_run"),
        ({"on_new_source_column": "add"}, "adds no column on its own"),
        ({"capture": "version", "version": "k", "slot": "s"}, "so the log is not read"),
    ],
)
def test_settings_that_do_not_go_with_the_log_are_refused(settings: dict[str, Any], words: str) -> None:
    definition = {
        "name": "p", "source": "public.t", "sink": "dbo.t", "columns": {"k": "integer", "v": "text"}, "key": ["k"],
        "filter": "true", "capture": "log",
    }  # fmt: skip
    assert Pipeline.model_validate(definition).slot_name == "etl_p"
    with pytest.raises(ValidationError, match=words):
        Pipeline.model_validate({**definition, **settings})


@pytest.fixture(scope="module")
def small_log() -> Iterator[Postgres]:
    """A server that may be changed and restored, and keeps 2 MB of log for slots."""
    with run_postgres() as server:
        yield server


def test_a_lost_slot_is_refused_and_made_anew(
    small_log: Postgres, sink_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with log_table(small_log, sink_url, tmp_path) as made:
        runs = Runs(made, monkeypatch)
        begin(made, runs)
        made.change("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
        made.change("SELECT pg_reload_conf()")
        made.change("UPDATE t SET status = 'confirmed' WHERE k = 2")
        for _ in range(4):
            made.change("SELECT pg_switch_wal()")
            made.change("CHECKPOINT")
        with pytest.raises(AirflowFailException, match=r"is lost: .* make it anew, and run with full_refresh"):
            runs.plan()
        drop_slot(made)
        make_slot(made)
        runs.run("refresh", full_refresh=True)
        assert statuses(made) == {1: "confirmed", 2: "confirmed"}
        made.change("ALTER SYSTEM RESET max_slot_wal_keep_size")
        made.change("SELECT pg_reload_conf()")


def test_a_standby_is_refused_and_so_is_the_log_of_another_timeline(
    small_log: Postgres, sink_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with log_table(small_log, sink_url, tmp_path) as made:
        runs = Runs(made, monkeypatch)
        begin(made, runs)
        with run_standby(small_log) as standby:
            url = standby.url(made.source_url.rpartition("/")[2])
            followed = Runs(replace(made, source_url=url), monkeypatch)
            with pytest.raises(AirflowFailException, match="is a standby"):
                followed.plan()
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute("SELECT pg_promote()")
                connection.execute(
                    "SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [made.pipeline.slot_name]
                )
            with pytest.raises(AirflowFailException, match=r"timeline is 2 and was 1: it was restored"):
                followed.plan()
