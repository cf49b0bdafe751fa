"""Sink tables as people have them: with triggers and other collations they are loaded; else a sentence says why."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from etl.errors import ConfigurationError, DataError, EtlError
from etl.model.column_types import KEY_COLLATION, parse_column_type
from etl.sqlserver.columns import SinkColumn, accepts
from hypothesis import given
from hypothesis import strategies as st

from dev.sandbox.pipeline_fixture import PipelineFixture, pipeline_fixture
from dev.sandbox.pipelines import ORDERS, make
from tests.harness.runs import Runs

COLUMNS = {
    "order_id": "bigint NOT NULL",
    "customer": "nvarchar(100) NOT NULL",
    "status": "nvarchar(16) NOT NULL",
    "currency": "nchar(3) NOT NULL",
    "amount": "decimal(12,2) NOT NULL",
    "note": "nvarchar(max) NULL",
    "created_at": "datetime2(6) NOT NULL",
    "updated_at": "datetime2(6) NOT NULL",
}
LOG = "[dbo].[triggered]"


def create(made: PipelineFixture, key: str = "order_id", **changes: str) -> None:
    """The sink table, made by hand, with some columns otherwise; without those whose declaration is empty."""
    columns = [f"[{name}] {declared}" for name, declared in {**COLUMNS, **changes}.items() if declared]
    name = made.pipeline.name
    made.execute(f"CREATE TABLE [dbo].[{name}] ({', '.join(columns)}, CONSTRAINT [pk_{name}] PRIMARY KEY ([{key}]))")


def trigger(made: PipelineFixture, body: str) -> None:
    """A trigger on the sink table."""
    name = made.pipeline.name
    made.execute(f"CREATE TRIGGER [dbo].[tr_{name}] ON [dbo].[{name}] AFTER INSERT, UPDATE AS {body}")


@pytest.fixture
def log(orders: PipelineFixture) -> Iterator[str]:
    """A table for a trigger to write to."""
    orders.execute(f"DROP TABLE IF EXISTS {LOG}")
    orders.execute(f"CREATE TABLE {LOG} ([n] int NOT NULL)")
    yield LOG
    orders.execute(f"DROP TABLE {LOG}")


def test_a_trigger_that_counts_rows_of_its_own_falsifies_no_count(
    orders: PipelineFixture, log: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(orders)
    # Without SET NOCOUNT ON, as triggers are written.
    trigger(orders, f"INSERT INTO {log} ([n]) VALUES (1), (2), (3); UPDATE {log} SET [n] = [n] + 1")
    runs = Runs(orders, monkeypatch)
    first = runs.run("first")
    assert (first["inserted"], first["updated"], first["verdict"]) == (1600, 0, "adds up")
    orders.change("UPDATE orders SET amount = amount + 1 WHERE order_id <= 500")
    orders.change("INSERT INTO orders (customer, status, currency, amount) VALUES ('New', 'confirmed', 'EUR', 1)")
    second = runs.run("second")
    assert (second["inserted"], second["updated"], second["verdict"]) == (1, 200, "adds up")
    assert orders.sink_rows() == orders.source_rows("status = 'confirmed'")
    assert orders.query(f"SELECT COUNT(*) FROM {log}") == [(9,)]


def test_a_trigger_that_refuses_rows_is_no_reason_to_try_again(orders: PipelineFixture) -> None:
    create(orders)
    trigger(orders, "THROW 50123, 'No orders on a Sunday.', 1")
    with pytest.raises(ConfigurationError, match=r"No orders on a Sunday\. A trigger of the sink table refuses"):
        orders.run()
    assert orders.sink_rows() == {}
    assert orders.staging_tables() == []


@pytest.mark.parametrize("collation", ["Latin1_General_100_BIN2", "Latin1_General_BIN"])
def test_a_key_in_another_binary_collation_is_loaded(
    source_url: str, sink_url: str, tmp_path: pytest.TempPathFactory, collation: str
) -> None:
    key = {"key": ["customer"], "filter": "order_id > 0"}
    with pipeline_fixture(ORDERS, source_url, sink_url, tmp_path, **key) as made:  # type: ignore[arg-type]
        made.change("DELETE FROM orders WHERE order_id > 100")
        made.change("UPDATE orders SET customer = 'c' || order_id; CREATE UNIQUE INDEX ON orders (customer)")
        create(made, "customer", customer=f"nvarchar(100) COLLATE {collation} NOT NULL")
        assert made.run("first")["load"].inserted == 100
        made.change("UPDATE orders SET amount = 1 WHERE order_id <= 10")
        loaded = made.run("second")["load"]
        assert (loaded.inserted, loaded.updated, loaded.unchanged) == (0, 10, 90)
        assert made.sink_rows() == made.source_rows()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"updated_at": ""},
            "has no column updated_at. Have it changed: ALTER TABLE {table} ADD [updated_at] datetime2(6) NULL; or",
        ),
        (
            {"note": "", "Note": "nvarchar(max) NULL"},
            "has note as Note. Have it changed: EXEC sp_rename N'{table}.[Note]', N'note', 'COLUMN'; or DROP TABLE",
        ),
        (
            {"amount": "decimal(12,4) NOT NULL"},
            "has amount as decimal(12,4), decimal(12,2) is needed. Have it changed: ALTER TABLE {table} ALTER COLUMN"
            " [amount] decimal(12,2) NOT NULL; or DROP TABLE {table}",
        ),
        ({"order_id": "bigint IDENTITY NOT NULL"}, "has order_id as an IDENTITY column, which takes no values"),
        ({"amount": "AS (1.00)"}, "has amount as a computed column, which takes no values"),
        (
            {"warehouse": "int NOT NULL"},
            "has a column warehouse that no row of the pipeline fills, and that is NOT NULL without a default",
        ),
    ],
)
def test_a_table_that_cannot_take_the_rows_is_refused_before_they_are_sent(
    orders: PipelineFixture, changes: dict[str, str], told: str
) -> None:
    create(orders, **changes)
    with pytest.raises(ConfigurationError) as caught:
        orders.run()
    table = f"[dbo].[{orders.pipeline.name}]"
    assert f"sink table {orders.pipeline.sink} {told.format(table=table)}" in str(caught.value)
    assert orders.query(f"SELECT COUNT(*) FROM {table}") == [(0,)]


WIDER = {
    "customer": "nvarchar(200) NOT NULL", "status": "nvarchar(max) NOT NULL", "amount": "decimal(20,4) NOT NULL",
    "created_at": "datetimeoffset(6) NOT NULL",
}  # fmt: skip


@pytest.mark.parametrize("mode", [{}, {"mode": "replace", "version": None, "deletes": "delete"}], ids=["", "replace"])
def test_a_table_with_wider_types_takes_the_rows_and_finds_them_equal(
    orders: PipelineFixture, mode: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in the key, where an integer may be wider and a text longer."""
    declared = {**ORDERS["columns"], "order_id": "integer"}
    orders.change("ALTER TABLE orders ALTER order_id TYPE integer")
    made = replace(orders, pipeline=make(orders.pipeline.model_dump(), columns=declared, **mode))
    create(made, **WIDER)
    runs = Runs(made, monkeypatch)
    assert runs.run("first")["inserted"] == 1600
    made.change("UPDATE orders SET amount = amount + 1, note = 'new' WHERE order_id <= 500")
    totals = runs.run("second", full_refresh=True)
    assert (totals["updated"], totals["inserted"], totals["unchanged"]) == (200, 0, 1400)
    assert made.sink_rows() == made.source_rows("status = 'confirmed'")


