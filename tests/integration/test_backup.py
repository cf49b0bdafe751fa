"""The sink in a file and back: the next run goes on from the watermark that came back with the rows.

Against the SQL Server double: a real server writes its backups to a folder of its own machine.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from os import environ
from pathlib import Path
from typing import Any

import duckdb
import mssql_python
import pytest
from airflow.providers.microsoft.mssql.hooks.mssql import MsSqlHook
from airflow.sdk.exceptions import AirflowFailException
from etl.config.settings import Settings
from etl.errors import ConfigurationError, EtlError, ExitCode
from etl.sqlserver import prepare_sql
from etl.sqlserver.backup import backup_sink, restore_sink
from etl.sqlserver.prepare_sql import backup_database, verify_backup
from etl_airflow.dag.plan import read_watermark
from etl_airflow.dag.reconcile import reconcile_run

from dev.sandbox.pipeline_fixture import PipelineFixture, as_json
from dev.sandbox.pipelines import ORDERS, make
from dev.sandbox.sqlserver import SqlServerDouble
from tests.harness.runs import Runs
from tests.harness.sink_server import Server, refused

pytestmark = pytest.mark.skipif("SINK_URL" in environ, reason="a real server's disk is not to be seen from here")
PIPELINE = make(ORDERS)
CONFIRMED = "status = 'confirmed'"


@dataclass(frozen=True)
class Place:
    """A server, the folder of its backups, and the orders that flow into it."""

    server: Server
    folder: Path
    site: PipelineFixture
    runs: Runs

    @property
    def settings(self) -> Settings:
        """Of the commands."""
        return self.server.settings.model_copy(update={"backup_folder": self.folder})

    def backup(self, keep: int = 7) -> str:
        """Make a backup; returns its name."""
        return backup_sink(self.settings, keep).name

    def run(self, run_id: str) -> dict[str, Any]:
        """Run the pipeline as the DAG does."""
        return self.runs.run(run_id)

    def load(self, run_id: str, partitions: list[str]) -> None:
        """Do the steps of planned partitions."""
        self.runs.steps(run_id, partitions)

    def plan(self) -> list[str]:
        """Plan a run that begins now."""
        return self.runs.plan()

    def watermark(self) -> datetime:
        """Up to where the sink is complete."""
        found: datetime | None = read_watermark(PIPELINE, MsSqlHook("sink"))
        assert found
        return found

    def is_complete(self) -> bool:
        """Whether the sink has exactly the confirmed orders of the source."""
        return self.site.sink_rows() == self.site.source_rows(CONFIRMED)

    def confirm_more(self) -> None:
        """Confirm a hundred orders that were not, at the source."""
        self.site.change(
            "UPDATE orders SET status = 'confirmed' WHERE order_id IN"
            " (SELECT order_id FROM orders WHERE status <> 'confirmed' ORDER BY order_id LIMIT 100)"
        )

    def cli(self, *arguments: str, **changes: str) -> "subprocess.CompletedProcess[str]":
        """Run a command itself."""
        variables = environ | self.server.environment | {"BACKUP_FOLDER": str(self.folder)} | changes
        command = [sys.executable, "-m", "etl", *arguments]
        return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


@pytest.fixture
def place(source_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A sink after its first run."""
    (tmp_path / "it's a backup").mkdir()
    with SqlServerDouble(password="Adm1n-of-the-'stand-in'", database="") as sql_server:
        server = Server(sql_server.url, "sink", "etl")
        server.prepare()
        site = server.pipeline(source_url, tmp_path / "staging", PIPELINE)
        made = Place(server, tmp_path / "it's a backup", site, Runs(site, monkeypatch))
        assert made.run("first")["verdict"] == "adds up"
        yield made


def test_after_a_restore_the_next_run_goes_on_from_the_watermark_of_the_backup(place: Place) -> None:
    rows, audits, watermark = place.site.sink_rows(), place.site.audits(), place.watermark()
    name = place.backup()
    place.confirm_more()
    place.run("second")
    assert place.is_complete()
    assert place.watermark() > watermark
    told = restore_sink(place.settings, name)
    assert datetime.fromisoformat(told[PIPELINE.name]) == watermark
    assert (place.site.sink_rows(), place.site.audits(), place.watermark()) == (rows, audits, watermark)
    third = place.run("third")
    assert (third["inserted"], third["watermark_advanced"]) == (100, True)
    assert place.is_complete()
    low = place.site.query("SELECT [window_low] FROM [etl].[audit] WHERE [run_id] = N'third'")
    assert low == [((watermark - PIPELINE.look_back).replace(tzinfo=None),)]


