"""Foreign keys and locks of tables on the SQL Server double, as the documentation of SQL Server says.

https://learn.microsoft.com/sql/relational-databases/sql-server-transaction-locking-and-row-versioning-guide
"""

import threading
import time as clock
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest

from dev.sandbox.sqlserver import SqlServerDouble
from tests.harness.sqlserver_clients import bulk_copy, connect, error_of, numbers, rows

COUNT = "SELECT COUNT(*) FROM [dbo].[orders]"
TABLES = (
    "CREATE TABLE [dbo].[orders] ([id] int NOT NULL, [note] nvarchar(9), CONSTRAINT [pk] PRIMARY KEY ([id]))",
    "CREATE TABLE [dbo].[lines] ([n] int NOT NULL, [order] int NULL, PRIMARY KEY ([n]),"
    " CONSTRAINT [fk_lines] FOREIGN KEY ([order]) REFERENCES [dbo].[orders] ([id]))",
    "INSERT INTO [dbo].[orders] ([id]) VALUES (1), (2), (3)",
    "INSERT INTO [dbo].[lines] ([n], [order]) VALUES (1, 1), (2, NULL)",
)


@pytest.fixture
def server() -> Iterator[SqlServerDouble]:
    with SqlServerDouble() as running, connect(running) as connection:
        for statement in TABLES:
            connection.cursor().execute(statement)
        yield running


@pytest.fixture
def sink(server: SqlServerDouble) -> Iterator[Any]:
    with connect(server) as connection:
        yield connection


def finished_after(work: Callable[[], object], release: Callable[[], object], seconds: float = 0.3) -> float:
    """Seconds that `work` took beside a session that releases its locks after the given time."""
    started, took = clock.monotonic(), [0.0]

    def run() -> None:
        work()
        took[0] = clock.monotonic() - started

    thread = threading.Thread(target=run)
    thread.start()
    clock.sleep(seconds)
    release()
    thread.join(20)
    assert took[0], "it never ended"
    return took[0]


@pytest.mark.parametrize(
    "statement",
    [
        COUNT,
        "SELECT [n] FROM [dbo].[lines] WHERE EXISTS (SELECT 1 FROM [dbo].[orders])",
        "INSERT INTO [dbo].[orders] ([id]) VALUES (9)",
        "UPDATE [dbo].[orders] SET [note] = N'x' WHERE [id] = 3",
        "DELETE FROM [dbo].[orders] WHERE [id] = 3",
        "ALTER TABLE [dbo].[orders] ADD [c] int NULL",
    ],
)
def test_a_table_lock_keeps_every_other_sessions_statement_out_until_the_commit(
    server: SqlServerDouble, sink: Any, statement: str
) -> None:
    with connect(server, autocommit=False) as holder:
        assert rows(holder, "SELECT TOP (1) 1 FROM [dbo].[orders] WITH (TABLOCKX, HOLDLOCK)") == [(1,)]
        assert rows(holder, COUNT) == [(3,)]
        rows(sink, "SELECT COUNT(*) FROM [dbo].[lines]")
        assert finished_after(lambda: sink.cursor().execute(statement), holder.commit) > 0.25


def test_a_wait_is_as_long_as_lock_timeout_says(server: SqlServerDouble, sink: Any) -> None:
    with connect(server, autocommit=False) as holder:
        rows(holder, "SELECT TOP (1) 1 FROM [dbo].[orders] WITH (TABLOCKX, HOLDLOCK)")
        for timeout in (0, 200):
            sink.cursor().execute(f"SET LOCK_TIMEOUT {timeout}")
            began = clock.monotonic()
            assert "Lock request time out period exceeded." in error_of(lambda: rows(sink, COUNT))
            assert timeout / 1000 <= clock.monotonic() - began < 5
        sink.cursor().execute("SET LOCK_TIMEOUT -1")
        assert finished_after(lambda: rows(sink, COUNT), holder.commit) > 0.25


def test_who_waited_sees_what_was_committed_meanwhile(server: SqlServerDouble, sink: Any) -> None:
    found: list[Any] = []
    with connect(server, autocommit=False) as holder:
        holder.cursor().execute("SELECT TOP (1) 1 FROM [dbo].[orders] WITH (TABLOCKX)").fetchall()
        holder.cursor().execute("DELETE FROM [dbo].[orders] WHERE [id] > 1")
        holder.cursor().execute("INSERT INTO [dbo].[orders] ([id]) VALUES (7)")
        finished_after(lambda: found.extend(rows(sink, "SELECT [id] FROM [dbo].[orders] ORDER BY 1")), holder.commit)
    assert found == [(1,), (7,)]


def test_the_lock_waits_for_writers_that_have_not_committed(server: SqlServerDouble) -> None:
    with connect(server, autocommit=False) as writer, connect(server, autocommit=False) as holder:
        writer.cursor().execute("UPDATE [dbo].[orders] SET [note] = N'x'")
        lock = "SELECT TOP (1) 1 FROM [dbo].[orders] WITH (TABLOCKX)"
        assert finished_after(lambda: rows(holder, lock), writer.rollback) > 0.25


