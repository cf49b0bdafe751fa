"""A row that is erased is nowhere any more where this project keeps rows, and what else has it is said."""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from etl.config.settings import Settings
from etl.errors import ConfigurationError, ExitCode, TryAgainError
from etl.sqlserver import sql as sink_sql
from etl.steps.erase import Erased, erase
from pydantic import SecretStr

from dev.sandbox.pipeline_fixture import PipelineFixture, as_json, connect
from dev.sandbox.pipelines import EVERYTHING, ORDERS, make
from dev.sandbox.sqlserver import SqlServerDouble
from tests.harness.runs import Runs
from tests.harness.sink_server import Server, refused

pytestmark = pytest.mark.skipif("SINK_URL" in os.environ, reason="needs an administrator of a sink of the test's own")
MASK_KEY = "a key that masks are made with"
ORDER = 13  # confirmed, by init.sql
TOLERANT = make(ORDERS, tolerated_rejects=10)


@dataclass(frozen=True)
class Place:
    """Orders that have been moved, and the settings of who erases."""

    server: Server
    made: PipelineFixture
    runs: Runs
    staging: Path

    @property
    def settings(self) -> Settings:
        """Of the command."""
        changes = {
            "source_url": SecretStr(self.made.source_url),
            "staging_url": f"file://{self.staging}",
            "mask_key": SecretStr(MASK_KEY),
        }
        return self.server.settings.model_copy(update=changes)

    def erase(
        self, key: str = str(ORDER), *, dry_run: bool = False, ask_source: bool = True, **settings: Any
    ) -> Erased:
        """Erase a row."""
        found = self.settings.model_copy(update=settings)
        return erase(found, self.made.pipeline, key, dry_run=dry_run, ask_source=ask_source)

    def delete_at_source(self, order: int = ORDER) -> None:
        """As a person would who is asked to."""
        self.made.change("DELETE FROM orders WHERE order_id = %s", order)

    def cli(self, *options: str, stdin: str = "", **variables: str) -> "subprocess.CompletedProcess[str]":
        """Run the command itself."""
        command = [sys.executable, "-m", "etl", "erase", "--pipeline", self.made.pipeline.model_dump_json(), *options]
        urls = {"SOURCE_URL": self.made.source_url, "STAGING_URL": f"file://{self.staging}", "MASK_KEY": MASK_KEY}
        environment = os.environ | self.server.environment | urls | variables
        return subprocess.run(command, env=environment, input=stdin, capture_output=True, text=True, check=False)

    def erasures(self) -> list[tuple[Any, ...]]:
        """The record."""
        if self.made.query("SELECT OBJECT_ID(N'[etl].[erasure]', N'U')") == [(None,)]:
            return []
        columns = "[row_mask], [rows_erased], [partitions_erased], [source_asked]"
        return self.server.as_administrator(f"SELECT {columns} FROM [etl].[erasure] ORDER BY [erased_at]")

    def files(self) -> set[str]:
        """The files in staging."""
        return {str(path.relative_to(self.staging)) for path in self.staging.rglob("*") if path.is_file()}

    def holds(self, text: str) -> bool:
        """Whether a text stands in a row of staging, in whatever column."""
        return any(text in str(pq.read_table(file).to_pylist()) for file in self.staging.rglob("*.parquet"))