def test_a_run_that_airflow_began_after_the_backup_cannot_move_the_watermark_past_what_is_missing(place: Place) -> None:
    """The metadata database is newer than the sink: the run's window begins where the lost one ended."""
    name, watermark = place.backup(), place.watermark()
    place.confirm_more()
    place.run("second")
    place.confirm_more()
    partitions = place.plan()
    place.load("third", partitions)
    restore_sink(place.settings, name)
    with pytest.raises(AirflowFailException, match="not loaded as it was planned"):
        reconcile_run(PIPELINE, "third", partitions, "sink")
    place.load("third", partitions)  # as after clearing its tasks
    assert reconcile_run(PIPELINE, "third", partitions, "sink")["watermark_advanced"] is False
    assert place.watermark() == watermark
    place.run("fourth")
    assert place.is_complete()


def test_a_run_that_airflow_has_forgotten_changes_nothing_when_it_is_done_again(place: Place) -> None:
    """The sink is newer than the metadata database: what that thinks is under way has long been done."""
    place.confirm_more()
    partitions = place.plan()
    place.load("second", partitions)
    reconcile_run(PIPELINE, "second", partitions, "sink")
    place.confirm_more()
    place.run("third")
    rows, watermark = place.site.sink_rows(), place.watermark()
    place.load("second", partitions)
    again = reconcile_run(PIPELINE, "second", partitions, "sink")
    assert (again["verdict"], again["watermark_advanced"]) == ("adds up", False)
    assert (place.site.sink_rows(), place.watermark()) == (rows, watermark)


def test_on_another_server_everything_is_as_it_was_and_the_login_may_do_as_much(place: Place) -> None:
    name, rows = place.backup(), place.site.sink_rows()
    with SqlServerDouble(password="Another-Adm1n", database="") as sql_server:
        other = replace(place.server, admin_url=sql_server.url)
        restore_sink(other.settings.model_copy(update={"backup_folder": place.folder}), name)
        site = other.pipeline(place.site.source_url, place.folder, PIPELINE)
        assert site.sink_rows() == rows
        assert other.as_administrator(prepare_sql.FIND_DATABASE, "sink") == [(True, False, "SIMPLE")]
        assert other.prepare() == []
        with refused("permission"):
            other.as_loader("DELETE FROM [etl].[watermark]")


def test_restored_twice_it_is_the_same(place: Place) -> None:
    name, rows = place.backup(), place.site.sink_rows()
    place.site.execute("CREATE TABLE [dbo].[made_since] ([n] int)")
    for _ in range(2):
        restore_sink(place.settings, name)
        assert place.site.sink_rows() == rows
        assert place.site.query("SELECT OBJECT_ID(N'[dbo].[made_since]', N'U')") == [(None,)]


def test_a_restore_that_was_cut_off_can_be_done_again(place: Place) -> None:
    name, rows = place.backup(), place.site.sink_rows()
    torn = shutil.copy(place.folder / name, place.folder / "torn.bak")
    with duckdb.connect(torn) as content:  # sound to its end, and what is wanted last is missing
        content.execute('DROP TABLE "stand-in catalogue".DATABASES')
    with pytest.raises(EtlError):
        restore_sink(place.settings, "torn.bak")
    assert place.server.as_administrator(prepare_sql.FIND_STATE, "sink", database="master") == [("RESTORING",)]
    restore_sink(place.settings, name)
    assert place.site.sink_rows() == rows


def test_whoever_is_in_the_database_is_sent_away_while_it_is_restored(place: Place) -> None:
    name = place.backup()
    mssql_python.pooling(enabled=False)
    connection = mssql_python.connect(place.site.settings.sink().get_secret_value(), autocommit=True)
    cursor = connection.cursor()
    cursor.execute("SELECT 1")
    cursor.fetchall()
    place.server.as_administrator(prepare_sql.take_offline("sink"), database="master")
    with pytest.raises(mssql_python.Error):
        cursor.execute("SELECT 1")
    with refused("Login failed"):
        place.server.as_loader("SELECT 1")
    restore_sink(place.settings, name)
    assert place.server.as_loader("SELECT 1") == [(1,)]