def test_a_bulk_copy_waits_too_and_a_cancelled_statement_waits_no_longer(server: SqlServerDouble, sink: Any) -> None:
    sink.cursor().execute("CREATE TABLE [dbo].[t] ([n] int NOT NULL)")
    with connect(server, autocommit=False) as holder:
        rows(holder, "SELECT COUNT(*) FROM [dbo].[t] WITH (TABLOCKX)")
        waiting = connect(server)
        waiting.timeout = 1
        error_of(lambda: rows(waiting, "SELECT COUNT(*) FROM [dbo].[t]"))
        waiting.close()
        assert finished_after(lambda: bulk_copy(sink, "[dbo].[t]", numbers(10)), holder.rollback) > 0.25


@pytest.mark.parametrize("how", ["the hint NOLOCK", "READ_COMMITTED_SNAPSHOT"])
def test_a_read_that_takes_no_lock_does_not_wait(server: SqlServerDouble, sink: Any, how: str) -> None:
    if how == "READ_COMMITTED_SNAPSHOT":
        sink.cursor().execute("ALTER DATABASE [sink] SET READ_COMMITTED_SNAPSHOT ON WITH ROLLBACK IMMEDIATE")
    with connect(server, autocommit=False) as holder:
        rows(holder, "SELECT COUNT(*) FROM [dbo].[orders] WITH (TABLOCKX)")
        holder.cursor().execute("DELETE FROM [dbo].[orders] WHERE [id] > 1")
        hint = " WITH (NOLOCK)" if how == "the hint NOLOCK" else ""
        assert finished_after(lambda: rows(sink, COUNT + hint), lambda: clock.sleep(0.7)) < 0.5


def test_rows_that_others_refer_to_stay(server: SqlServerDouble, sink: Any) -> None:
    cursor = sink.cursor()
    said = error_of(lambda: cursor.execute("DELETE FROM [dbo].[orders] WHERE [id] < 3"))
    assert 'The DELETE statement conflicted with the REFERENCE constraint "fk_lines"' in said
    assert 'database "sink", table "dbo.lines", column \'order\'' in said
    assert rows(sink, COUNT) == [(3,)]
    cursor.execute("DELETE FROM [dbo].[orders] WHERE [id] = 3")
    said = error_of(lambda: cursor.execute("INSERT INTO [dbo].[lines] ([n], [order]) VALUES (3, 3)"))
    assert 'The INSERT statement conflicted with the FOREIGN KEY constraint "fk_lines"' in said
    assert "conflicted" in error_of(lambda: cursor.execute("UPDATE [dbo].[lines] SET [order] = 5 WHERE [n] = 1"))
    assert "referenced by a FOREIGN KEY" in error_of(lambda: cursor.execute("TRUNCATE TABLE [dbo].[orders]"))
    assert "referenced by a FOREIGN KEY" in error_of(lambda: cursor.execute("DROP TABLE [dbo].[orders]"))
    # A bulk copy does not check constraints, unless it asks for that.
    bulk_copy(
        sink, "[dbo].[lines]", pa.record_batch({"n": pa.array([4], pa.int32()), "order": pa.array([9], pa.int32())})
    )
    assert rows(sink, "SELECT [order] FROM [dbo].[lines] ORDER BY [n]") == [(1,), (None,), (9,)]


def test_a_foreign_key_is_listed_added_and_dropped(sink: Any) -> None:
    cursor = sink.cursor()
    listed = (
        "SELECT [name] FROM sys.foreign_keys WHERE [referenced_object_id] = OBJECT_ID(N'[dbo].[orders]')"
        " AND [parent_object_id] = OBJECT_ID(N'[dbo].[lines]') AND [is_disabled] = 0"
    )
    assert rows(sink, listed) == [("fk_lines",)]
    cursor.execute("ALTER TABLE [dbo].[lines] DROP CONSTRAINT [fk_lines]")
    assert rows(sink, listed) == []
    cursor.execute("INSERT INTO [dbo].[lines] ([n], [order]) VALUES (3, 8)")
    add = "ALTER TABLE [dbo].[lines] ADD CONSTRAINT [again] FOREIGN KEY ([order]) REFERENCES [dbo].[orders] ([id])"
    assert 'The ALTER TABLE statement conflicted with the FOREIGN KEY constraint "again"' in error_of(
        lambda: cursor.execute(add)
    )
    assert rows(sink, listed) == []
    cursor.execute("DELETE FROM [dbo].[lines] WHERE [n] = 3")
    cursor.execute(add)
    assert rows(sink, listed) == [("again",)]
    no_key = "ALTER TABLE [dbo].[orders] ADD CONSTRAINT [x] FOREIGN KEY ([id]) REFERENCES [dbo].[lines] ([order])"
    assert "no primary or candidate keys in the referenced table" in error_of(lambda: cursor.execute(no_key))
    cursor.execute("DROP TABLE [dbo].[lines]")
    cursor.execute("DROP TABLE [dbo].[orders]")


def test_rows_are_deleted_from_a_table_by_its_alias(sink: Any) -> None:
    sink.cursor().execute("CREATE TABLE [dbo].[s] ([id] int NOT NULL)")
    sink.cursor().execute("INSERT INTO [dbo].[s] ([id]) VALUES (1), (2)")
    deleted = sink.cursor().execute(
        "DELETE t FROM [dbo].[orders] AS t WHERE NOT EXISTS (SELECT 1 FROM [dbo].[s] AS s WHERE s.[id] = t.[id])"
    )
    assert deleted.rowcount == 1
    assert rows(sink, "SELECT [id] FROM [dbo].[orders] ORDER BY 1") == [(1,), (2,)]