@pytest.fixture
def place(source_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A sink after a run of partitions of a thousand orders."""
    with SqlServerDouble(password="Adm1n-of-the-'stand-in'", database="") as sql_server:
        server = Server(sql_server.url, "sink", "etl")
        pipeline = TOLERANT.model_copy(update={"partition_size": 1000})
        server.prepare(pipeline)
        staging = tmp_path / "staging"
        site = server.pipeline(source_url, staging, pipeline)
        site.change("UPDATE orders SET customer = 'Ada Lovelace', status = 'confirmed' WHERE order_id = %s", ORDER)
        made = Place(server, site, Runs(site, monkeypatch), staging)
        assert made.runs.run("first")["verdict"] == "adds up"
        yield made


def test_it_is_gone_from_the_sink_and_from_staging_and_nothing_else_is(place: Place) -> None:
    rows, audits, watermark = place.made.sink_rows(), place.made.audits(), place.runs.watermark()
    assert place.holds("Ada Lovelace")
    place.delete_at_source()
    assert place.erase().rows == 1
    del rows[(ORDER,)]
    assert place.made.sink_rows() == rows
    assert not place.holds("Ada Lovelace")
    assert {name.split("/")[2] for name in place.files()} == {"0002", "0003", "0004"}
    # What loads have counted is true as it was, and the rows of the sink are those less what is recorded.
    assert (place.made.audits(), place.runs.watermark()) == (audits, watermark)
    assert sum(audit["inserted"] for audit in audits) - sum(row[1] for row in place.erasures()) == len(rows)


def test_no_later_run_brings_it_back(place: Place) -> None:
    place.delete_at_source()
    place.erase()
    place.made.change("UPDATE orders SET amount = amount + 1 WHERE order_id = 14")
    for run_id, params in (("second", {}), ("third", {"full_refresh": True})):
        assert place.runs.run(run_id, **params)["verdict"] == "adds up"
    assert (ORDER,) not in place.made.sink_rows()
    assert place.made.sink_rows() == place.made.source_rows("status = 'confirmed'")


def test_while_the_source_has_it_it_is_refused_unless_that_is_not_to_be_asked(place: Place) -> None:
    rows, files = place.made.sink_rows(), place.files()
    with pytest.raises(ConfigurationError, match=r"public\.orders still has this row, and a later run would bring it"):
        place.erase()
    assert (place.made.sink_rows(), place.files(), place.erasures()) == (rows, files, [])
    assert place.erase(ask_source=False, source_url=SecretStr("postgresql://nobody@127.0.0.1:9/gone")).rows == 1
    assert place.erasures()[0][3] == 0
    assert (ORDER,) not in place.made.sink_rows()


def test_a_rehearsal_says_the_same_and_changes_nothing(place: Place) -> None:
    place.delete_at_source()
    rows, files = place.made.sink_rows(), place.files()
    rehearsed = place.erase(dry_run=True)
    assert (rehearsed.rows, rehearsed.partitions) == (1, 1)
    assert (place.made.sink_rows(), place.files(), place.erasures()) == (rows, files, [])
    assert place.erase() == rehearsed


def test_again_it_finds_nothing_and_notes_that_too(place: Place) -> None:
    place.delete_at_source()
    counts = [(found.rows, found.partitions) for found in (place.erase(), place.erase())]
    assert counts == [(1, 1), (0, 0)]
    assert [row[1:] for row in place.erasures()] == [(1, 1, 1), (0, 0, 1)]


def test_what_is_recorded_and_said_has_no_key_though_the_column_is_not_sensitive(place: Place) -> None:
    place.delete_at_source()
    completed = place.cli("--key", "-", stdin=f"{ORDER}\n")
    assert completed.returncode == 0, completed.stderr
    done, *remains = as_json(completed)
    mask = place.settings.mask(make(ORDERS, sensitive=["order_id"])).row([ORDER])
    assert (done["event"], done["row"], done["rows"], done["partitions"]) == ("erase: done", mask, 1, 1)
    assert place.erasures() == [(mask, 1, 1, 1)]
    told = " ".join(line["event"] for line in remains)
    assert "Nightly backups of the sink made before now have it, the last of them until 20" in told
    assert "Logs in Loki may name its key (order_id) until 20" in told


def test_of_a_sensitive_key_no_logs_are_said_to_have_it(place: Place) -> None:
    place.delete_at_source()
    private = make(ORDERS, sensitive=["order_id"])
    told = erase(place.settings, private, str(ORDER), dry_run=True, ask_source=True).remains
    assert not any("Loki" in sentence for sentence in told)


def test_a_rejected_row_is_erased_too_also_where_only_its_mask_stands_there(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.made.change("ALTER TABLE orders ALTER customer TYPE text")
    place.made.change("UPDATE orders SET customer = repeat('Eve', 50), status = 'confirmed' WHERE order_id = 3999")
    private = place.made.pipeline.model_copy(update={"sensitive": ["order_id"]})
    for run_id, pipeline in (("second", place.made.pipeline), ("third", private)):
        site = place.server.pipeline(place.made.source_url, place.staging, pipeline)
        Runs(site, monkeypatch)
        changed = PipelineFixture(
            pipeline, site.settings.model_copy(update={"mask_key": SecretStr(MASK_KEY)}), *_urls(site)
        )
        changed.run(run_id, None, "run")  # which stages nothing else
    for order in (ORDER, 3999):
        place.delete_at_source(order)
    assert place.erase(str(ORDER)).partitions == 1
    assert sum("/rejects/" in name for name in place.files()) == 2
    assert place.erase("3999").partitions == 3
    assert not any("/rejects/" in name for name in place.files())


def _urls(site: PipelineFixture) -> tuple[str, str]:
    return site.source_url, site.sink_url


def test_what_a_killed_step_has_left_half_written_goes_too(place: Place) -> None:
    place.delete_at_source()
    torn = place.staging / place.made.pipeline.name / "another run" / "0001" / "extract-0123" / "rows.parquet"
    torn.parent.mkdir(parents=True)
    torn.write_bytes(b"PAR1 half a file with Ada Lovelace")
    assert place.erase().partitions == 2
    assert not torn.exists()


def test_what_was_staged_when_the_key_had_another_type_goes_too(place: Place) -> None:
    other = str(uuid.UUID(int=13))
    for kind, key, staged in (("bigint", "13", "13"), ("varchar(9)", "13", 13), ("uuid", other, other)):
        columns = {**place.made.pipeline.columns, "order_id": kind}
        name = {"name": place.made.pipeline.name, "sink": f"dbo.{kind[:4]}"}
        changed = make({**ORDERS, **name, "columns": columns})
        file = place.staging / changed.name / "earlier" / "0001" / "extract-0123" / "rows.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"order_id": [staged]}), file)
        erase(place.settings, changed, key, dry_run=False, ask_source=False)
        assert not file.exists(), kind


def test_the_table_of_a_dead_load_is_dropped_and_a_load_that_lives_is_waited_for(place: Place) -> None:
    place.delete_at_source()
    name = f"{place.made.pipeline.name}_20260101000000_0123456789ab"
    place.made.execute(f"CREATE TABLE [etl_staging].[{name}] ([order_id] bigint NOT NULL)")
    with connect(place.made.settings) as connection:
        connection.cursor().execute(sink_sql.lock(sink_sql.staging_lock(name), 0, "Session"))
        with pytest.raises(TryAgainError, match=r"a load is under way, which may bring the row\. Pause the DAG"):
            place.erase()
        assert (ORDER,) in place.made.sink_rows()
    assert place.erase().rows == 1
    assert place.made.staging_tables() == []


def test_a_row_that_a_trigger_of_the_sink_keeps_is_not_said_to_be_erased(place: Place) -> None:
    place.delete_at_source()
    table, files = f"[dbo].[{place.made.pipeline.sink.table}]", place.files()
    names = "[order_id], [customer], [status], [currency], [amount], [created_at], [updated_at]"
    values = f"{ORDER}, N'Ada', N'confirmed', N'EUR', 1, '2026-01-01', '2026-01-01'"
    again = f"INSERT INTO {table} ({names}) VALUES ({values})"
    place.server.as_administrator(f"CREATE TRIGGER [dbo].[tr_keeps] ON {table} AFTER DELETE AS {again}")
    with pytest.raises(ConfigurationError, match="still has the row after it was deleted, so a trigger there keeps it"):
        place.erase()
    assert (place.files(), place.erasures()) == (files, [])


def test_it_waits_for_the_lock_of_loads(place: Place) -> None:
    place.delete_at_source()
    with connect(place.made.settings, autocommit=False) as connection:
        connection.cursor().execute(sink_sql.lock(sink_sql.load_lock(place.made.pipeline), 0))
        lock = f"Another load has held the lock 'etl: dbo.{place.made.pipeline.name}'"
        completed = place.cli("--key", str(ORDER), SINK_LOCK_TIMEOUT="PT0.2S")
        assert (completed.returncode, lock in completed.stderr) == (ExitCode.TRY_AGAIN, True)
    assert place.erase().rows == 1


def test_a_run_that_was_between_its_steps_fails_and_moves_nothing(place: Place) -> None:
    place.made.change("UPDATE orders SET amount = amount + 1 WHERE order_id IN (%s, 14)", ORDER)
    partitions = place.runs.plan()
    place.runs.steps("second", partitions, "extract", "filter")
    place.delete_at_source()
    place.erase()
    with pytest.raises(TryAgainError, match="run `etl filter` first"):
        place.runs.steps("second", partitions, "load")
    assert (ORDER,) not in place.made.sink_rows()


def test_a_key_that_makes_no_sense_is_refused_and_not_shown(place: Place) -> None:
    no_bigint = "what was given for order_id is no bigint"
    several = "2 values were given, and the key of orders is order_id"
    for key, told in {"Ada": no_bigint, '["1", "2"]': several, "": no_bigint, "9" * 40: no_bigint}.items():
        completed = place.cli("--key", key)
        assert completed.returncode == ExitCode.CONFIGURATION, completed.stderr
        (line,) = as_json(completed)
        assert told in line["event"]
        assert not key or key not in completed.stderr


def test_the_loader_may_not_erase(place: Place) -> None:
    place.delete_at_source()
    loader = {"SINK_ADMIN_USER": place.server.login, "SINK_ADMIN_PASSWORD": place.server.password}
    completed = place.cli(
        "--key", str(ORDER), **loader, SINK_URL=place.server.url("another@"), SINK_PASSWORD="Another-1'"
    )
    assert completed.returncode == ExitCode.CONFIGURATION, completed.stderr
    assert "permission" in as_json(completed)[-1]["event"]
    assert (ORDER,) in place.made.sink_rows()


def test_the_loader_may_do_nothing_with_the_record(place: Place) -> None:
    place.delete_at_source()
    place.erase()
    record = "[etl].[erasure]"
    for statement in (f"SELECT [row_mask] FROM {record}", f"DELETE FROM {record}", f"DROP TABLE {record}"):
        with refused("permission"):
            place.server.as_loader(statement)
    assert len(place.erasures()) == 1


@pytest.mark.parametrize(
    ("kind", "value", "written"),
    [
        ("smallint", "-7", "-7"),
        ("bigint", "9007199254740993", "+09007199254740993"),
        ("numeric(20,5)", "-12345678901234.50000", "-12345678901234.5"),
        ("numeric(30,2)", "1234567890123456789012345678.90", "1234567890123456789012345678.9"),
        ("varchar(40)", "it's \\ 漢🚚", "it's \\ 漢🚚"),
        ("varchar(40)", "[1]", '["[1]"]'),
        ("char(5)", "ab", "ab"),
        ("uuid", "0a1b2c3d-0000-0000-0000-00000000000a", "{0A1B2C3D00000000000000000000000A}"),
        ("date", "1957-12-31", "19571231"),
        ("time", "12:30:00.5", "12:30:00.500"),
        ("boolean", "true", "T"),
        ("real", "0.1", "0.10"),
        ("double precision", "0.1", "1e-1"),
        ("name", "É ü", "É ü"),
        ("inet", "10.0.0.1", "10.0.0.1"),
        ("oid", "4294967295", "4294967295"),
        ("timestamp", "2026-10-25 02:30:00.000001", "2026-10-25T02:30:00.000001"),
        ("timestamptz", "2026-10-25 02:30:00+02", "2026-10-25 00:30:00Z"),
    ],
)
@pytest.mark.parametrize("is_sensitive", [False, True])
def test_the_row_is_found_whatever_the_type_of_its_key(
    empty: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, value: str, written: str, is_sensitive: bool
) -> None:
    pipeline = make(
        {**EVERYTHING, "name": "keys", "source": "public.t", "sink": "dbo.keys", "filter": "true", "key": ["n", "k"],
         "columns": {"n": "integer", "k": kind, "at": "timestamp"}, "version": "at", "version_zone": "UTC"},
        sensitive=["k"] if is_sensitive else [],
    )  # fmt: skip
    with SqlServerDouble(password="Adm1n-of-the-'stand-in'", database="") as sql_server:
        server = Server(sql_server.url, "sink", "etl")
        server.prepare(pipeline)
        site = server.pipeline(empty, tmp_path, pipeline)
        site.change(f"CREATE TABLE t (n integer, k {kind}, at timestamp NOT NULL, PRIMARY KEY (n, k))")
        site.change("INSERT INTO t VALUES (1, %s, '2026-01-02'), (2, %s, '2026-01-01')", value, value)
        place = Place(server, site, Runs(site, monkeypatch), tmp_path)
        place.runs.run("first")
        site.change("DELETE FROM t WHERE n = 1")
        inner = json.loads(written)[0] if written.startswith("[") else written
        found = place.erase(json.dumps(["1", inner]))
        assert (found.rows, found.partitions) == (1, 1)
        assert [key[0] for key in site.sink_rows()] == [2]