def test_so_many_are_kept_and_what_a_killed_attempt_left_is_removed(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = ["sink-20250101T000000Z.bak", "sink-20260101T000000Z.bak"]
    others = ["metadata-20250101T000000Z.dump", "notes.txt"]
    for name in [*old, *others, "sink-20260102T000000Z.bak.part"]:
        (place.folder / name).touch()
    made = place.backup(keep=2)
    assert sorted(path.name for path in place.folder.iterdir()) == sorted([*others, old[1], made])


def test_a_damaged_backup_is_refused_and_the_sink_stays(place: Place) -> None:
    name, rows = place.backup(), place.site.sink_rows()
    file = place.folder / name
    content = bytearray(file.read_bytes())
    begin = len(content) // 4
    content[begin:] = bytes(len(content) - begin)  # some of its blocks are in use, whichever
    file.write_bytes(content)
    (place.folder / "empty.bak").touch()
    (place.folder / "text.bak").write_text("no backup")
    for damaged in (name, "empty.bak", "text.bak"):
        with pytest.raises(ConfigurationError, match=r"media family on device .* is incorrectly formed"):
            restore_sink(place.settings, damaged)
    assert place.site.sink_rows() == rows


def test_a_backup_that_cannot_be_read_again_gets_no_name(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare_sql, "verify_backup", lambda path: verify_backup(f"{path}.damaged"))
    with pytest.raises(ConfigurationError, match="Cannot open backup device"):
        place.backup()
    assert list(place.folder.iterdir()) == []


def test_a_folder_that_is_the_server_s_alone_is_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = str(place.folder.parent / "elsewhere.bak")
    monkeypatch.setattr(prepare_sql, "backup_database", lambda database, _: backup_database(database, elsewhere))
    monkeypatch.setattr(prepare_sql, "verify_backup", lambda _: verify_backup(elsewhere))
    with pytest.raises(ConfigurationError, match="mount the same folder there and here"):
        place.backup()


def test_the_commands_say_what_they_did_without_secrets(place: Place) -> None:
    made = place.cli("backup-sink", "--keep", "3")
    (line,) = as_json(made)
    assert (made.returncode, line["event"], line["step"], line["removed"]) == (
        0,
        "backup-sink: done",
        "backup-sink",
        [],
    )
    restored = place.cli("restore-sink", line["file"])
    told = as_json(restored)[-1]
    assert (restored.returncode, told["event"], list(told["watermarks"])) == (0, "restore-sink: done", [PIPELINE.name])
    for name, value in place.server.environment.items():
        assert "PASSWORD" not in name or value not in made.stderr + restored.stderr


@pytest.mark.parametrize(
    ("arguments", "changes", "told"),
    [
        (["backup-sink"], {"SINK_ADMIN_PASSWORD": "wrong-and-secret"}, "Login failed for user"),
        (["backup-sink"], {"SINK_URL": "mssql://etl@HOST/other"}, "Database 'other' does not exist"),
        (["backup-sink"], {"BACKUP_FOLDER": "/proc/nonexistent"}, "Cannot open backup device '/proc/nonexistent/sink-"),
        (["restore-sink", "sink-1.bak"], {}, "Cannot open backup device"),
        (["copy-backups"], {}, "BACKUP_URL is not set"),
    ],
)
def test_what_is_wrong_is_one_sentence_without_secrets(
    place: Place, arguments: list[str], changes: dict[str, str], told: str
) -> None:
    address = place.server.sink_url.partition("@")[2].partition("/")[0]
    completed = place.cli(*arguments, **{name: value.replace("HOST", address) for name, value in changes.items()})
    assert completed.returncode == ExitCode.CONFIGURATION, completed.stderr
    (line,) = as_json(completed)
    assert told in line["event"]
    assert "wrong-and-secret" not in completed.stderr


def test_only_an_administrator_may(place: Place) -> None:
    loader = {"SINK_ADMIN_USER": place.server.login, "SINK_ADMIN_PASSWORD": place.server.password}
    completed = place.cli("backup-sink", **loader, SINK_URL=place.server.url("another@"), SINK_PASSWORD="Another-1'")
    assert completed.returncode == ExitCode.CONFIGURATION, completed.stderr
    assert "permission" in as_json(completed)[-1]["event"]
