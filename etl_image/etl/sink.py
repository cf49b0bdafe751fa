"""The sink: a SQL Server that is loaded through `mssql-python`."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import mssql_python
import pyarrow as pa
from mssql_python import Connection
from pydantic import SecretStr

from etl import sink_sql
from etl.errors import ConfigurationError, DataError, EtlError, TryAgainError
from etl.logs import blot_out
from etl.pipeline import Pipeline, TableName
from etl.reach import UnreachableError, reach
from etl.settings import Settings, place
from etl.sink_sql import Table
from etl.step import Work

# What the server commits, and may drop from its log, at a time.
_BULK_BATCH_ROWS, _BULK_BATCH_BYTES = 100_000, 64 * 1024 * 1024
# What the server says (sys.messages) where the same command would only fail again. The driver passes on the words, not
# the numbers: 18456, 208, 207, 229, 262, 2760, 916, 102, 468, 544, 15247, 15116, 15118, 3201, 3241.
_CONFIGURATION = re.compile(
    r"Login failed|Invalid object name|Invalid column name|permission (was )?denied|does not exist|Incorrect syntax"
    r"|collation conflict|IDENTITY_INSERT|certificate verify failed|Encryption not supported"
    r"|not able to access the database|specified schema name|not have permission|Password validation failed"
    r"|Cannot open backup device|media family",
    re.IGNORECASE,
)
# A server that is on its way up refuses logins, too; once up, those to a database that it still recovers (4060).
_CANNOT_OPEN = "Cannot open database"
_PASSING = re.compile(rf"script upgrade mode|being recovered|is starting up|{_CANNOT_OPEN}", re.IGNORECASE)
# A later attempt at the same partition drops the staging tables of the earlier ones.
_GONE = re.compile(r"Invalid object name|does not exist", re.IGNORECASE)
# 2627, 2601, 515, 2628, 8152, 8115, 547.
_DATA = re.compile(
    r"duplicate key|Cannot insert the value NULL|would be truncated|Arithmetic overflow|FOREIGN KEY constraint",
    re.IGNORECASE,
)


class Sink:
    """One connection. Statements run in a transaction until `commit`; whatever fails rolls it back."""

    def __init__(self, connection: mssql_python.Connection) -> None:
        self._connection = connection
        self._cursor = connection.cursor()

    def execute(self, statement: str, *parameters: object) -> int:
        """Run a statement; returns the number of rows it touched."""
        self._cursor.execute(statement, *parameters)
        return int(self._cursor.rowcount)

    def finish(self, statement: str) -> None:
        """Run a statement of minutes to its end: the server tells its progress, and stops where nobody reads that."""
        self._cursor.execute(statement)
        while self._cursor.nextset():
            pass

    def rows(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Run a query and return its rows."""
        self._cursor.execute(statement, *parameters)
        # An application lock that is not granted gives a result without rows before the query's.
        while self._cursor.description is None and self._cursor.nextset():
            pass
        return [tuple(row) for row in self._cursor.fetchall()]

    def value(self, statement: str, *parameters: object) -> Any:
        """Run a query of one row and return its first column."""
        return self.rows(statement, *parameters)[0][0]

    def commit(self) -> None:
        """Make what was done since the last commit stand."""
        self._connection.commit()

    def rollback(self) -> None:
        """Undo what was done since the last commit, and let go of its locks."""
        self._connection.rollback()

    def exists(self, table: TableName) -> bool:
        """Whether there is such a table."""
        return self.value(f"SELECT OBJECT_ID({sink_sql.quote_text(sink_sql.quote_table(table))}, N'U')") is not None

    def create(self, table: Table) -> None:
        """Create a table, and commit."""
        self.execute(sink_sql.create_table(table))
        self.commit()

    def create_missing(self, pipeline: Pipeline) -> list[str]:
        """Create the schemas and tables that are not there yet, and commit; returns their names."""
        missing = [table for table in sink_sql.needed_tables(pipeline) if not self.exists(table.name)]
        # Two loads may come at once to an empty sink: one creates, the other waits and then finds them.
        if missing or not self._has_schema(sink_sql.STAGING):
            self.lock("etl: create tables", 60_000)
            for schema_name in dict.fromkeys([*(table.name.schema_name for table in missing), sink_sql.STAGING]):
                if not self._has_schema(schema_name):
                    self.execute(f"CREATE SCHEMA {sink_sql.quote_name(schema_name)}")
            missing = [table for table in missing if not self.exists(table.name)]
            for table in missing:
                self.execute(sink_sql.create_table(table))
        self.commit()
        return [str(table.name) for table in missing]

    def lock(self, resource: str, timeout_ms: int) -> None:
        """Hold an application lock until the transaction ends. Raises TryAgainError where another holds it."""
        if int(self.value(sink_sql.lock(resource, timeout_ms))) < 0:
            seconds = timeout_ms / 1000
            raise TryAgainError(f"Another load has held the lock '{resource}' for {seconds:g} s; try again later.")

    def try_lock(self, resource: str, owner: sink_sql.Owner = "Transaction") -> bool:
        """Hold an application lock until its owner ends, unless another holds it; whether it is held."""
        return int(self.value(sink_sql.lock(resource, 0, owner))) >= 0

    def drop(self, table: TableName) -> None:
        """Drop a table, and commit."""
        self.execute(f"DROP TABLE {sink_sql.quote_table(table)}")
        self.commit()

    def bulk_copy(self, table: TableName, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
        """Copy rows into a table as they come, columns mapped by name. Raises whatever the batches raise.

        The driver uses a connection and commits of its own.
        """
        first = next(batches, None)
        if first is None:
            return
        failures: list[BaseException] = []
        reader = pa.RecordBatchReader.from_batches(schema, _watched(chain([first], batches), failures))
        row_bytes = first.nbytes // first.num_rows
        try:
            self._cursor.bulkcopy_arrow(
                sink_sql.quote_table(table),
                reader,
                batch_size=max(1, min(_BULK_BATCH_ROWS, _BULK_BATCH_BYTES // max(row_bytes, 1))),
                timeout=0,
                column_mappings=list(schema.names),
                table_lock=True,
                keep_nulls=True,
            )
        except RuntimeError:
            # The driver would only tell that its input broke off.
            if failures:
                raise failures[0] from None
            raise

    def columns(self, table: TableName) -> dict[str, tuple[str, str | None]]:
        """The columns of a table with their types, as the DDL here writes them, and their collations."""
        found = self.rows(
            "SELECT COLUMN_NAME, DATA_TYPE, CHARACTER_MAXIMUM_LENGTH, NUMERIC_PRECISION, NUMERIC_SCALE,"
            " DATETIME_PRECISION, COLLATION_NAME FROM INFORMATION_SCHEMA.COLUMNS"
            " WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? ORDER BY ORDINAL_POSITION",
            table.schema_name,
            table.table,
        )
        return {name: (_written(*description), collation) for name, *description, collation in found}

    def _has_schema(self, name: str) -> bool:
        return self.value(f"SELECT SCHEMA_ID({sink_sql.quote_text(name)})") is not None


def connect(settings: Settings, connection_string: SecretStr, *, autocommit: bool, timeout: int = 0) -> Connection:
    """Connect, with the authorities of the settings; `timeout` in seconds, 0 is the driver's.

    Raises the driver's errors; UnreachableError where nothing answers, of which the driver does not name the host.
    """
    # A pooled connection would keep its session, and with it locks and settings, after it is closed.
    mssql_python.pooling(enabled=False)
    if settings.sink_ca_file:
        # Both of the driver's parts, for statements and for bulk copy, look here and in the system's folder; its own
        # option for a file is for strict connections only.
        os.environ["SSL_CERT_FILE"] = str(settings.sink_ca_file)
    try:
        return mssql_python.connect(connection_string.get_secret_value(), autocommit=autocommit, timeout=timeout)
    except (mssql_python.Error, RuntimeError) as error:
        if "[SQL Server]" not in str(error):  # then it did answer
            reach([settings.sink_address()])
        raise


@contextmanager
def connect_sink(work: Work) -> Iterator[Sink]:
    """Connect to the sink. Raises ConfigurationError, DataError or TryAgainError for whatever it answers."""
    with _connected(work.settings, work.settings.sink(), str(work), autocommit=False) as sink:
        sink.execute("SET XACT_ABORT ON")
        yield sink


@contextmanager
def connect_to_prepare(settings: Settings, *, as_loader: bool = False, about: str = "prepare-sink") -> Iterator[Sink]:
    """Connect to the sink's server as its administrator, or to the sink as the loader; every statement stands at once.

    Messages are `about` the command that is run. Raises ConfigurationError or TryAgainError for whatever it answers.
    """
    connection_string = settings.sink() if as_loader else settings.sink_admin()
    with _connected(settings, connection_string, about, autocommit=True) as sink:
        yield sink


@contextmanager
def _connected(settings: Settings, connection_string: SecretStr, about: str, *, autocommit: bool) -> Iterator[Sink]:
    try:
        connection = connect(settings, connection_string, autocommit=autocommit)
        try:
            yield Sink(connection)
        finally:
            connection.close()
    except UnreachableError as error:
        raise TryAgainError(f"{about}: the sink {place(settings.sink_url)} cannot be reached: {error}") from None
    except (mssql_python.Error, RuntimeError) as error:
        raise sorted_error(error, about, settings) from None


def sorted_error(error: Exception, about: str, settings: Settings) -> EtlError:
    """The server's answer as one of ours: in its own words, without the driver's frame and without secrets."""
    text = blot_out(str(error), settings.secrets())
    words = text.split("DDBC Error:")[-1].split("[SQL Server]")[-1].strip().splitlines()[0]
    sentence = f"{about}: the sink {place(settings.sink_url)} said: {words}"
    if "Password validation failed" in words:
        sentence += " Choose another SINK_PASSWORD."
    if _CANNOT_OPEN in text:
        sentence += (
            " It may be recovering after a restart of the server; or it does not exist, or the login may not use it:"
            " then run `etl prepare-sink`."
        )
    if "certificate verify failed" in words:
        sentence += (
            " Name the authority that signed its certificate as SINK_CA_FILE, or the name that stands in it as"
            " hostnameincertificate in SINK_URL."
        )
    if _PASSING.search(text) or (sink_sql.STAGING_NAME.search(words) and _GONE.search(words)):
        return TryAgainError(sentence)
    if _CONFIGURATION.search(text):
        return ConfigurationError(sentence)
    if _DATA.search(text):
        return DataError(sentence)
    return TryAgainError(sentence)


def _watched(batches: Iterator[pa.RecordBatch], failures: list[BaseException]) -> Iterator[pa.RecordBatch]:
    try:
        yield from batches
    except BaseException as error:
        failures.append(error)
        raise


def _written(data_type: str, length: int | None, precision: int | None, scale: int | None, fraction: int | None) -> str:
    if data_type in ("decimal", "numeric"):
        return f"decimal({precision},{scale})"
    if data_type == "float":
        return f"float({precision})"
    if data_type in ("datetime2", "time"):
        return f"{data_type}({fraction})"
    if length is not None:
        return f"{data_type}({'max' if length == -1 else length})"
    return data_type
