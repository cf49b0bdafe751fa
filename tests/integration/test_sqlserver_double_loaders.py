"""Statements of the SQL Server double that only the benchmark's other loaders use; and its discard mode."""

import struct
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from typing import Any

import pytest

from dev.sandbox.sqlserver import SqlServerDouble
from dev.sandbox.sqlserver.wire.rpc import EXECUTE_SQL, read_calls
from tests.harness.sqlserver_clients import bulk_copy, connect, connect_pymssql, error_of, numbers, rows

DROP = 'IF OBJECT_ID(N\'"dbo"."t"\', N\'U\') IS NOT NULL DROP TABLE "dbo"."t"'
CREATE = "CREATE TABLE [dbo].[t] ([n] int NOT NULL)"


@pytest.fixture(scope="module")
def server() -> Iterator[SqlServerDouble]:
    with SqlServerDouble() as running:
        yield running


@pytest.fixture
def sink(server: SqlServerDouble) -> Iterator[Any]:
    with closing(connect(server)) as connection:
        yield connection
        connection.cursor().execute("DROP TABLE IF EXISTS [dbo].[t]")


def test_what_is_sent_in_discard_mode_is_gone() -> None:
    with SqlServerDouble(discard=True) as nowhere, closing(connect(nowhere)) as sink:
        sink.cursor().execute(CREATE)
        assert bulk_copy(sink, "[dbo].[t]", numbers(2500))["rows_copied"] == 2500
        assert rows(sink, "SELECT COUNT_BIG(*) FROM [dbo].[t]") == [(0,)]


def test_a_table_is_dropped_where_it_is_there(sink: Any) -> None:
    sink.cursor().execute(DROP)
    sink.cursor().execute(CREATE)
    sink.cursor().execute(DROP)
    assert "Invalid object name" in error_of(lambda: rows(sink, "SELECT n FROM [dbo].[t]"))
    sink.cursor().execute(CREATE)
    assert "does not know" in error_of(lambda: sink.cursor().execute("IF 1 = 1 DROP TABLE [dbo].[t]"))


def test_a_table_that_another_session_has_changed_is_seen_as_it_is(server: SqlServerDouble, sink: Any) -> None:
    with closing(connect(server)) as other:
        for declared in ("int", "nvarchar(5)"):
            sink.cursor().execute(f"CREATE TABLE [dbo].[t] ([n] {declared} NOT NULL)")
            other.cursor().execute("INSERT INTO [dbo].[t] ([n]) VALUES (7)")
            (found,) = rows(other, "SELECT [n] FROM [dbo].[t]")
            assert found == ((7,) if declared == "int" else ("7",))
            sink.cursor().execute("DROP TABLE [dbo].[t]")
            assert "Invalid object name" in error_of(lambda: rows(other, "SELECT [n] FROM [dbo].[t]"))


def test_a_table_that_was_undone_is_not_there(server: SqlServerDouble, sink: Any) -> None:
    with closing(connect(server, autocommit=False)) as other:
        other.cursor().execute(CREATE)
        other.cursor().execute("INSERT INTO [dbo].[t] ([n]) VALUES (7)")
        assert "Invalid object name" in error_of(lambda: rows(sink, "SELECT [n] FROM [dbo].[t]"))
        other.rollback()
        assert "Invalid object name" in error_of(lambda: rows(other, "SELECT [n] FROM [dbo].[t]"))


def test_a_datetimeoffset_keeps_its_local_time(server: SqlServerDouble, sink: Any) -> None:
    sink.cursor().execute("CREATE TABLE [dbo].[t] ([at] datetimeoffset, [about] datetimeoffset(7))")
    moment = datetime(2026, 3, 1, 12, 30, 0, 123456)
    sink.cursor().execute("INSERT INTO [dbo].[t] ([at]) VALUES (?)", moment)
    ((at, about),) = rows(sink, "SELECT [at], [about] FROM [dbo].[t]")
    assert (at.replace(tzinfo=None), at.utcoffset().total_seconds(), about) == (moment, 0, None)
    with closing(connect_pymssql(server)) as other:
        assert rows(other, "SELECT [at] FROM [dbo].[t] WHERE [at] > '2026-03-01 12:00:00'") != []


def test_go_sends_statements_to_be_run_at_once_and_nulls_without_a_type() -> None:
    def text(name: str, value: str) -> bytes:
        data = value.encode("utf-16-le")
        head = bytes([len(name)]) + name.encode("utf-16-le") + b"\0"
        return head + b"\xe7" + struct.pack("<H", 8000) + bytes(5) + struct.pack("<H", len(data)) + data

    null = b"\x03" + "@p1".encode("utf-16-le") + b"\0\x1f"
    request = struct.pack("<HHH", 0xFFFF, EXECUTE_SQL, 0) + text("", "SELECT @p1") + text("", "@p1 nvarchar(1)") + null
    (call,) = read_calls(request)
    assert call.number == EXECUTE_SQL
    assert [each.value for each in call.parameters] == ["SELECT @p1", "@p1 nvarchar(1)", None]
    assert call.parameters[2].name == "@p1"
