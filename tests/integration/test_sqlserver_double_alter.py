"""ALTER TABLE on the SQL Server double: columns are added and changed as the documentation of SQL Server says.

https://learn.microsoft.com/sql/t-sql/statements/alter-table-transact-sql
"""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from dev.sandbox.sqlserver import SqlServerDouble
from tests.harness.sqlserver_clients import bulk_copy, connect, error_of, rows


@pytest.fixture(scope="module")
def server() -> Iterator[SqlServerDouble]:
    with SqlServerDouble() as running:
        yield running


@pytest.fixture
def table(server: SqlServerDouble) -> Iterator[Any]:
    """A connection, and a table `t` with the row (1, 'x')."""
    with connect(server) as connection:
        cursor = connection.cursor()
        cursor.execute("DROP TABLE IF EXISTS [dbo].[t]")
        cursor.execute(
            "CREATE TABLE [dbo].[t] ([n] int NOT NULL, [a] nvarchar(9) NULL, CONSTRAINT [pk_t] PRIMARY KEY ([n]))"
        )
        cursor.execute("INSERT INTO [dbo].[t] ([n], [a]) VALUES (1, N'x')")
        yield connection


def test_rows_that_are_there_get_null_or_the_default_of_a_not_null_column(server: SqlServerDouble, table: Any) -> None:
    with connect(server) as other:
        assert rows(other, "SELECT * FROM [dbo].[t]") == [(1, "x")]
        table.cursor().execute(
            "ALTER TABLE [dbo].[t] ADD [b] bigint NULL, [c] bigint NOT NULL DEFAULT 0, [d] int NULL DEFAULT (7),"
            " [e] nvarchar(4) COLLATE Latin1_General_BIN2 NOT NULL DEFAULT N'it''s', [f] varchar(9) NULL"
        )
        assert rows(other, "SELECT * FROM [dbo].[t]") == [(1, "x", None, 0, None, "it's", None)]
        other.cursor().execute("INSERT INTO [dbo].[t] ([n], [c]) VALUES (2, 5)")
        bulk_copy(other, "[dbo].[t]", pa.record_batch({"n": pa.array([3], pa.int32())}))
    assert rows(table, "SELECT [n], [b], [c], [d], [e] FROM [dbo].[t] WHERE [n] > 1 ORDER BY [n]") == [
        (2, None, 5, 7, "it's"), (3, None, 0, 7, "it's"),
    ]  # fmt: skip
    assert "NULL into column 'c'" in error_of(lambda: table.cursor().execute("UPDATE [dbo].[t] SET [c] = NULL"))
    described = "SELECT COLUMN_NAME, IS_NULLABLE FROM INFORMATION_SCHEMA.COLUMNS WHERE TABLE_NAME = N't'"
    assert rows(table, described + " ORDER BY ORDINAL_POSITION")[1:4] == [("a", "YES"), ("b", "YES"), ("c", "NO")]


def test_a_column_is_there_after_the_commit_and_not_after_a_rollback(server: SqlServerDouble, table: Any) -> None:
    with connect(server, autocommit=False) as connection:
        connection.cursor().execute("ALTER TABLE t ADD [b] int NOT NULL DEFAULT -1")
        connection.cursor().execute("UPDATE t SET [b] = [b] - 1")
        assert rows(connection, "SELECT [b] FROM t") == [(-2,)]
        connection.rollback()
        assert rows(table, "SELECT * FROM t") == [(1, "x")]
        connection.cursor().execute("ALTER TABLE t ADD [b] int NULL")
        connection.commit()
    assert rows(table, "SELECT * FROM t") == [(1, "x", None)]


def test_a_column_gets_another_type_and_its_values_are_converted(table: Any) -> None:
    cursor = table.cursor()
    cursor.execute("ALTER TABLE t ADD [b] int NULL")
    cursor.execute("UPDATE t SET [b] = 5")
    cursor.execute("ALTER TABLE t ALTER COLUMN [b] bigint NOT NULL")
    cursor.execute("ALTER TABLE t ALTER COLUMN [a] nvarchar(1) NULL")
    cursor.execute("UPDATE t SET [b] = 5000000000")
    assert rows(table, "SELECT [a], [b] FROM t") == [("x", 5_000_000_000)]
    assert "NULL into column 'b'" in error_of(lambda: cursor.execute("UPDATE t SET [b] = NULL"))
    assert "would be truncated" in error_of(lambda: cursor.execute("UPDATE t SET [a] = N'xy'"))


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("ALTER TABLE [dbo].[nope] ADD [b] int", 'Cannot find the object "dbo.nope"'),
        ("ALTER TABLE t ADD [A] int", "Column name 'A' in table 'dbo.t' is specified more than once"),
        ("ALTER TABLE t ADD [b] int NOT NULL", "Column 'b' cannot be added to non-empty table 't'"),
        ("ALTER TABLE t ALTER COLUMN [z] int", "column 'z' does not exist in table 't'"),
        ("ALTER TABLE t ALTER COLUMN [n] bigint NOT NULL", "The object 'pk_t' is dependent on column 'n'"),
        ("ALTER TABLE t ALTER COLUMN [x] int", "The object 'DF__t__x' is dependent on column 'x'"),
        ("ALTER TABLE t ALTER COLUMN [a] int", "Conversion failed when converting the nvarchar value 'x'"),
        ("ALTER TABLE t DROP COLUMN [a]", "does not know"),
    ],
)
def test_an_alteration_that_sql_server_refuses_is_refused(table: Any, statement: str, said: str) -> None:
    table.cursor().execute("ALTER TABLE t ADD [x] bigint NOT NULL DEFAULT 4")
    assert said in error_of(lambda: table.cursor().execute(statement))
    assert rows(table, "SELECT * FROM t") == [(1, "x", 4)]