def columns(**types: str) -> dict[str, SinkColumn]:
    return {name: SinkColumn(tsql, KEY_COLLATION, True, False, "") for name, tsql in types.items()}


@given(data=st.data())
def test_a_type_is_accepted_only_if_it_holds_every_value(data: st.DataObject) -> None:
    """By sizes, against the arithmetic of integers, decimals and lengths."""
    sizes = st.tuples(st.integers(1, 38), st.integers(0, 38)).filter(lambda size: size[1] <= size[0])
    (precision, scale), (p, s) = data.draw(sizes), data.draw(sizes)
    have, need = columns(v=f"decimal({precision},{scale})")["v"], parse_column_type(f"numeric({p},{s})")
    holds = (10**precision - 1) * 10**s >= (10**p - 1) * 10**scale and scale >= s
    assert accepts(have, need, is_joined=False) == holds
    longest, length = data.draw(st.integers(1, 4000)), data.draw(st.integers(1, 4000))
    text = columns(v=f"nvarchar({longest})")["v"]
    for is_joined in (False, True):
        assert accepts(text, parse_column_type(f"varchar({length})"), is_joined=is_joined) == (longest >= length)
        assert not accepts(text, parse_column_type("text"), is_joined=is_joined)
    assert accepts(columns(v="nvarchar(max)")["v"], parse_column_type("varchar(9)"), is_joined=False)


@pytest.mark.parametrize(
    ("have", "need"),
    [
        ("int", "bigint"), ("decimal(12,2)", "integer"), ("float(53)", "numeric(9,2)"), ("nchar(20)", "varchar(20)"),
        ("nvarchar(20)", "char(10)"), ("varchar(200)", "varchar(100)"), ("real", "double precision"),
        ("datetime", "timestamptz"), ("datetime2(3)", "timestamptz"), ("datetimeoffset(3)", "timestamptz"),
        ("time(3)", "time"), ("datetimeoffset(6)", "timestamp"),
        ("varbinary(100)", "bytea"), ("tinyint", "smallint"), ("datetime2(7)", "date"),
    ],
)  # fmt: skip
def test_a_type_that_does_not_hold_each_value_is_refused(have: str, need: str) -> None:
    assert not accepts(columns(v=have)["v"], parse_column_type(need), is_joined=False)


def test_columns_that_rows_can_do_without_may_be_there(orders: PipelineFixture) -> None:
    create(
        orders,
        number="int IDENTITY NOT NULL",
        loaded="datetime2(6) NOT NULL DEFAULT SYSUTCDATETIME()",
        remark="nvarchar(9) NULL",
    )
    assert orders.run()["load"].inserted == 1600
    assert orders.sink_rows() == orders.source_rows("status = 'confirmed'")


def test_a_column_that_is_not_null_in_the_sink_alone_takes_rows_until_one_lacks_a_value(
    orders: PipelineFixture,
) -> None:
    create(orders, note="nvarchar(max) NOT NULL")
    orders.change("UPDATE orders SET note = 'note'")
    assert orders.run()["load"].inserted == 1600
    orders.change("UPDATE orders SET note = NULL WHERE order_id = 5 OR order_id < 5")
    with pytest.raises(DataError, match=r"into column 'note'.*altered to NULL, or filter such rows"):
        orders.run("second")


def test_nothing_is_made_in_the_sink_for_a_source_that_is_not_as_the_pipeline_says(orders: PipelineFixture) -> None:
    orders.change("ALTER TABLE orders DROP COLUMN note")
    with pytest.raises(EtlError, match="has no column note"):
        orders.run("run", None, "run")
    assert not orders.sink_exists()
