"""the SQL Server double does what the loader, its checks and the drivers need of one, and refuses the rest."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time as clock
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import mssql_python
import pyarrow as pa
import pymssql
import pytest

from dev.sandbox import sqlserver
from dev.sandbox.sqlserver import SqlServerDouble
from tests.harness.sqlserver_clients import bulk_copy, connect, connect_pymssql, error_of, numbers, rows

TYPES = {
    "id": "int NOT NULL",
    "flag": "bit",
    "tiny": "tinyint",
    "small": "smallint",
    "medium": "int",
    "big": "bigint",
    "money": "decimal(38,10)",
    "price": "decimal(9,2)",
    "ratio": "real",
    "precise": "float(53)",
    "name": "nvarchar(10)",
    "code": "nchar(4)",
    "ascii": "varchar(10)",
    "text": "nvarchar(max)",
    "raw": "varbinary(8)",
    "blob": "varbinary(max)",
    "day": "date",
    "clock": "time(6)",
    "moment": "datetime2(6)",
    "guid": "uniqueidentifier",
    "naïve ]name[": "nvarchar(20)",
}
ARROW = {
    "id": pa.int32(),
    "flag": pa.bool_(),
    "tiny": pa.uint8(),
    "small": pa.int16(),
    "medium": pa.int32(),
    "big": pa.int64(),
    "money": pa.decimal128(38, 10),
    "price": pa.decimal128(9, 2),
    "ratio": pa.float32(),
    "precise": pa.float64(),
    "raw": pa.binary(),
    "blob": pa.binary(),
    "day": pa.date32(),
    "clock": pa.time64("us"),
    "moment": pa.timestamp("us"),
    "guid": pa.string(),
}
GUID = UUID("01234567-89ab-cdef-0123-456789abcdef")
LEAST = (
    1, False, 0, -(2**15), -(2**31), -(2**63), Decimal("-9999999999999999999999999999.9999999999"),
    Decimal("-9999999.99"), -1.5, -1.7976931348623157e308, "", "a", "", "", b"", b"", date(1, 1, 1), time(0),
    datetime(1, 1, 1), UUID(int=0), "",
)  # fmt: skip
GREATEST = (
    2, True, 255, 2**15 - 1, 2**31 - 1, 2**63 - 1, Decimal("9999999999999999999999999999.9999999999"),
    Decimal("9999999.99"), 1.5, 1.7976931348623157e308, "😀😀😀😀😀", "äß漢z", "plain €", "漢字 😀 " * 3000,
    b"\x00\xff" * 4, bytes(range(256)) * 100, date(9999, 12, 31), time(23, 59, 59, 999999),
    datetime(9999, 12, 31, 23, 59, 59, 999999), UUID(int=2**128 - 1), "it's ''quoted''",
)  # fmt: skip
USUAL = (
    3, True, 7, 8, 9, 10, Decimal("0.0000000001"), Decimal("12.30"), 0.25, 0.1, "it's", "abcd", "x", "line\nline",
    b"\x01", b"\x02", date(2026, 2, 28), time(12, 30, 0, 1), datetime(2026, 2, 28, 12, 30, 0, 1), GUID, "naïve",
)  # fmt: skip
ABSENT = (4, *[None] * (len(TYPES) - 1))
ROWS = [LEAST, GREATEST, USUAL, ABSENT]


def quote(name: str) -> str:
    return "[" + name.replace("]", "]]") + "]"


@pytest.fixture(scope="module")
def server() -> Iterator[SqlServerDouble]:
    with SqlServerDouble() as running:
        yield running


@pytest.fixture
def sink(server: SqlServerDouble) -> Iterator[Any]:
    """A connection in autocommit; the tables that a test made in dbo are dropped after it."""
    connection = connect(server)
    yield connection
    connection.close()
    with connect(server) as cleaner:
        cleaner.cursor().execute("EXEC standin_clear_faults")
        for (name,) in rows(cleaner, "SELECT TABLE_NAME FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA = N'dbo'"):
            cleaner.cursor().execute(f"DROP TABLE [dbo].{quote(name)}")


@pytest.fixture
def everything(sink: Any) -> str:
    """A table with a column of every type."""
    columns = ", ".join(f"{quote(name)} {declared}" for name, declared in TYPES.items())
    sink.cursor().execute(f"CREATE TABLE [dbo].[Every Thing] ({columns}, CONSTRAINT [pk] PRIMARY KEY ([id]))")
    return "[dbo].[Every Thing]"


@pytest.fixture
def table(sink: Any) -> str:
    """A table with one number, which is its key."""
    sink.cursor().execute("CREATE TABLE [dbo].[t] ([n] int NOT NULL, CONSTRAINT [pk_t] PRIMARY KEY ([n]))")
    return "[dbo].[t]"


class TestLogin:
    def test_it_says_that_it_is_a_stand_in(self, server: SqlServerDouble, sink: Any) -> None:
        assert "test double" in rows(sink, "SELECT @@VERSION")[0][0]
        with connect_pymssql(server) as connection:
            assert "test double" in rows(connection, "SELECT @@VERSION")[0][0]

    def test_a_wrong_login_is_error_18456_in_pymssql(self, server: SqlServerDouble) -> None:
        with pytest.raises(pymssql.OperationalError, match="Login failed for user 'sa'"):
            connect_pymssql(server, password="wrong")
        with pytest.raises(pymssql.OperationalError, match="18456"):
            connect_pymssql(server, user="nobody")

    def test_a_wrong_password_fails_in_mssql_python(self, server: SqlServerDouble) -> None:
        with pytest.raises(mssql_python.OperationalError, match="Login failed for user 'sa'"):
            connect(server, password="wrong")

    def test_an_unknown_database_is_refused(self, server: SqlServerDouble) -> None:
        # 4060 is followed by 18456, which is all that the drivers report (the next test sees both).
        with pytest.raises(mssql_python.OperationalError, match="Login failed for user 'sa'"):
            connect(server, database="nope")
        with pytest.raises(pymssql.OperationalError, match="18456"):
            connect_pymssql(server, database="nope")

    def test_a_database_that_does_not_open_is_two_errors(self, server: SqlServerDouble, tmp_path: Path) -> None:
        dump = tmp_path / "dump"
        where = f"'{server.host}', 'sa', '{server.password}', 'nope', port={server.port}"
        command = [sys.executable, "-c", f"import pymssql; pymssql.connect({where})"]
        ran = subprocess.run(command, env=os.environ | {"TDSDUMP": str(dump)}, capture_output=True, check=False)
        assert ran.returncode != 0
        assert re.findall(r"reading message (\d+) from server", dump.read_text()) == ["4060", "18456"]

    def test_fifty_sessions_at_once(self, server: SqlServerDouble) -> None:
        connections = [connect(server) for _ in range(50)]
        assert {rows(connection, "SELECT DB_NAME(), @@TRANCOUNT, 1")[0] for connection in connections} == {
            ("sink", 0, 1)
        }
        for connection in connections:
            connection.close()


class TestTypes:
    def insert_parameters(self, connection: Any, table: str, given: list[tuple[Any, ...]], marker: str = "?") -> None:
        names = list(TYPES)
        for row in given:
            # A NULL parameter has no type, so it is left out.
            values = {name: value for name, value in zip(names, row, strict=True) if value is not None}
            columns = ", ".join(map(quote, values))
            markers = ", ".join([marker] * len(values))
            connection.cursor().execute(f"INSERT INTO {table} ({columns}) VALUES ({markers})", tuple(values.values()))

    def stored(self, connection: Any, table: str) -> list[tuple[Any, ...]]:
        columns = ", ".join(map(quote, TYPES))
        return rows(connection, f"SELECT {columns} FROM {table} ORDER BY [id]")

    def expected(self, given: list[tuple[Any, ...]] = ROWS) -> list[tuple[Any, ...]]:
        """The rows as they come back: nchar(4) is padded."""
        at = list(TYPES).index("code")
        return [(*row[:at], row[at] and row[at].ljust(4), *row[at + 1 :]) for row in given]

    def test_bulk_copied_rows_come_back_exactly(self, server: SqlServerDouble, sink: Any, everything: str) -> None:
        columns = dict(zip(TYPES, zip(*ROWS, strict=True), strict=True))
        columns["guid"] = tuple(value and str(value) for value in columns["guid"])
        arrays = {name: pa.array(values, ARROW.get(name, pa.string())) for name, values in columns.items()}
        bulk_copy(sink, everything, pa.record_batch(arrays))
        assert self.stored(sink, everything) == self.expected()
        with connect_pymssql(server) as connection:
            assert self.stored(connection, everything) == self.expected()

    def test_parameters_come_back_exactly(self, sink: Any, everything: str) -> None:
        later = [
            datetime(1753, 1, 1) if value == datetime(1, 1, 1) else value for value in LEAST
        ]  # the driver's own limit
        later = [date(1753, 1, 1) if value == date(1, 1, 1) else value for value in later]
        given = [tuple(later), *ROWS[1:]]
        self.insert_parameters(sink, everything, given)
        assert self.stored(sink, everything) == self.expected(given)

    def test_pymssql_parameters_come_back_exactly(self, server: SqlServerDouble, sink: Any, everything: str) -> None:
        with connect_pymssql(server, autocommit=True) as connection:
            # pymssql sends bytes as text, which SQL Server does not take for varbinary.
            given = [tuple(bytearray(v) if isinstance(v, bytes) else v for v in row) for row in ROWS]
            self.insert_parameters(connection, everything, given, "%s")
        assert self.stored(sink, everything) == self.expected()

    def test_executemany_inserts_all_rows(self, sink: Any, table: str) -> None:
        sink.cursor().executemany(f"INSERT INTO {table} ([n]) VALUES (?)", [(n,) for n in range(100)])
        assert rows(sink, f"SELECT COUNT_BIG(*), SUM([n]) FROM {table}") == [(100, 4950)]

    def test_an_aware_time_keeps_its_local_time(self, sink: Any, everything: str) -> None:
        aware = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
        sink.cursor().execute(f"INSERT INTO {everything} ([id], [moment]) VALUES (1, ?), (2, ?)", aware, aware)
        assert rows(sink, f"SELECT [moment] FROM {everything} WHERE [id] = 1") == [(datetime(2026, 1, 1, 12),)]

    def test_long_and_null_parameters(self, sink: Any) -> None:
        long = "漢😀" * 50_000
        assert rows(sink, "SELECT ?, ?", long, None) == [(long, None)]

    def test_bulk_copy_of_many_rows_adds_up(self, sink: Any, table: str) -> None:
        bulk_copy(sink, table, numbers(200_000), batch_size=0)
        assert rows(sink, f"SELECT COUNT_BIG(*), SUM(CAST([n] AS bigint)) FROM {table}") == [(200_000, 19_999_900_000)]

    def test_bulkcopy_of_tuples_works_too(self, sink: Any, table: str) -> None:
        sink.cursor().bulkcopy(table, [(1,), (2,)], timeout=0)
        assert rows(sink, f"SELECT [n] FROM {table} ORDER BY [n] DESC") == [(2,), (1,)]


class TestErrors:
    @pytest.mark.parametrize(
        ("number", "statement", "told"),
        [
            (102, "MERGE INTO t USING s ON 1 = 1", "the SQL Server double does not know this statement: MERGE"),
            (102, "SELECT SOUNDEX(N'x')", "does not know"),
            (102, "SELECT 1 INTO t", "does not know"),
            (102, "SELECT n FROM t WHERE n", "does not know"),
            (102, "SELECT 1; WAITFOR DELAY '00:00:01'", "WAITFOR"),
            (130, "SELECT COUNT(CASE WHEN EXISTS (SELECT 1) THEN 1 END) FROM [dbo].[t]", "or a subquery"),
            (207, "SELECT [x] FROM [dbo].[t]", "Invalid column name 'x'"),
            (208, "SELECT 1 FROM [dbo].[nope]", "Invalid object name 'dbo.nope'"),
            (245, "INSERT INTO t (n) VALUES (N'x')", "Conversion failed"),
            (515, "INSERT INTO t (n) VALUES (NULL)", "NULL into column 'n', table 'sink.dbo.t'"),
            (515, "UPDATE t SET n = NULL", "UPDATE fails"),
            (2627, "INSERT INTO t (n) VALUES (1)", "'pk_t'. Cannot insert duplicate key in object 'dbo.t'. The"
                   " duplicate key value is (1)"),
            (2714, "CREATE TABLE [dbo].[t] ([n] int)", "already an object named 't'"),
            (2760, "CREATE TABLE [nope].[t] ([n] int)", "nope"),
            (1088, "CREATE INDEX [i] ON [dbo].[nope] ([n])", 'Cannot find the object "dbo.nope"'),
            (1911, "CREATE INDEX [i] ON [dbo].[t] ([x])", "Column name 'x' does not exist"),
            (1911, "CREATE TABLE [dbo].[u] ([n] int, INDEX [i] ([x]))", "Column name 'x' does not exist"),
            (102, "SELECT 1 WHERE EXISTS (SELECT N'a' EXCEPT SELECT N'A')", "does not know"),
            (205, "SELECT 1 WHERE EXISTS (SELECT 1 EXCEPT SELECT 1, 2)", "an equal number of expressions"),
            (3701, "DROP TABLE [dbo].[nope]", "Cannot drop the table"),
            (4104, "SELECT x.n FROM t", "x.n"),
            (8115, "INSERT INTO t (n) VALUES (3000000000)", "Arithmetic overflow"),
            (8134, "SELECT n / 0 FROM t", "Divide by zero"),
        ],
    )  # fmt: skip
    def test_errors_have_sql_servers_numbers_and_words(
        self, server: SqlServerDouble, sink: Any, table: str, number: int, statement: str, told: str
    ) -> None:
        sink.cursor().execute(f"INSERT INTO {table} (n) VALUES (1)")
        assert told in error_of(lambda: rows(sink, statement))
        with connect_pymssql(server) as connection:
            message = error_of(lambda: rows(connection, statement))
        assert str(number) in message
        assert told in message
        assert rows(sink, f"SELECT n FROM {table}") == [(1,)]

    @pytest.mark.parametrize(
        ("column", "value", "told"),
        [
            ("name", "12345678901", "table 'sink.dbo.Every Thing', column 'name'. Truncated value: '1234567890'"),
            ("name", "😀😀😀😀😀x", "would be truncated"),
            ("code", "12345", "would be truncated"),
            ("ascii", "12345678901", "would be truncated"),
            ("raw", b"123456789", "would be truncated"),
            ("price", Decimal("12345678.00"), "Arithmetic overflow error converting expression to data type numeric"),
            ("tiny", 256, "Arithmetic overflow error converting expression to data type tinyint"),
        ],
    )
    def test_what_does_not_fit_is_refused(
        self, sink: Any, everything: str, column: str, value: object, told: str
    ) -> None:
        statement = f"INSERT INTO {everything} ([id], {quote(column)}) VALUES (1, ?)"
        assert told in error_of(lambda: sink.cursor().execute(statement, value))
        assert rows(sink, f"SELECT COUNT(*) FROM {everything}") == [(0,)]

    def test_a_rejected_bulk_batch_leaves_none_of_its_rows(self, sink: Any, table: str) -> None:
        twice = pa.record_batch({"n": pa.array([1, 2, 3, 4, 5, 5], pa.int32())})
        message = error_of(lambda: bulk_copy(sink, table, twice, batch_size=2))
        assert "The duplicate key value is (5)" in message
        assert rows(sink, f"SELECT n FROM {table} ORDER BY n") == [(1,), (2,), (3,), (4,)]

    def test_composite_keys_are_named_in_full(self, sink: Any) -> None:
        sink.cursor().execute(
            "CREATE TABLE [k] ([a] int, [b] nvarchar(9) COLLATE Latin1_General_BIN2,"
            " CONSTRAINT [pk k] PRIMARY KEY ([a], [b]))"
        )
        insert = "INSERT INTO [k] ([a], [b]) VALUES (1, N'x'), (1, N'X')"
        sink.cursor().execute(insert)
        assert "(1, x)" in error_of(lambda: sink.cursor().execute(insert))


class TestTransactions:
    def test_rollback_and_disconnect_undo(self, server: SqlServerDouble, sink: Any, table: str) -> None:
        connection = connect(server, autocommit=False)
        connection.cursor().execute(f"INSERT INTO {table} (n) VALUES (1)")
        assert rows(connection, "SELECT @@TRANCOUNT") == [(1,)]
        connection.rollback()
        connection.cursor().execute(f"INSERT INTO {table} (n) VALUES (2)")
        connection.commit()
        connection.cursor().execute(f"INSERT INTO {table} (n) VALUES (3)")
        connection.close()
        with connect_pymssql(server) as other:
            rows(other, f"SELECT n FROM {table}")
            other.cursor().execute(f"INSERT INTO {table} (n) VALUES (4)")
        assert rows(sink, f"SELECT n FROM {table}") == [(2,)]

    def test_pymssql_commits(self, server: SqlServerDouble, sink: Any, table: str) -> None:
        with connect_pymssql(server) as connection:
            connection.cursor().execute(f"INSERT INTO {table} (n) VALUES (%s)", (1,))
            connection.rollback()
            connection.cursor().execute(f"INSERT INTO {table} (n) VALUES (%s)", (2,))
            connection.commit()
        assert rows(sink, f"SELECT n FROM {table}") == [(2,)]

    def test_with_xact_abort_an_error_undoes_the_transaction(
        self, server: SqlServerDouble, sink: Any, table: str
    ) -> None:
        with connect(server, autocommit=False) as connection:
            connection.cursor().execute("SET XACT_ABORT ON; SET NOCOUNT ON;")
            connection.cursor().execute(f"INSERT INTO {table} (n) VALUES (1)")
            error_of(lambda: connection.cursor().execute(f"INSERT INTO {table} (n) VALUES (1)"))
            connection.rollback()
            connection.cursor().execute(f"INSERT INTO {table} (n) VALUES (2)")
            connection.commit()
        assert rows(sink, f"SELECT n FROM {table}") == [(2,)]

    def test_without_it_the_transaction_can_only_be_rolled_back(
        self, server: SqlServerDouble, sink: Any, table: str
    ) -> None:
        with connect_pymssql(server) as connection:
            cursor = connection.cursor()
            cursor.execute(f"INSERT INTO {table} (n) VALUES (1)")
            error_of(lambda: cursor.execute(f"INSERT INTO {table} (n) VALUES (1)"))
            assert "3930" in error_of(lambda: cursor.execute(f"INSERT INTO {table} (n) VALUES (2)"))
            connection.rollback()
        assert rows(sink, f"SELECT n FROM {table}") == []

    def test_a_write_conflict_has_a_deadlock_victim(self, server: SqlServerDouble, sink: Any) -> None:
        sink.cursor().execute("CREATE TABLE t ([n] int)")
        sink.cursor().execute("INSERT INTO t (n) VALUES (1)")
        with connect(server, autocommit=False) as first, connect(server, autocommit=False) as second:
            first.cursor().execute("UPDATE t SET n = 2")
            assert "deadlock victim" in error_of(lambda: second.cursor().execute("UPDATE t SET n = 3"))
            first.commit()
        assert rows(sink, "SELECT n FROM t") == [(2,)]

    def test_reads_see_what_others_have_committed_since(self, server: SqlServerDouble, sink: Any, table: str) -> None:
        with connect(server, autocommit=False) as connection:
            assert rows(connection, f"SELECT COUNT(*) FROM {table}") == [(0,)]
            sink.cursor().execute(f"INSERT INTO {table} (n) VALUES (1)")
            assert rows(connection, f"SELECT COUNT(*) FROM {table}") == [(1,)]


class TestAppLocks:
    def lock(self, connection: Any, timeout_ms: int, owner: str = "Transaction") -> int:
        ((result,),) = rows(
            connection,
            "SET NOCOUNT ON; DECLARE @rc int; EXEC @rc = sp_getapplock @Resource = N'it''s', @LockMode = N'Exclusive',"
            f" @LockOwner = N'{owner}', @LockTimeout = {timeout_ms}; SELECT @rc",
        )
        return int(result)

    def test_a_lock_keeps_others_out_until_commit(self, server: SqlServerDouble) -> None:
        with connect(server, autocommit=False) as first, connect_pymssql(server) as second:
            assert self.lock(first, 0) == 0
            assert self.lock(first, 0) == 0
            started = clock.monotonic()
            assert self.lock(second, 300) == -1
            assert 0.25 < clock.monotonic() - started < 2
            results: list[int] = []
            waiting = threading.Thread(target=lambda: results.append(self.lock(second, 10_000)))
            waiting.start()
            clock.sleep(0.3)
            assert not results
            first.commit()
            waiting.join(5)
            assert results == [1]

    def test_a_lock_of_a_session_outlives_transactions_and_ends_with_the_connection(
        self, server: SqlServerDouble
    ) -> None:
        first = connect(server, autocommit=False)
        with connect(server, autocommit=False) as second:
            assert self.lock(first, 0, owner="Session") == 0
            first.rollback()
            assert self.lock(first, 0, owner="Session") == 0
            assert self.lock(second, 0) == -1
            first.close()
            assert self.lock(second, 5000) in (0, 1)

    def test_a_lock_ends_with_rollback_and_with_the_connection(self, server: SqlServerDouble) -> None:
        first = connect(server, autocommit=False)
        with connect(server, autocommit=False) as second:
            assert self.lock(first, 0) == 0
            first.rollback()
            assert self.lock(second, 0) == 0
            second.rollback()
            assert self.lock(first, 0) == 0
            first.close()
            assert self.lock(second, 5000) in (0, 1)

    def test_a_lock_needs_a_transaction_or_a_session_to_own_it(self, sink: Any) -> None:
        assert self.lock(sink, 0) == -999
        assert "does not know" in error_of(lambda: self.lock(sink, 0, owner="Anybody"))

    def test_after_waiting_for_a_lock_the_others_rows_are_seen(
        self, server: SqlServerDouble, sink: Any, table: str
    ) -> None:
        with connect(server, autocommit=False) as first, connect(server, autocommit=False) as second:
            self.lock(first, 0)
            assert rows(second, f"SELECT COUNT(*) FROM {table}") == [(0,)]
            first.cursor().execute(f"INSERT INTO {table} (n) VALUES (1)")
            first.commit()
            self.lock(second, 5000)
            insert = f"INSERT INTO {table} (n) SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM {table} AS t WHERE t.n = 1)"
            cursor = second.cursor()
            cursor.execute("SET NOCOUNT OFF")
            cursor.execute(insert)
            assert cursor.rowcount == 0


class TestTriggers:
    @pytest.fixture
    def triggered(self, sink: Any, table: str) -> str:
        sink.cursor().execute("CREATE TABLE [dbo].[log] ([n] int)")
        sink.cursor().execute(
            f"CREATE TRIGGER [dbo].[tr] ON {table} AFTER INSERT, UPDATE AS INSERT INTO [dbo].[log] VALUES (1), (2), (3)"
        )
        return table

    def test_what_a_trigger_counts_comes_before_what_the_statement_counts(self, sink: Any, triggered: str) -> None:
        cursor = sink.cursor()
        cursor.execute(f"INSERT INTO {triggered} (n) VALUES (1)")
        assert cursor.rowcount == 3
        assert [cursor.nextset(), cursor.nextset()] == [True, False]

    def test_nocount_silences_it_and_rowcount_is_the_statements_own(self, sink: Any, triggered: str) -> None:
        cursor = sink.cursor()
        cursor.execute(f"SET NOCOUNT ON; INSERT INTO {triggered} (n) VALUES (1), (2); SELECT @@ROWCOUNT")
        assert [tuple(row) for row in cursor.fetchall()] == [(2,)]
        assert not cursor.nextset()
        assert rows(sink, "SELECT COUNT(*) FROM [dbo].[log]") == [(3,)]

    def test_it_goes_with_its_table_and_runs_for_its_verbs_alone(self, sink: Any, triggered: str) -> None:
        sink.cursor().execute(f"DELETE FROM {triggered}")
        sink.cursor().execute(f"DROP TABLE {triggered}")
        sink.cursor().execute(f"CREATE TABLE {triggered} ([n] int NOT NULL)")
        sink.cursor().execute(f"INSERT INTO {triggered} (n) VALUES (1)")
        assert rows(sink, "SELECT COUNT(*) FROM [dbo].[log]") == [(0,)]

    def test_it_is_created_in_a_batch_of_its_own(self, sink: Any, table: str) -> None:
        with pytest.raises(mssql_python.Error, match="must be the first statement in a query batch"):
            sink.cursor().execute(
                f"SET NOCOUNT ON; CREATE TRIGGER [dbo].[tr] ON {table} AFTER INSERT AS DELETE FROM {table}"
            )


class TestStatements:
    @pytest.fixture
    def orders(self, sink: Any) -> Any:
        for statement in (
            "CREATE TABLE [dbo].[orders] ([k] int NOT NULL, [status] nvarchar(10) NULL, [amount] decimal(12,2),"
            " [v] datetime2(6), [on] bit, CONSTRAINT [pk_orders] PRIMARY KEY CLUSTERED ([k]))",
            "CREATE TABLE [dbo].[staged] ([k] int NOT NULL, [status] nvarchar(10) NULL, [v] datetime2(6))",
            "INSERT INTO [dbo].[orders] ([k], [status], [amount], [v], [on]) VALUES"
            " (1, N'new', 1.10, '2026-01-01', 1), (2, N'NEW', 2.20, '2026-01-02T00:00:00.5', 0),"
            " (3, NULL, NULL, NULL, NULL)",
            "INSERT INTO [dbo].[staged] ([k], [status], [v]) VALUES"
            " (1, N'paid', '2026-01-03'), (2, N'old', '2025-01-01'), (4, N'new', '2026-01-04')",
        ):
            sink.cursor().execute(statement)
        return sink

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ("SELECT [k] FROM [orders] WHERE [status] = N'new' ORDER BY k", [(1,), (2,)]),
            ("SELECT k FROM orders WHERE [on] = 1 OR [on] IS NULL ORDER BY [k] DESC", [(3,), (1,)]),
            ("SELECT TOP (1) o.k AS [key] FROM orders o WITH (NOLOCK) ORDER BY o.v DESC", [(2,)]),
            ("SELECT k FROM orders ORDER BY v", [(3,), (1,), (2,)]),
            ("SELECT status, COUNT(*) FROM orders GROUP BY status HAVING COUNT(*) > 1", [("new", 2)]),
            ("SELECT COUNT(*), COUNT_BIG(amount), SUM(amount), MIN(k), MAX(k), AVG(k) FROM [sink].[dbo].[orders]",
             [(3, 2, Decimal("3.30"), 1, 3, 2)]),
            ("SELECT o.k, s.k FROM orders AS o LEFT JOIN staged AS s ON o.k = s.k AND s.v > o.v ORDER BY o.k",
             [(1, 1), (2, None), (3, None)]),
            ("SELECT k FROM staged AS s WHERE NOT EXISTS (SELECT 1 FROM orders AS o WHERE o.k = s.k)", [(4,)]),
            ("SELECT n FROM (SELECT COUNT(*) AS n FROM orders) AS c", [(3,)]),
            ("SELECT CASE WHEN k = 1 THEN N'one' ELSE N'more' END FROM orders WHERE k IN (1, 2) ORDER BY k",
             [("one",), ("more",)]),
            ("SELECT COALESCE(status, N'none'), ISNULL(amount, 0), LEN(N'a😀 ') FROM orders WHERE k = 3",
             [("none", Decimal("0.00"), 3)]),
            ("SELECT ABS(-5), LOWER(N'Ä'), UPPER(N'ä'), 7 / 2, -7 / 2, 7 % 4, 1.50 + 1, 2 * 1.5, N'a' + N'b'",
             [(5, "ä", "Ä", 3, -3, 3, Decimal("2.50"), Decimal("3.0"), "ab")]),
            ("SELECT CAST(1.99 AS int), CAST(N'1.239' AS decimal(9,2)), CONVERT(bigint, N'5'), CAST(k AS nvarchar(5))"
             " FROM orders WHERE k BETWEEN 1 AND 1", [(1, Decimal("1.24"), 5, "1")]),
            ("SELECT CONVERT(nvarchar(33), v, 126) FROM orders ORDER BY k",
             [("2026-01-01T00:00:00",), ("2026-01-02T00:00:00.500000",), (None,)]),
            ("SELECT k FROM orders WHERE status LIKE N'n_w' AND NOT (k = 1)", [(2,)]),
            ("SELECT k FROM orders WHERE status LIKE N'[a-c]%' UNION ALL SELECT k FROM staged WHERE k > 3", [(4,)]),
            ("SELECT DISTINCT [on] FROM orders WHERE k <> 3 AND v < SYSUTCDATETIME() ORDER BY [on]",
             [(False,), (True,)]),
            ("SELECT DATALENGTH(CONVERT(varbinary(max), status)) FROM orders WHERE k <> 2 ORDER BY k", [(3,), (None,)]),
            ("SELECT o.k FROM orders AS o JOIN staged AS s ON s.k = 4 WHERE EXISTS (SELECT"
             " CONVERT(varbinary(max), s.status), 1 EXCEPT SELECT CONVERT(varbinary(max), o.status), 1) ORDER BY 1",
             [(2,), (3,)]),
            ("SELECT 1 WHERE EXISTS (SELECT NULL EXCEPT SELECT NULL)", []),
        ],
    )  # fmt: skip
    def test_queries(self, orders: Any, query: str, expected: list[tuple[Any, ...]]) -> None:
        assert rows(orders, query) == expected

    def test_update_join_and_insert_not_exists_count_their_rows(self, server: SqlServerDouble, orders: Any) -> None:
        update = (
            "UPDATE t SET t.[status] = s.[status], t.[v] = s.[v] FROM [dbo].[orders] AS t"
            " JOIN [dbo].[staged] AS s ON t.[k] = s.[k] WHERE t.[v] < s.[v]"
        )
        insert = (
            "INSERT INTO [dbo].[orders] ([k], [status], [v]) SELECT s.[k], s.[status], s.[v] FROM [dbo].[staged] AS s"
            " WHERE NOT EXISTS (SELECT 1 FROM [dbo].[orders] AS t WHERE t.[k] = s.[k])"
        )
        with connect(server, autocommit=False) as connection:
            cursor = connection.cursor()
            assert [cursor.execute(statement).rowcount for statement in (update, insert)] == [1, 1]
            connection.rollback()
        with connect_pymssql(server) as connection:
            cursor = connection.cursor()
            for statement in (update, insert):
                cursor.execute(statement)
                assert cursor.rowcount == 1
            cursor.execute(update)
            assert cursor.rowcount == 0
            connection.commit()
        assert rows(orders, "SELECT [k], [status] FROM [dbo].[orders] ORDER BY [k]") == [
            (1, "paid"), (2, "NEW"), (3, None), (4, "new"),
        ]  # fmt: skip

    def test_update_delete_and_truncate_count_their_rows(self, orders: Any) -> None:
        cursor = orders.cursor()
        assert cursor.execute("UPDATE [orders] SET [amount] = [amount] * 2, [on] = 0 WHERE [k] < ?", 3).rowcount == 2
        assert rows(orders, "SELECT SUM([amount]) FROM orders WHERE [on] = 0") == [(Decimal("6.60"),)]
        assert cursor.execute("DELETE FROM [orders] WHERE [k] = 1").rowcount == 1
        assert cursor.execute("DELETE TOP (1) FROM [orders] WHERE [orders].[k] > 1").rowcount == 1
        assert cursor.execute("DELETE FROM [orders]").rowcount == 1
        cursor.execute("TRUNCATE TABLE [staged]")
        assert rows(orders, "SELECT COUNT(*) FROM [staged]") == [(0,)]

    def test_a_default_is_the_time_of_the_insert(self, sink: Any) -> None:
        sink.cursor().execute("CREATE TABLE a ([n] int, [at] datetime2(6) NOT NULL DEFAULT SYSUTCDATETIME())")
        sink.cursor().execute("INSERT INTO a (n) VALUES (1)")
        ((at,),) = rows(sink, "SELECT [at] FROM a")
        assert abs(datetime.now(UTC).replace(tzinfo=None) - at) < timedelta(seconds=30)

    def test_case_counts_only_where_the_collation_says_so(self, sink: Any) -> None:
        sink.cursor().execute(
            "CREATE TABLE c ([a] nvarchar(9), [b] nvarchar(9) COLLATE Latin1_General_BIN2, [c] nchar(9))"
        )
        sink.cursor().execute("INSERT INTO c (a, b, c) VALUES (N'x', N'x', N'x')")
        query = "SELECT COUNT(*) FROM c WHERE "
        assert rows(sink, query + "a = N'X'") == [(1,)]
        assert rows(sink, query + "b = N'X'") == [(0,)]
        assert rows(sink, query + "c = N'x'") == [(1,)]
        assert rows(sink, query + "a COLLATE Latin1_General_BIN2 = N'X'") == [(0,)]
        assert rows(sink, query + "b COLLATE SQL_Latin1_General_CP1_CI_AS = N'X'") == [(1,)]

    def test_a_long_statement_can_be_interrupted_and_blocks_no_one(self, server: SqlServerDouble, sink: Any) -> None:
        sink.cursor().execute("CREATE TABLE big ([n] int)")
        bulk_copy(sink, "[dbo].[big]", numbers(100_000), batch_size=0)
        connection = connect(server)
        connection.timeout = 1
        cursor = connection.cursor()
        endless = "SELECT COUNT_BIG(*) FROM big AS a JOIN big AS b ON a.n <> b.n JOIN big AS c ON c.n <> b.n"
        failed: list[str] = []
        running = threading.Thread(target=lambda: failed.append(error_of(lambda: cursor.execute(endless))))
        started = clock.monotonic()
        running.start()
        assert rows(sink, "SELECT COUNT(*) FROM big") == [(100_000,)]
        running.join(20)
        assert failed
        assert clock.monotonic() - started < 10
        assert rows(connection, "SELECT 1") == [(1,)]


class TestCatalogue:
    def test_columns_are_described_as_they_were_declared(self, sink: Any, everything: str) -> None:
        found = rows(
            sink,
            "SELECT COLUMN_NAME, DATA_TYPE, CHARACTER_MAXIMUM_LENGTH, NUMERIC_PRECISION, NUMERIC_SCALE,"
            " DATETIME_PRECISION, IS_NULLABLE FROM INFORMATION_SCHEMA.COLUMNS"
            " WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? ORDER BY ORDINAL_POSITION",
            "dbo",
            "every thing",
        )
        assert [row[0] for row in found] == list(TYPES)
        described = {row[0]: row[1:] for row in found}
        assert described["id"] == ("int", None, 10, 0, None, "NO")
        assert described["flag"] == ("bit", None, None, None, None, "YES")
        assert described["money"] == ("decimal", None, 38, 10, None, "YES")
        assert described["ratio"] == ("real", None, 24, None, None, "YES")
        assert described["precise"] == ("float", None, 53, None, None, "YES")
        assert described["name"] == ("nvarchar", 10, None, None, None, "YES")
        assert described["code"] == ("nchar", 4, None, None, None, "YES")
        assert described["text"] == ("nvarchar", -1, None, None, None, "YES")
        assert described["blob"] == ("varbinary", -1, None, None, None, "YES")
        assert described["moment"] == ("datetime2", None, None, None, 6, "YES")
        assert described["guid"] == ("uniqueidentifier", None, None, None, None, "YES")

    def test_schemas_and_tables_come_and_go(self, sink: Any) -> None:
        cursor = sink.cursor()
        assert rows(sink, "SELECT SCHEMA_ID(N'été [x]')") == [(None,)]
        cursor.execute("CREATE SCHEMA [été [x]]]")
        assert rows(sink, "SELECT OBJECT_ID(N'[été [x]]].[tä''b]', N'U')") == [(None,)]
        cursor.execute("CREATE TABLE [été [x]]].[tä'b] ([ö] int)")
        assert rows(sink, "SELECT SCHEMA_ID(N'été [x]'), OBJECT_ID(N'[été [x]]].[tä''b]', N'U')")[0] != (None, None)
        like = "SELECT TABLE_NAME FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_NAME LIKE ?"
        assert rows(sink, like, "été [x]", "t%") == [("tä'b",)]
        assert rows(sink, like, "été [x]", "t[_]%") == []
        cursor.execute("DROP TABLE [été [x]]].[tä'b]")
        cursor.execute("DROP TABLE IF EXISTS [été [x]]].[tä'b]")
        cursor.execute("DROP SCHEMA [été [x]]]")
        assert rows(sink, "SELECT SCHEMA_ID(N'été [x]')") == [(None,)]

    def test_indexes_are_listed(self, sink: Any) -> None:
        """As sys.indexes has them: number 0 is a heap, 1 the clustered key."""
        cursor = sink.cursor()
        cursor.execute(
            "CREATE TABLE [dbo].[i] ([b] int, [a] int, [c] int NULL, CONSTRAINT [pk] PRIMARY KEY ([a], [b]),"
            " INDEX [first] ([c]))"
        )
        cursor.execute("CREATE INDEX [second] ON [dbo].[i] ([c], [a])")
        cursor.execute("CREATE TABLE [dbo].[heap] ([c] int)")
        query = (
            "SELECT i.name, i.index_id, i.type, i.is_unique, c.name, c.is_nullable FROM sys.indexes AS i"
            " LEFT JOIN sys.index_columns AS ic ON ic.object_id = i.object_id AND ic.index_id = i.index_id"
            " LEFT JOIN sys.columns AS c ON c.object_id = ic.object_id AND c.column_id = ic.column_id"
            " WHERE i.object_id = OBJECT_ID(N'[dbo].[{}]') ORDER BY i.index_id, ic.key_ordinal"
        )
        assert rows(sink, query.format("i")) == [
            ("pk", 1, 1, True, "a", False), ("pk", 1, 1, True, "b", False), ("first", 2, 2, False, "c", True),
            ("second", 3, 2, False, "c", True), ("second", 3, 2, False, "a", False),
        ]  # fmt: skip
        assert rows(sink, query.format("heap")) == [(None, 0, 0, False, None, None)]
        told = error_of(lambda: cursor.execute("CREATE INDEX [SECOND] ON [dbo].[i] ([a])"))
        assert "with name 'SECOND' already exists on table 'dbo.i'" in told
        cursor.execute("DROP TABLE [dbo].[i]")
        cursor.execute("CREATE TABLE [dbo].[i] ([b] int)")
        assert rows(sink, query.format("i")) == [(None, 0, 0, False, None, None)]

    def test_a_table_of_a_rolled_back_transaction_is_gone(self, server: SqlServerDouble, sink: Any) -> None:
        with connect(server, autocommit=False) as connection:
            connection.cursor().execute("CREATE TABLE [dbo].[gone] ([n] int)")
            connection.rollback()
        assert rows(sink, "SELECT OBJECT_ID(N'[dbo].[gone]', N'U')") == [(None,)]


class TestFaults:
    def inject(self, connection: Any, fault: str, value: int = 0, times: int = 1) -> None:
        connection.cursor().execute(f"EXEC standin_inject @fault = N'{fault}', @value = {value}, @times = {times}")

    def test_a_bulk_load_is_cut_after_so_many_rows(self, sink: Any, table: str) -> None:
        self.inject(sink, "drop_connection_after_bulk_rows", 500)
        error_of(lambda: bulk_copy(sink, table, numbers(1000), batch_size=200))
        assert rows(sink, f"SELECT COUNT(*) FROM {table}") == [(400,)]
        bulk_copy(sink, "[dbo].[t]", numbers(1000).slice(400))
        assert rows(sink, f"SELECT COUNT(*) FROM {table}") == [(1000,)]

    @pytest.mark.parametrize(("fault", "left"), [("before", 0), ("after", 1)])
    def test_a_connection_is_cut_at_commit(
        self, server: SqlServerDouble, sink: Any, table: str, fault: str, left: int
    ) -> None:
        self.inject(sink, f"drop_connection_{fault}_commit")
        connection = connect(server, autocommit=False)
        connection.cursor().execute(f"INSERT INTO {table} (n) VALUES (1)")
        error_of(connection.commit)
        assert rows(sink, f"SELECT COUNT(*) FROM {table}") == [(left,)]

    def test_a_deadlock_victim_is_rolled_back(self, server: SqlServerDouble, sink: Any, table: str) -> None:
        with connect(server, autocommit=False) as connection:
            connection.cursor().execute(f"INSERT INTO {table} (n) VALUES (1)")
            self.inject(sink, "deadlock_victim")
            insert = f"INSERT INTO {table} (n) VALUES (2)"
            assert "deadlock victim" in error_of(lambda: connection.cursor().execute(insert))
            connection.cursor().execute(insert)
            connection.commit()
        assert rows(sink, f"SELECT n FROM {table}") == [(2,)]

    def test_a_lock_times_out(self, server: SqlServerDouble, sink: Any) -> None:
        self.inject(sink, "lock_timeout")
        locks = TestAppLocks()
        with connect(server, autocommit=False) as connection:
            # The fault is for a lock that may be waited for; a lock without a wait is an ordinary answer.
            assert [locks.lock(connection, timeout) for timeout in (0, 1000, 1000)] == [0, -1, 0]

    def test_logins_fail(self, server: SqlServerDouble, sink: Any) -> None:
        self.inject(sink, "login_failure", times=2)
        for _ in range(2):
            assert "Login failed" in error_of(lambda: connect(server))
        connect(server).close()

    @pytest.mark.parametrize("fault", ["slow_network", "statement_delay"])
    def test_answers_are_late(self, sink: Any, fault: str) -> None:
        self.inject(sink, fault, 300)
        started = clock.monotonic()
        rows(sink, "SELECT 1")
        assert clock.monotonic() - started > 0.25

    def test_the_disk_is_full(self, sink: Any, table: str) -> None:
        self.inject(sink, "disk_full")
        assert "Could not allocate space" in error_of(lambda: bulk_copy(sink, table, numbers(10)))
        assert rows(sink, f"SELECT COUNT(*) FROM {table}") == [(0,)]

    def test_bulk_rows_are_lost_without_a_word(self, sink: Any, table: str) -> None:
        self.inject(sink, "lose_bulk_rows", 3)
        bulk_copy(sink, table, numbers(10))
        assert rows(sink, f"SELECT COUNT(*) FROM {table}") == [(7,)]

    def test_faults_can_be_cleared_and_unknown_ones_are_refused(self, sink: Any, table: str) -> None:
        self.inject(sink, "disk_full", times=5)
        sink.cursor().execute("EXEC standin_clear_faults")
        bulk_copy(sink, table, numbers(10))
        assert "knows no fault" in error_of(lambda: self.inject(sink, "earthquake"))


def test_airflows_hook_works(
    server: SqlServerDouble, sink: Any, table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    connection = {
        "conn_type": "mssql", "host": server.host, "port": server.port, "login": "sa",
        "password": server.password, "schema": server.database,
    }  # fmt: skip
    monkeypatch.setenv("AIRFLOW_CONN_SINK", json.dumps(connection))
    from airflow.providers.microsoft.mssql.hooks.mssql import MsSqlHook

    hook = MsSqlHook("sink")
    hook.run(f"INSERT INTO {table} (n) VALUES (%s)", parameters=(1,))
    hook.run([f"INSERT INTO {table} (n) VALUES (2)", f"INSERT INTO {table} (n) VALUES (3)"], autocommit=True)
    hook.insert_rows(table, [(4,), (5,)], ["n"])
    assert hook.get_first(f"SELECT COUNT_BIG(*) FROM {table}") == (5,)
    assert hook.get_records(f"SELECT n FROM {table} WHERE n > %s ORDER BY n", parameters=(3,)) == [(4,), (5,)]
    with pytest.raises(pymssql.Error, match="2627"):
        hook.run(f"INSERT INTO {table} (n) VALUES (1)")
    assert hook.test_connection()[0]  # type: ignore[func-returns-value, index]  # its stub says None


def test_a_database_file_survives_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "sink.duckdb"
    with SqlServerDouble(database_file=file) as server, connect(server) as connection:
        connection.cursor().execute("CREATE SCHEMA [s]")
        connection.cursor().execute(
            "CREATE TABLE [s].[t] ([n] int NOT NULL, [x] nchar(3), CONSTRAINT [p] PRIMARY KEY ([n]))"
        )
        connection.cursor().execute("INSERT INTO [s].[t] ([n], [x]) VALUES (1, N'a')")
        connection.cursor().execute("CREATE LOGIN [loader] WITH PASSWORD = N'Loader-1'")
        connection.cursor().execute("CREATE USER [loader] FOR LOGIN [loader]")
        connection.cursor().execute("GRANT SELECT ON SCHEMA::[s] TO [loader]")
    with (
        SqlServerDouble(database_file=file) as server,
        connect(server) as connection,
        connect(server, user="loader", password="Loader-1") as loader,
    ):
        assert rows(loader, "SELECT [n], [x] FROM [s].[t]") == [(1, "a  ")]
        assert "Cannot insert duplicate key" in error_of(
            lambda: connection.cursor().execute("INSERT INTO [s].[t] ([n]) VALUES (1)")
        )


def test_a_database_file_of_another_name_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "sink.duckdb"
    with SqlServerDouble(database_file=file):
        pass
    with pytest.raises(RuntimeError, match="did not start"), SqlServerDouble(database_file=file, database="other"):
        pass


def test_the_package_runs_alone_with_what_the_etl_image_has(tmp_path: Path) -> None:
    package = Path(sqlserver.__file__).parent
    alone = tmp_path / "dev" / "sandbox" / "sqlserver"
    shutil.copytree(package, alone, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "dev.sandbox.sqlserver", "--help"]
    completed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, env={})
    assert "a test double, not SQL Server" in completed.stdout
    imported = set()
    for file in package.rglob("*.py"):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.Import):
                imported |= {name.name.partition(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom) and not str(node.module).startswith(sqlserver.__name__):
                imported.add(str(node.module).partition(".")[0])
    assert imported - sys.stdlib_module_names == {"duckdb", "pyarrow"}
