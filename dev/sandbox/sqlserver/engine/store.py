"""A session's view of the store: its transaction, and the statements that run in it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from threading import Event
from typing import Any, TypeVar

import duckdb
import pyarrow as pa

from dev.sandbox.sqlserver.engine.catalogue import MASTER, Catalogue, Table, quote
from dev.sandbox.sqlserver.engine.constraints import conflicts
from dev.sandbox.sqlserver.engine.database import Engine, Failure
from dev.sandbox.sqlserver.engine.locks import INVALID, TIMED_OUT, AppLocks
from dev.sandbox.sqlserver.engine.principals import Administrator, Principals
from dev.sandbox.sqlserver.engine.statements import Change, GetAppLock, Select
from dev.sandbox.sqlserver.engine.table_locks import NO_LIMIT, Mode
from dev.sandbox.sqlserver.errors import AttentionError, ConnectionCutError, SqlError, deadlock_victim
from dev.sandbox.sqlserver.faults import Faults

_FETCH_ROWS = 2000
_T = TypeVar("_T")


class Store:
    """Runs statements in DuckDB under READ COMMITTED, as far as DuckDB allows.

    A DuckDB transaction sees the data as of its beginning. It is therefore begun with the first statement that writes,
    so that statements before see what others have committed.
    """

    def __init__(
        self, engine: Engine, administrator: Administrator, locks: AppLocks, faults: Faults, session_id: int
    ) -> None:
        self._connection = engine.connect()
        self._locks = locks
        self._table_locks = engine.table_locks
        self._faults = faults
        self._session_id = session_id
        self._session = object()
        self._writing = False
        self._changed = False
        self.catalogue = Catalogue(self._connection, engine.changes)
        self.principals = Principals(self._connection, administrator)
        self.trancount = 0
        self.doomed = False
        self.xact_abort = False
        self.lock_timeout_ms = NO_LIMIT
        self.given_up = Event()
        self.offline = engine.offline
        self.edition = engine.edition

    def interrupt(self) -> None:
        """Cancel the running statement; may be called from another thread."""
        self.given_up.set()
        self._connection.interrupt()

    def is_open(self, database: str) -> bool:
        """Whether a database can be used now."""
        return database == MASTER or not self.offline.is_set()

    def begin(self) -> None:
        """Begin a transaction, or a nested level of it."""
        self.trancount += 1

    def commit(self) -> None:
        """Commit, at the outermost level. Raises SqlError 3902 or 3930, or ConnectionCutError for a fault."""
        if not self.trancount:
            raise SqlError(3902, "The COMMIT TRANSACTION request has no corresponding BEGIN TRANSACTION.")
        self.check_doomed()
        if self.trancount > 1:
            self.trancount -= 1
            return
        changed = self._changed
        if changed and self._faults.take("drop_connection_before_commit") is not None:
            raise ConnectionCutError("fault: drop_connection_before_commit")
        try:
            if self._writing:
                self.run("COMMIT")
        finally:
            self.catalogue.settle()
            self._end()
        if changed and self._faults.take("drop_connection_after_commit") is not None:
            raise ConnectionCutError("fault: drop_connection_after_commit")

    def rollback(self) -> None:
        """Roll back the transaction. Raises SqlError 3903 if there is none."""
        if not self.trancount:
            raise SqlError(3903, "The ROLLBACK TRANSACTION request has no corresponding BEGIN TRANSACTION.")
        self.abandon()

    def abandon(self) -> None:
        """Roll back the transaction, if there is one, and release its locks."""
        if self._writing:
            self._undo()
        self._end()

    def fail(self, error: SqlError) -> bool:
        """Apply an error to the transaction; returns whether it ended.

        DuckDB cannot roll back a single statement. Where SQL Server would, without XACT_ABORT, the transaction then
        accepts only ROLLBACK.
        """
        if not self.trancount:
            return False
        if self.xact_abort or error.ends_transaction:
            self.abandon()
            return True
        if self._writing:
            self._undo()
            self.doomed = True
        return False

    def check_doomed(self) -> None:
        """Raise SqlError 3930 in a transaction that can only be rolled back."""
        if self.doomed:
            raise SqlError(
                3930,
                "The current transaction cannot be committed and cannot support operations that write to the log"
                " file. Roll back the transaction.",
            )

    def lock(self, request: GetAppLock) -> int:
        """Take an application lock; returns what sp_getapplock returns."""
        if not request.for_session:
            if not self.trancount:
                return INVALID
            if request.timeout_ms and self._faults.take("lock_timeout") is not None:
                return TIMED_OUT
        owner = self._session if request.for_session else self
        result = self._locks.acquire(owner, request.resource, request.timeout_ms, self.given_up.is_set)
        if self.given_up.is_set():
            raise AttentionError
        return result

    @contextmanager
    def locking(self, wanted: Mapping[str, Mode]) -> Iterator[None]:
        """Hold locks of tables, by name, while a statement runs, and those of writes until its transaction ends."""
        try:
            self.lock_tables(wanted)
            yield
        finally:
            self._table_locks.end_statement(self)
            if not self.trancount:
                self._table_locks.end_transaction(self)

    def lock_tables(self, wanted: Mapping[str, Mode]) -> None:
        """Wait for locks of tables, within `locking`."""
        reads_snapshots = self.catalogue.reads_snapshots
        self._table_locks.acquire(self, wanted, self.given_up.is_set, reads_snapshots, self.lock_timeout_ms)
        if self.given_up.is_set():
            raise AttentionError

    def select(self, query: Select) -> Iterator[list[tuple[Any, ...]]]:
        """Run a query and yield its rows in batches, the first of which may be empty."""
        self._delay()
        cursor = self.run(query.sql, query.values)
        while True:
            rows = self._translated(lambda: cursor.fetchmany(_FETCH_ROWS), None, "")
            yield rows
            if len(rows) < _FETCH_ROWS:
                return

    def change(self, change: Change) -> int:
        """Run an INSERT, UPDATE or DELETE; returns the number of rows."""
        self._delay()
        if self.trancount and self._faults.take("deadlock_victim") is not None:
            raise deadlock_victim(self._session_id)
        count = self.write(lambda: self._change(change))
        self._changed = bool(self.trancount)
        return count

    def _change(self, change: Change) -> int:
        ((count,),) = self.run(change.sql, change.values, change.table, change.verb).fetchall()
        for query, error in conflicts(change.table, change.verb, self.catalogue.database):
            if self.run(query).fetchall():
                raise error
        return int(count)

    def insert_arrow(self, table: Table, columns: Mapping[str, str], rows: pa.Table) -> None:
        """Append an Arrow table; `columns`: each column to fill, with its expression in DuckDB's SQL."""
        names = ", ".join(map(quote, columns))
        sql = f"INSERT INTO {table.sql} ({names}) SELECT {', '.join(columns.values())} FROM standin_bulk"
        self._translated(lambda: self._insert(sql, rows), table, "INSERT")

    def _insert(self, sql: str, standin_bulk: pa.Table) -> None:
        # DuckDB finds the Arrow table by the name of this variable. Registered, it would be held until commit.
        self._connection.execute(sql)

    def write(self, work: Callable[[], _T]) -> _T:
        """Call `work`, which writes, in the session's transaction or else in a separate one."""
        self.check_doomed()
        if not self._writing:
            self.run("BEGIN TRANSACTION")
            self._writing = True
        if self.trancount:
            return work()
        try:
            result = work()
            self.run("COMMIT")
        except BaseException:
            self._undo()
            raise
        self.catalogue.settle()
        self._writing = False
        return result

    def run(
        self, sql: str, values: Mapping[str, Any] | None = None, table: Table | None = None, verb: str = ""
    ) -> duckdb.DuckDBPyConnection:
        """Run DuckDB's SQL. Raises SqlError, about the statement's table and verb, or AttentionError."""
        if self.given_up.is_set():
            raise AttentionError
        return self._translated(lambda: self._connection.execute(sql, values or None), table, verb)

    def reset(self) -> None:
        """Roll back, and release all locks."""
        self.abandon()
        self._locks.release(self._session)

    def close(self) -> None:
        """Roll back, release all locks, and close the connection."""
        self.reset()
        self._connection.close()

    def _translated(self, work: Callable[[], _T], table: Table | None, verb: str) -> _T:
        try:
            return work()
        except (duckdb.InterruptException, KeyboardInterrupt) as error:
            raise AttentionError from error
        except duckdb.Error as error:
            text = str(error).split("\n\nLINE ")[0]
            raise Failure(text, self._session_id, self.catalogue.database, table, verb).explain() from error

    def _delay(self) -> None:
        if milliseconds := self._faults.take("statement_delay"):
            self.given_up.wait(milliseconds / 1000)

    def _undo(self) -> None:
        self._writing = False
        with suppress(duckdb.Error):  # DuckDB has already rolled back, as it does where a commit fails
            self._connection.execute("ROLLBACK")
        self.catalogue.settle()

    def _end(self) -> None:
        self.trancount = 0
        self._writing = self._changed = self.doomed = False
        self._locks.release(self)
        self._table_locks.end_transaction(self)
