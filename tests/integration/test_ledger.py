"""The ledger of an earlier version: it gets the columns it lacks, and the runs of its pipelines go on."""

import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from etl.model.outcome import LATER_COUNTS
from etl.sqlserver import ledger
from etl.sqlserver.connection import connect
from etl.sqlserver.sink import Sink

from dev.sandbox.pipeline_fixture import PipelineFixture, pipeline_fixture
from dev.sandbox.pipelines import ORDERS
from dev.sandbox.sqlserver import SqlServerDouble
from tests.faults.double import needs_double
from tests.harness.etl_check import check, problem
from tests.harness.runs import Runs

_BINARY = "COLLATE Latin1_General_BIN2 NOT NULL"
_COUNTS = ("extracted", "kept", "dropped", "rejected", "inserted", "updated", "unchanged", "standing")
FIRST = {
    "audit": f"[pipeline] nvarchar(48) {_BINARY}, [run_id] nvarchar(250) {_BINARY},"
    f" [partition_id] nvarchar(16) {_BINARY}, [window_low] datetime2(6) NULL, [window_high] datetime2(6) NOT NULL,"
    f" {', '.join(f'[{name}] bigint NOT NULL' for name in _COUNTS)}, [fingerprint] nvarchar(16) NOT NULL,"
    " [checksum] nvarchar(16) NOT NULL, [loaded_at] datetime2(6) NOT NULL,"
    " PRIMARY KEY ([pipeline], [run_id], [partition_id]), INDEX [ix_pipeline_loaded_at] ([pipeline], [loaded_at])",
    "watermark": f"[pipeline] nvarchar(48) {_BINARY}, [value] datetime2(6) NOT NULL, [run_id] nvarchar(250) NOT NULL,"
    " [advanced_at] datetime2(6) NOT NULL, PRIMARY KEY ([pipeline])",
    "settled": f"[pipeline] nvarchar(48) {_BINARY}, [value] datetime2(6) NOT NULL, [pending] datetime2(6) NOT NULL,"
    " [xmax] bigint NOT NULL, [run_id] nvarchar(250) NOT NULL, PRIMARY KEY ([pipeline])",
}
"""The tables of the first version's ledger, as it created them; never changed here."""


def put_back(made: PipelineFixture) -> None:
    """Make the ledger one of the first version, with the rows that it has."""
    made.execute("CREATE SCHEMA [before]")
    for name, columns in FIRST.items():
        kept = ", ".join(f"[{part.split(']')[0]}]" for part in columns.split("PRIMARY KEY")[0].split("[")[1:])
        made.execute(f"CREATE TABLE [before].[{name}] ({columns})")
        made.execute(f"INSERT INTO [before].[{name}] ({kept}) SELECT {kept} FROM [etl].[{name}]")
        made.execute(f"DROP TABLE [etl].[{name}]")
        made.execute(f"CREATE TABLE [etl].[{name}] ({columns})")
        made.execute(f"INSERT INTO [etl].[{name}] ({kept}) SELECT {kept} FROM [before].[{name}]")


@pytest.fixture
def runs(source_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runs]:
    """The runs of orders, with a SQL Server double that no other test uses."""
    with SqlServerDouble() as server, pipeline_fixture(ORDERS, source_url, server.url, tmp_path) as made:
        yield Runs(made, monkeypatch)


@needs_double
def test_runs_go_on_from_a_ledger_of_the_first_version(runs: Runs) -> None:
    totals, watermark = runs.run("before"), runs.watermark()
    before = runs.made.audits()
    put_back(runs.made)
    runs.made.change("UPDATE orders SET amount = amount + 1 WHERE status = 'confirmed' AND order_id % 2 = 0")
    partitions = runs.plan()
    assert f'"low":"{(watermark - runs.made.pipeline.look_back).isoformat()}Z"' in partitions[0]
    runs.steps("after", partitions)
    after = runs.reconcile("after", partitions)
    assert 0 < after["updated"] < totals["inserted"]
    assert after["watermark_advanced"]
    assert runs.watermark() > watermark
    assert runs.made.sink_rows() == runs.made.source_rows("status = 'confirmed'")
    kept = [audit for audit in runs.made.audits() if audit["run_id"] == "before"]
    assert kept == [{**audit, **dict.fromkeys(LATER_COUNTS)} for audit in before]


@needs_double
def test_prepare_sink_adds_what_the_ledger_lacks_and_check_says_so(runs: Runs) -> None:
    runs.run("before")
    put_back(runs.made)
    _, found, words = problem(runs.made, "sink")
    assert found == "unprepared"
    assert "columns deleted, marked, adjusted, window_low_number, window_high_number of etl.audit, columns" in words
    with closing(connect(runs.made.settings, runs.made.settings.sink(), autocommit=True)) as connection:
        sink = Sink(connection)
        added = [done.partition(" to ")[2] for done in sink.migrate_ledger()]
        assert added == ["etl.audit", "etl.watermark", "etl.settled"]
        assert sink.migrate_ledger() == []
    assert check(runs.made)[0] == 0


@needs_double
def test_an_earlier_version_still_writes_the_ledger(runs: Runs) -> None:
    """As when an upgrade is undone, or while tasks of the version before it still run."""
    runs.run("after")
    run_id = uuid.uuid4().hex
    counts = ", ".join(f"[{name}]" for name in _COUNTS)
    runs.made.execute(
        "INSERT INTO [etl].[audit] ([pipeline], [run_id], [partition_id], [window_high], [fingerprint], [checksum],"
        f" [loaded_at], {counts}) SELECT [pipeline], N'{run_id}', [partition_id], [window_high], [fingerprint],"
        f" [checksum], [loaded_at], {counts} FROM [etl].[audit]"
    )
    partitions = runs.plan(full_refresh=True)
    audits = runs.made.query(ledger.read_audit(runs.made.pipeline, run_id))
    assert len(audits) == 1
    assert partitions
