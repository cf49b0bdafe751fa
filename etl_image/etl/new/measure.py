"""Questions to the rows of a table where its catalogue does not say enough: lengths, digits, NULLs, unique columns."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import adbc_driver_manager.dbapi as dbapi

from etl.new.catalogue import SourceTable
from etl.postgres.checks import Cursor
from etl.postgres.quoting import quote_name, quote_text
from etl.postgres.sql import quote_table

SECONDS = 10
"""How long a question may take."""


class Measure:
    """Asks the source about the rows of tables, in the snapshot of a cursor; None if an answer takes too long."""

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor

    def rows(self, table: SourceTable) -> int | None:
        """How many rows it has."""
        return self._number(f"SELECT count(*) FROM {quote_table(table.name)}")

    def longest(self, table: SourceTable, column: str) -> int | None:
        """The characters of the longest text of a column; a character may be two units in SQL Server."""
        return self._number(
            f"SELECT coalesce(max(char_length({quote_name(column)})), 0) FROM {quote_table(table.name)}"
        )

    def digits(self, table: SourceTable, column: str) -> tuple[int, int] | None:
        """Digits before and after the point that the values of a numeric column need; NaN and infinity have none."""
        name = quote_name(column)
        is_finite = f"{name}::text !~ '[NI]'"
        whole = f"max(length(trunc(abs({name}))::text)) FILTER (WHERE abs({name}) >= 1 AND {is_finite})"
        scale = f"max(min_scale({name})) FILTER (WHERE {is_finite})"
        found = self._row(f"SELECT coalesce({whole}, 0), coalesce({scale}, 0) FROM {quote_table(table.name)}")
        return (int(found[0]), int(found[1])) if found else None

    def _number(self, query: str) -> int | None:
        found = self._row(query)
        return int(found[0]) if found else None

    def _row(self, query: str) -> Sequence[Any] | None:
        try:
            with savepoint(self._cursor):
                self._cursor.execute(f"SET LOCAL statement_timeout = {quote_text(f'{SECONDS}s')}")
                self._cursor.execute(query)
                (row,) = self._cursor.fetchall()
                return list(row)
        except dbapi.Error as error:
            if str(error.sqlstate) == "57014":  # query_canceled
                return None
            raise


@contextmanager
def savepoint(cursor: Cursor) -> Iterator[None]:
    """Undo the settings of a block at its end; the transaction can go on after an error in it."""
    cursor.execute("SAVEPOINT etl")
    try:
        yield
    finally:
        cursor.execute("ROLLBACK TO SAVEPOINT etl")
        cursor.execute("RELEASE SAVEPOINT etl")
