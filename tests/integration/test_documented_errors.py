"""Errors as Microsoft documents them (sys.messages), and what `etl` makes of each.

On the SQL Server double, or on the server that SINK_URL names: https://learn.microsoft.com/sql/relational-databases/errors-events/
"""

import os
import re
from collections.abc import Iterator
from contextlib import closing
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import mssql_python
import pytest
from etl.config.settings import Settings
from etl.errors import ConfigurationError, DataError, EtlError, TryAgainError
from etl.sqlserver.connection import connect
from etl.sqlserver.errors import explain, numbers
from etl.sqlserver.sink import Sink
from pydantic import SecretStr
from pymssql import _mssql

NAMES = ("doc_line", "doc", "doc_key", "doc_other", "doc_wide", "doc_log")
SETUP = (
    "CREATE TABLE [dbo].[doc] ([n] int NOT NULL, [day] date, [short] nvarchar(3),"
    " [text] nvarchar(9) COLLATE Latin1_General_BIN2, [twice] AS ([n] * 2), CONSTRAINT [pk_doc] PRIMARY KEY ([n]))",
    "CREATE TABLE [dbo].[doc_key] ([id] int IDENTITY NOT NULL, [a] nvarchar(300) NOT NULL, [b] nvarchar(300) NOT NULL,"
    " CONSTRAINT [pk_doc_key] PRIMARY KEY ([a], [b]))",
    "CREATE TABLE [dbo].[doc_other] ([n] int, [text] nvarchar(9) COLLATE Latin1_General_100_BIN2)",
    # Of a value that is kept outside of its row, 24 bytes stay in it.
    f"CREATE TABLE [dbo].[doc_wide] ([fixed] char(7900), {', '.join(f'[c{at}] nvarchar(40)' for at in range(10))})",
    "CREATE TABLE [dbo].[doc_log] ([n] int NOT NULL)",
    "CREATE TRIGGER [dbo].[doc_ends] ON [dbo].[doc_log] AFTER INSERT AS ROLLBACK TRANSACTION",
    "CREATE TRIGGER [dbo].[doc_refuses] ON [dbo].[doc_log] AFTER DELETE AS THROW 50123, 'Not on a Sunday.', 1",
    "INSERT INTO [dbo].[doc] ([n]) VALUES (1)",
    "CREATE TABLE [dbo].[doc_line] ([n] int, CONSTRAINT [fk_doc] FOREIGN KEY ([n]) REFERENCES [dbo].[doc] ([n]))",
    "INSERT INTO [dbo].[doc_line] ([n]) VALUES (1)",
)


class Documented(NamedTuple):
    """A provoked error: statement, number, severity, a pattern of the message, and the kind of error for `etl`."""

    statement: str
    number: int
    severity: int
    message: str
    kind: type[EtlError]


def key_of(columns: int) -> str:
    names = [f"[k{at}]" for at in range(columns)]
    types = ", ".join(f"{name} int NOT NULL" for name in names)
    return f"CREATE TABLE [dbo].[doc_new] ({types}, CONSTRAINT [pk_new] PRIMARY KEY ({', '.join(names)}))"


