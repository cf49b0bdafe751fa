"""One connection to the sink: transactions, locks, DDL and bulk copy."""

from collections.abc import Iterator
from itertools import chain
from typing import Any

import mssql_python
import pyarrow as pa

from etl.errors import TryAgainError
from etl.model.pipeline import Pipeline
from etl.model.table_name import TableName
from etl.sqlserver import ledger
from etl.sqlserver import sql as sink_sql
from etl.sqlserver.checks import Index, find_indexes, read_indexes
from etl.sqlserver.sql import Table

# Rows and bytes that the server commits, and may truncate from its log, at a time.
_BULK_BATCH_ROWS, _BULK_BATCH_BYTES = 100_000, 64 * 1024 * 1024
# Of a batch that is read as Arrow: the first is small, since the length of its rows is not known yet.
_FIRST_READ_ROWS, _MOST_READ_ROWS, _READ_BYTES = 1000, 50_000, 4 * 1024 * 1024


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

    def batches(self, statement: str, size: int, *parameters: object) -> Iterator[list[tuple[Any, ...]]]:
        """Run a query and yield its rows, some at a time; no other statement may run meanwhile."""
        self._cursor.execute(statement, *parameters)
        while found := [tuple(row) for row in self._cursor.fetchmany(size)]:
            yield found

    def arrow_batches(self, statement: str, *parameters: object) -> Iterator[pa.RecordBatch]:
        """Run a query and yield its rows as Arrow, at least one batch; no other statement may run meanwhile.

        Not for varbinary(max): of a value whose length the server does not announce the driver's reading never ends.
        """
        self._cursor.execute(statement, *parameters)
        size = _FIRST_READ_ROWS
        while True:
            batch = self._cursor.arrow_batch(size)
            rows, row_bytes = batch.num_rows, batch.nbytes // max(batch.num_rows, 1)
            yield batch
            del batch  # otherwise it is held while the next is read
            if rows < size:
                return
            size = max(1, min(_MOST_READ_ROWS, _READ_BYTES // max(row_bytes, 1)))

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

    def has_schema(self, name: str) -> bool:
        """Whether a schema exists."""
        return self.value(f"SELECT SCHEMA_ID({sink_sql.quote_text(name)})") is not None

    def create(self, table: Table) -> None:
        """Create a table, and commit."""
        self.execute(sink_sql.create_table(table))
        self.commit()

    def create_missing(self, pipeline: Pipeline, *also: TableName) -> list[str]:
        """Create missing schemas and tables, `also` some of the ledger, and commit; returns the names of the tables.

        A ledger of an earlier version gets the columns it lacks.
        """
        # Of two loads into an empty sink one creates them; the other waits for the lock and then finds them.
        self.lock(ledger.TABLES_LOCK, 60_000)
        missing = [table for table in ledger.needed_tables(pipeline, *also) if not self.exists(table.name)]
        for schema_name in dict.fromkeys([*(table.name.schema_name for table in missing), sink_sql.STAGING]):
            if not self.has_schema(schema_name):
                self.execute(f"CREATE SCHEMA {sink_sql.quote_name(schema_name)}")
        for table in missing:
            self.execute(sink_sql.create_table(table))
        self.migrate_ledger()
        self.commit()
        return [str(table.name) for table in missing]

    def migrate_ledger(self) -> list[str]:
        """Add the columns that a ledger of an earlier version lacks; returns what was done."""
        done = []
        for table, names in self.lacking_columns():
            self.execute(sink_sql.add_columns(table, names))
            done.append(f"added {', '.join(names)} to {table.name}")
        return done

    def lacking_columns(self) -> list[tuple[Table, list[str]]]:
        """The tables of the ledger that an earlier version made, each with the columns that it lacks."""
        found = []
        for table in ledger.tables():
            present = {name for (name,) in self.rows(sink_sql.find_columns(table.name))}
            if present and (lacking := [name for name in table.columns if name not in present]):
                found.append((table, lacking))
        return found

    def lock(self, resource: str, timeout_ms: int) -> None:
        """Hold an application lock until the transaction ends. Raises TryAgainError if another session holds it."""
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


def _watched(batches: Iterator[pa.RecordBatch], failures: list[BaseException]) -> Iterator[pa.RecordBatch]:
    try:
        yield from batches
    except BaseException as error:
        failures.append(error)
        raise
