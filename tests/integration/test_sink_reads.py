"""Plan and reconcile read from the sink what has changed, however large its table is."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from etl.sqlserver import checks as sink_checks
from etl.sqlserver import sql as sink_sql
from etl.sqlserver.sink import Sink
from etl_airflow.dag.hooks import SinkHook

from dev.sandbox.pipeline_fixture import PipelineFixture, pipeline_fixture
from dev.sandbox.pipelines import ORDERS
from tests.harness.runs import Runs

VERSION = r"CAST\(N'[-0-9T:.]+' AS datetime2\(6\)\)"
A_WINDOW = re.compile(rf"WHERE \[updated_at\] <= {VERSION} AND \[updated_at\] > {VERSION}$")
THE_NEWEST = re.compile(r"^SELECT TOP \(100\) .* ORDER BY \[updated_at\] DESC$")
WITHOUT_KEY = (
    "CREATE TABLE {} ([order_id] bigint NOT NULL, [customer] nvarchar(100) NULL, [status] nvarchar(16) NOT NULL,"
    " [currency] nchar(3) NOT NULL, [amount] decimal(12,2) NOT NULL, [note] nvarchar(max) NULL,"
    " [created_at] datetime2(6) NOT NULL, [updated_at] datetime2(6) NOT NULL)"
)


class Recorder:
    """Whatever a connection and its cursors are asked to execute is kept, and executed."""

    def __init__(self, recorded: Any, statements: list[str]) -> None:
        self._recorded = recorded
        self._statements = statements

    def __getattr__(self, name: str) -> Any:
        return getattr(self._recorded, name)

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, *_: object) -> None:
        self._recorded.close()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._recorded)

    def cursor(self) -> "Recorder":
        return Recorder(self._recorded.cursor(), self._statements)

    def execute(self, statement: str, *parameters: Any) -> Any:
        self._statements.append(statement)
        return self._recorded.execute(statement, *parameters)


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Statements that plan and reconcile send to the sink."""
    found: list[str] = []
    connect = SinkHook.get_conn
    monkeypatch.setattr(SinkHook, "get_conn", lambda hook: Recorder(connect(hook), found))
    return found


def test_a_load_asks_for_the_columns_of_each_table_of_the_ledger_once(
    orders: PipelineFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders.run()
    sent: list[str] = []
    rows = Sink.rows

    def recorded(sink: Sink, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        sent.append(statement)
        return rows(sink, statement, *parameters)

    monkeypatch.setattr(Sink, "rows", recorded)
    orders.run("again")
    # As SQL Server describes them, and by which of them the server fills.
    assert sum("COLUMN_NAME" in each and "N'audit'" in each for each in sent) == 1
    assert sum("sys.columns" in each and "[audit]" in each for each in sent) == 1


def of_table(made: PipelineFixture, statements: list[str]) -> list[str]:
    """Those that read its rows."""
    return [each for each in statements if f" FROM {sink_sql.quote_table(made.pipeline.sink)}" in each]


def test_every_read_of_the_sink_table_is_of_the_newest_rows_or_of_the_window(
    orders: PipelineFixture, monkeypatch: pytest.MonkeyPatch, statements: list[str]
) -> None:
    """Both in the order of its index on the version, which spares the rest of the table; one pass over the window."""
    runs = Runs(orders, monkeypatch)
    runs.run("first")
    (index,) = [
        index.columns
        for index in sink_checks.read_indexes(orders.query(sink_checks.find_indexes(orders.pipeline.sink)))
        if not index.is_unique
    ]
    assert index == (orders.pipeline.version,)
    orders.change("UPDATE orders SET status = 'confirmed' WHERE order_id <= 100")
    statements.clear()
    assert runs.run("second")["verdict"] == "adds up"
    newest, window = of_table(orders, statements)
    assert THE_NEWEST.match(newest)
    assert A_WINDOW.search(window)
    assert "IS NULL" not in window


@pytest.fixture
def keyless(source_url: str, sink_url: str, tmp_path: Path) -> Iterator[PipelineFixture]:
    """A sink table of someone's own: without a key, without an index, and one column may be NULL in it."""
    with pipeline_fixture(ORDERS, source_url, sink_url, tmp_path) as made:
        made.execute(WITHOUT_KEY.format(sink_sql.quote_table(made.pipeline.sink)))
        yield made


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        ("UPDATE {} SET [customer] = NULL WHERE [order_id] = 100", "1 rows lack a required value"),
        ("INSERT INTO {0} SELECT * FROM {0} WHERE [order_id] = 100", "1 keys stand more than once"),
        ("UPDATE {} SET [status] = N'CONFIRMED' WHERE [order_id] = 100", "1 rows are not (status = 'confirmed')"),
    ],
)
def test_what_the_sink_does_not_rule_out_is_looked_for(
    keyless: PipelineFixture, monkeypatch: pytest.MonkeyPatch, statements: list[str], harm: str, told: str
) -> None:
    runs = Runs(keyless, monkeypatch)
    partitions = runs.plan()
    runs.steps("first", partitions)
    keyless.execute(harm.format(sink_sql.quote_table(keyless.pipeline.sink)))
    with pytest.raises(AirflowFailException, match=re.escape(told)):
        runs.reconcile("first", partitions)
    assert len(of_table(keyless, statements)) == 2


def test_reconcile_says_how_a_table_is_indexed_that_has_no_index(
    keyless: PipelineFixture, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    runs = Runs(keyless, monkeypatch)
    runs.run("first")
    (told,) = [record.message for record in caplog.records if "has no index" in record.message]
    assert f"{keyless.pipeline.sink} has no index on updated_at" in told
    keyless.execute(told.rpartition(": ")[2])
    caplog.clear()
    runs.run("second", full_refresh=True)
    assert "has no index" not in caplog.text