DOCUMENTED = (
    Documented(
        *("ALTER TABLE [dbo].[doc] ADD [N] int", 2705, 16),
        *("Column names in each table must be unique. Column name 'N' in table .* more than once", ConfigurationError),
    ),
    Documented("SELECT [nope] FROM [dbo].[doc]", 207, 16, "Invalid column name 'nope'.", ConfigurationError),
    Documented("SELECT 1 FROM [dbo].[nope]", 208, 16, "Invalid object name 'dbo.nope'.", ConfigurationError),
    Documented(
        "INSERT INTO [dbo].[doc_other] SELECT 1",
        *(213, 16, "Column name or number of supplied values does not match table definition."),
        ConfigurationError,
    ),
    Documented(
        "INSERT INTO [dbo].[doc] ([n], [day]) VALUES (2, N'no day')",
        *(241, 16, "Conversion failed when converting date and/or time from character string."),
        DataError,
    ),
    Documented(
        "INSERT INTO [dbo].[doc] ([n]) VALUES (N'x')",
        *(245, 16, "Conversion failed when converting the nvarchar value 'x' to data type int."),
        DataError,
    ),
    Documented(
        "UPDATE [dbo].[doc] SET [twice] = 4",
        *(
            271,
            16,
            'The column "twice" cannot be modified because it is either a computed column or is the result of a',
        ),
        ConfigurationError,
    ),
    Documented(
        "SELECT 1 FROM [dbo].[doc] AS a JOIN [dbo].[doc_other] AS b ON a.[text] = b.[text]",
        468,
        16,
        'Cannot resolve the collation conflict between "Latin1_General(_100)?_BIN2" and "Latin1_General(_100)?_BIN2" in'
        " the equal to operation.",
        ConfigurationError,
    ),
    Documented(
        f"INSERT INTO [dbo].[doc_wide] VALUES ('a', {', '.join(['N' + repr('a' * 20)] * 10)})",
        *(511, 16, r"Cannot create a row of size \d+ which is greater than the allowable maximum row size of 8060."),
        DataError,
    ),
    Documented(
        "INSERT INTO [dbo].[doc_log] ([n]) VALUES (NULL)",
        515,
        16,
        r"Cannot insert the value NULL into column 'n', table '.+\.dbo.doc_log'; column does not allow nulls."
        " INSERT fails.",
        DataError,
    ),
    Documented(
        "INSERT INTO [dbo].[doc_key] ([id], [a], [b]) VALUES (1, N'a', N'b')",
        *(544, 16, "Cannot insert explicit value for identity column in table 'doc_key' when IDENTITY_INSERT is set"),
        ConfigurationError,
    ),
    Documented(
        "DELETE FROM [dbo].[doc]",
        547,
        16,
        'The DELETE statement conflicted with the REFERENCE constraint "fk_doc". The conflict occurred in database'
        ' ".+", table "dbo.doc_line", column \'n\'.',
        DataError,
    ),
    Documented(
        "INSERT INTO [dbo].[doc_line] ([n]) VALUES (5)",
        547,
        16,
        'The INSERT statement conflicted with the FOREIGN KEY constraint "fk_doc". The conflict occurred in database'
        ' ".+", table "dbo.doc", column \'n\'.',
        DataError,
    ),
    Documented(
        "USE [nope]",
        *(911, 16, "Database 'nope' does not exist. Make sure that the name is entered correctly."),
        ConfigurationError,
    ),
    Documented(
        "CREATE TABLE [dbo].[doc_new] ([a] char(8000) NOT NULL, [b] char(100))",
        1701,
        16,
        "Creating or altering table 'doc_new' failed because the minimum row size would be 8107, including 7 bytes of"
        " internal overhead. This exceeds the maximum allowable table row size of 8060 bytes.",
        ConfigurationError,
    ),
    Documented(
        key_of(33),
        1904,
        16,
        "The .+ 'pk_new' on table '.+' has 33 columns in the key list. The maximum limit for .+ key column list is 32.",
        ConfigurationError,
    ),
    Documented(
        "CREATE TABLE [dbo].[doc_new] ([a] nvarchar(max) NOT NULL, CONSTRAINT [pk_new] PRIMARY KEY ([a]))",
        *(1919, 16, "Column 'a' in table '.+' is of a type that is invalid for use as a key column in an index."),
        ConfigurationError,
    ),
    Documented(
        "CREATE TABLE [dbo].[doc_new] ([a] nchar(451) NOT NULL, CONSTRAINT [pk_new] PRIMARY KEY ([a]))",
        *(1944, 16, "Index 'pk_new' was not created because the index key size is at least 902 bytes. The .*"),
        ConfigurationError,
    ),
    Documented(
        f"INSERT INTO [dbo].[doc_key] ([a], [b]) VALUES (N'{'a' * 300}', N'{'b' * 160}')",
        1946,
        16,
        "Operation failed. The index entry of length 920 bytes for the index 'pk_doc_key' exceeds the maximum length of"
        " 900 bytes for clustered indexes.",
        DataError,
    ),
    Documented(
        "INSERT INTO [dbo].[doc] ([n]) VALUES (1)",
        2627,
        14,
        r"Violation of PRIMARY KEY constraint 'pk_doc'. Cannot insert duplicate key in object 'dbo.doc'. The duplicate"
        r" key value is \(1\).",
        DataError,
    ),
    Documented(
        "INSERT INTO [dbo].[doc] ([n], [short]) VALUES (2, N'abcd')",
        2628,
        16,
        "String or binary data would be truncated in table '.+', column 'short'. Truncated value: 'abc'.",
        DataError,
    ),
    Documented(
        "CREATE TABLE [nope].[doc_new] ([n] int)",
        2760,
        16,
        'The specified schema name "nope" either does not exist or you do not have permission to use it.',
        ConfigurationError,
    ),
    Documented(
        "INSERT INTO [dbo].[doc_log] ([n]) VALUES (1)",
        *(3609, 16, "The transaction ended in the trigger. The batch has been aborted."),
        ConfigurationError,
    ),
    Documented("DELETE FROM [dbo].[doc_log]", 50123, 16, "Not on a Sunday.", ConfigurationError),
    Documented(
        "DROP TABLE [dbo].[nope]",
        *(3701, 11, "Cannot drop the table 'dbo.nope', because it does not exist or you do not have permission."),
        ConfigurationError,
    ),
    Documented(
        "UPDATE [dbo].[doc_key] SET [id] = 2", 8102, 16, "Cannot update identity column 'id'.", ConfigurationError
    ),
    Documented(
        "INSERT INTO [dbo].[doc] ([n]) VALUES (2147483648)",
        *(8115, 16, "Arithmetic overflow error converting expression to data type int."),
        DataError,
    ),
    Documented("SELECT 1 / 0", 8134, 16, "Divide by zero error encountered.", DataError),
    # What a retry is the remedy for: the table is there now.
    Documented(
        "CREATE TABLE [dbo].[doc] ([n] int)",
        *(2714, 16, "There is already an object named 'doc' in the database."),
        TryAgainError,
    ),
)
"""In no order. Of a long message the beginning."""


