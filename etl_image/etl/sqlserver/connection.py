"""Connection to the sink: SQL Server through `mssql-python`."""

import os
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import chain
from typing import Any

import mssql_python
import pyarrow as pa
from mssql_python import Connection
from pydantic import SecretStr

from etl.config.reach import UnreachableError, reach
from etl.config.settings import Settings, redacted_location
from etl.errors import EtlError, TryAgainError
from etl.model.masking import Mask
from etl.model.pipeline import Pipeline, TableName
from etl.sqlserver import errors as sink_errors
from etl.sqlserver import ledger
from etl.sqlserver import sql as sink_sql
from etl.sqlserver import state as sink_state
from etl.sqlserver.checks import Index, find_indexes, read_indexes
from etl.sqlserver.sql import Table
from etl.sqlserver.state import State

# Rows and bytes that the server commits, and may truncate from its log, at a time.
_BULK_BATCH_ROWS, _BULK_BATCH_BYTES = 100_000, 64 * 1024 * 1024
# As the settings write it: } in names is doubled.
_DATABASE = re.compile(r"Database=\{((?:[^}]|\}\})*)\}")
_MASTER = "master"
# Row counts would include those of triggers: statements select @@ROWCOUNT instead.
_SESSION = "SET NOCOUNT ON; SET LANGUAGE us_english"


