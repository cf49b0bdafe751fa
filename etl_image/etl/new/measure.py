"""Questions to the rows of a table where its catalogue does not say enough: lengths, digits, NULLs, unique columns."""

from collections.abc import Sequence
from typing import Any

import adbc_driver_manager.dbapi as dbapi

from etl.config.settings import Settings
from etl.new.catalogue import SourceTable
from etl.postgres.connection import snapshot
from etl.postgres.quoting import quote_name, quote_table, quote_text

SECONDS = 10
"""How long a question may take."""
_CANCELED = "57014"
"""The SQLSTATE of a statement that took too long."""


class Measure:
    """Asks the source about the rows of tables; None if an answer takes too long."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def rows(self, table: SourceTable) -> int | None:
        """How many rows it has."""
        return self._number(table, f"SELECT count(*) FROM {quote_table(table.name)}")

    def longest(self, table: SourceTable, column: str) -> int | None:
        """The characters of the longest text of a column; a character may be two units in SQL Server."""
        return self._number(
            table, f"SELECT coalesce(max(char_length({quote_name(column)}::text)), 0) FROM {quote_table(table.name)}"
        )

    def digits(self, table: SourceTable, column: str) -> tuple[int, int] | None:
        """Digits before and after the point that the values of a numeric column need; NaN and infinity have none."""
        name = quote_name(column)
        is_finite = f"{name}::text !~ '[NI]'"
        whole = f"max(length(trunc(abs({name}))::text)) FILTER (WHERE abs({name}) >= 1 AND {is_finite})"
        scale = f"max(min_scale({name})) FILTER (WHERE {is_finite})"
        found = self._row(table, f"SELECT coalesce({whole}, 0), coalesce({scale}, 0) FROM {quote_table(table.name)}")
        return (int(found[0]), int(found[1])) if found else None

    def _number(self, table: SourceTable, query: str) -> int | None:
        found = self._row(table, query)
        return int(found[0]) if found else None

    def _row(self, table: SourceTable, query: str) -> Sequence[Any] | None:
        # A connection each: after an error the driver lets a transaction go no further, not even to a savepoint.
        with snapshot(self._settings, str(table.name), "reading it") as connection, connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL statement_timeout = {quote_text(f'{SECONDS}s')}")
            try:
                cursor.execute(query)
                (row,) = cursor.fetchall()
            except dbapi.Error as error:
                if error.sqlstate != _CANCELED:
                    raise
                return None
            return list(row)