@pytest.fixture(scope="module")
def settings(sink_url: str) -> Settings:
    return Settings(sink_url=SecretStr(sink_url), sink_password=None, sink_password_file=None)


@pytest.fixture(scope="module")
def connection(settings: Settings) -> Iterator[mssql_python.Connection]:
    """A connection with the tables of SETUP."""
    with closing(connect(settings, settings.sink(), autocommit=True)) as made:
        sink = Sink(made)
        drop(sink)
        for statement in SETUP:
            sink.execute(statement)
        yield made
        drop(sink)


def drop(sink: Sink) -> None:
    for name in NAMES:
        sink.execute(f"DROP TABLE IF EXISTS [dbo].[{name}]")


def in_db_library(sink_url: str, statement: str) -> Any:
    """The error of a statement with its severity, which ODBC does not tell."""
    parts = urlsplit(sink_url)
    with closing(
        _mssql.connect(
            server=parts.hostname or "",
            port=str(parts.port or 1433),
            user=unquote(parts.username or ""),
            password=unquote(parts.password or os.environ.get("SINK_PASSWORD", "")),
            database=unquote(parts.path.strip("/")),
        )
    ) as db_library:
        # As the drivers of `etl` set it.
        db_library.execute_non_query("SET ANSI_WARNINGS ON; SET ANSI_NULLS ON; SET ARITHABORT ON")
        with pytest.raises(_mssql.MSSQLDatabaseException) as caught:
            db_library.execute_non_query(statement)
    return caught.value


@pytest.mark.parametrize("documented", DOCUMENTED, ids=lambda documented: str(documented.number))
def test_an_error_has_its_documented_number_and_is_sorted_by_it(
    connection: mssql_python.Connection, sink_url: str, documented: Documented
) -> None:
    told = in_db_library(sink_url, documented.statement)
    assert (told.number, told.severity) == (documented.number, documented.severity)
    assert re.match(documented.message, told.text.decode()), told.text
    with pytest.raises(mssql_python.Error) as caught:
        Sink(connection).execute(documented.statement)
    assert documented.number in numbers(caught.value)
    answer = explain(caught.value, [])
    assert answer.kind is documented.kind
    assert re.match(documented.message, answer.words)


def test_an_error_in_another_language_is_sorted_by_its_number(connection: mssql_python.Connection) -> None:
    sink = Sink(connection)
    sink.execute("SET LANGUAGE Deutsch")
    try:
        with pytest.raises(mssql_python.Error, match=r"Ungültiger Objektname 'dbo\.nope'") as caught:
            sink.execute("SELECT 1 FROM [dbo].[nope] WHERE 1 = ?", 1)
    finally:
        sink.execute("SET LANGUAGE us_english")
    assert numbers(caught.value) == [208]
    assert explain(caught.value, []).kind is ConfigurationError


def test_a_key_that_may_become_too_long_is_warned_of(sink_url: str, connection: mssql_python.Connection) -> None:
    cursor = connection.cursor()
    cursor.execute("DROP TABLE IF EXISTS [dbo].[doc_key]")
    cursor.execute(SETUP[1])
    ((state, words),) = cursor.messages
    assert "(1945)" in state
    assert "The index 'pk_doc_key' has maximum length of 1200 bytes." in words


def test_an_error_in_a_trigger_undoes_what_had_called_it(connection: mssql_python.Connection) -> None:
    sink = Sink(connection)
    with pytest.raises(mssql_python.Error, match="The transaction ended in the trigger"):
        sink.execute("INSERT INTO [dbo].[doc_log] ([n]) VALUES (1)")
    assert sink.rows("SELECT COUNT(*), @@TRANCOUNT FROM [dbo].[doc_log]") == [(0, 0)]