class Sink:
    """One connection. Statements run in a transaction until `commit`; a failure rolls it back."""

    def __init__(self, connection: mssql_python.Connection) -> None:
        self._connection = connection
        self._cursor = connection.cursor()

    def execute(self, statement: str, *parameters: object) -> None:
        """Run a statement and drain its results: SQL Server aborts it otherwise, and an error may be the last."""
        self.rows(statement, *parameters)

    def change(self, statement: str, *parameters: object) -> int:
        """Run an INSERT, UPDATE or DELETE; returns its row count, without the rows of triggers."""
        return int(self.value(f"{statement}; SELECT @@ROWCOUNT", *parameters))

    def rows(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Run a query and return its rows; of several result sets, which triggers and locks add, the last."""
        self._cursor.execute(statement, *parameters)
        found: list[tuple[Any, ...]] = []
        while True:
            if self._cursor.description is not None:
                found = [tuple(row) for row in self._cursor.fetchall()]
            if not self._cursor.nextset():
                return found

    def value(self, statement: str, *parameters: object) -> Any:
        """Run a query of one row and return its first column."""
        return self.rows(statement, *parameters)[0][0]

    def commit(self) -> None:
        """Commit the transaction."""
        self._connection.commit()

    def rollback(self) -> None:
        """Roll the transaction back, which releases its locks."""
        self._connection.rollback()

    def exists(self, table: TableName) -> bool:
        """Whether a table exists."""
        return self.value(sink_sql.find_table(table)) is not None

    def create(self, table: Table) -> None:
        """Create a table, and commit."""
        self.execute(sink_sql.create_table(table))
        self.commit()

    def create_missing(self, pipeline: Pipeline) -> list[str]:
        """Create missing schemas and tables, and commit; returns the names of the tables."""
        missing = [table for table in ledger.needed_tables(pipeline) if not self.exists(table.name)]
        # Of two loads into an empty sink one creates them; the other waits for the lock and then finds them.
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
        """Take an application lock, held until its owner ends; False if another session holds it."""
        return int(self.value(sink_sql.lock(resource, 0, owner))) >= 0

    def drop(self, table: TableName) -> None:
        """Drop a table, and commit."""
        self.execute(f"DROP TABLE {sink_sql.quote_table(table)}")
        self.commit()

    def bulk_copy(self, table: TableName, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
        """Copy rows into a table as they arrive, columns mapped by name. Raises what the batches raise.

        The driver opens another connection for it, with its own commits.
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
            # The driver's error says only that its input ended.
            if failures:
                raise failures[0] from None
            raise

    def indexes(self, table: TableName) -> list[Index]:
        """The indexes over all rows of a table."""
        return read_indexes(self.rows(find_indexes(table)))

    def staging_tables(self, pipeline: Pipeline) -> list[TableName]:
        """The staging tables of a pipeline, of all its attempts."""
        names = (name for (name,) in self.rows(sink_sql.find_staging_tables()))
        matches = filter(None, map(sink_sql.STAGING_NAME.fullmatch, names))
        return [TableName(schema_name=sink_sql.STAGING, table=m[0]) for m in matches if m["pipeline"] == pipeline.name]

    def _has_schema(self, name: str) -> bool:
        return self.value(f"SELECT SCHEMA_ID({sink_sql.quote_text(name)})") is not None


def connect(settings: Settings, connection_string: SecretStr, *, autocommit: bool, timeout: int = 0) -> Connection:
    """Connect, with the CA file of the settings; `timeout` in seconds, 0 is the driver's default.

    Raises UnreachableError if the port does not answer (the driver's error does not name the host), NotOpenError, or
    the driver's errors.
    """
    # A pooled connection would keep its session, with locks and settings, after it is closed.
    mssql_python.pooling(enabled=False)
    if settings.sink_ca_file:
        # Both parts of the driver, for statements and for bulk copy, read this variable and the system's folder; its
        # own option for a file works for strict connections only.
        os.environ["SSL_CERT_FILE"] = str(settings.sink_ca_file)
    text = connection_string.get_secret_value()
    try:
        return mssql_python.connect(text, autocommit=autocommit, timeout=timeout)
    except (mssql_python.Error, RuntimeError) as error:
        if "[SQL Server]" not in str(error):  # then the server answered
            reach([settings.sink_address()])
        # The driver's error is the same for a wrong password and for a database that does not open.
        if not sink_errors.is_refusal(error) or (named := _DATABASE.search(text)) is None or named[1] == _MASTER:
            raise
        in_master = _in_database(connection_string, _MASTER)
        state = _state(named[1].replace("}}", "}"), in_master, error, timeout)
    raise sink_errors.NotOpenError(state)


def _state(database: str, in_master: SecretStr, refusal: Exception, timeout: int) -> State:
    """The state of a database as master has it, read by the same login. Raises the refusal if master refuses it too."""
    try:
        text = in_master.get_secret_value()
        with closing(mssql_python.connect(text, autocommit=True, timeout=timeout)) as connection:
            found = Sink(connection).rows(sink_state.query(database))
    except mssql_python.Error as error:
        raise (refusal if sink_errors.is_refusal(error) else error) from None
    return sink_state.read(database, found[0] if found else None)


@contextmanager
def connect_sink(settings: Settings, pipeline: Pipeline, about: str) -> Iterator[Sink]:
    """Connect to the sink.

    Raises ConfigurationError, DataError or TryAgainError. `about`, pipeline and partition, begins their messages.
    """
    with _connected(settings, settings.sink(), about, autocommit=False, mask=settings.mask(pipeline)) as sink:
        sink.execute("SET XACT_ABORT ON")
        yield sink


@contextmanager
def connect_to_prepare(
    settings: Settings,
    connection_string: SecretStr | None = None,
    *,
    database: str = "",
    about: str = "prepare-sink",
    autocommit: bool = True,
    mask: Mask | None = None,
) -> Iterator[Sink]:
    """Connect to master or a `database`: as the administrator, or by another connection string.

    Statements commit at once, unless `autocommit` is off. `about`, the command, begins messages. Raises
    ConfigurationError or TryAgainError for errors of the server.
    """
    connection_string = connection_string or settings.sink_admin()
    if database:
        connection_string = _in_database(connection_string, database)
    with _connected(settings, connection_string, about, autocommit=autocommit, mask=mask) as sink:
        yield sink


def _in_database(connection_string: SecretStr, database: str) -> SecretStr:
    named = f"Database={{{database.replace('}', '}}')}}}"
    return SecretStr(_DATABASE.sub(lambda _: named, connection_string.get_secret_value(), count=1))


@contextmanager
def _connected(
    settings: Settings, connection_string: SecretStr, about: str, *, autocommit: bool, mask: Mask | None = None
) -> Iterator[Sink]:
    try:
        connection = connect(settings, connection_string, autocommit=autocommit)
        try:
            sink = Sink(connection)
            sink.execute(_SESSION)
            yield sink
        finally:
            connection.close()
    except UnreachableError as error:
        raise TryAgainError(
            f"{about}: the sink {redacted_location(settings.sink_url)} cannot be reached: {error}"
        ) from None
    except (mssql_python.Error, RuntimeError) as error:
        raise translate_error(error, about, settings, mask) from None


def translate_error(error: Exception, about: str, settings: Settings, mask: Mask | None = None) -> EtlError:
    """An error of the server as an EtlError, with the server's message, redacted and without sensitive values."""
    answer = sink_errors.explain(error, settings.secrets(), mask)
    return answer.kind(f"{about}: the sink {redacted_location(settings.sink_url)} said: {answer.words}")


def _watched(batches: Iterator[pa.RecordBatch], failures: list[BaseException]) -> Iterator[pa.RecordBatch]:
    try:
        yield from batches
    except BaseException as error:
        failures.append(error)
        raise
