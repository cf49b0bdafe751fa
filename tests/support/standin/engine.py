"""DuckDB as the store: the database, its macros, and its errors in SQL Server's words."""

import re
from collections.abc import Callable
from pathlib import Path

import duckdb

from .catalogue import Table, create_catalogue
from .errors import SqlError, deadlock_victim, duplicate_key, null_not_allowed

_CATALOG = "stand-in store"
# Lengths are in UTF-16 code units: DuckDB counts code points, of which those beyond the BMP take two.
# Few texts need the slow count: no text has more code units than UTF-8 bytes.
_MACROS = r"""
CREATE TEMP MACRO standin_units(x) AS length(x) + length(regexp_replace(x, '[^\x{10000}-\x{10FFFF}]', '', 'g'));
CREATE TEMP MACRO standin_length(x) AS CAST(standin_units(rtrim(x, ' ')) AS INTEGER);
CREATE TEMP MACRO standin_too_long(told, start) AS error(
    'standin 2628 String or binary data would be truncated in ' || told || '. Truncated value: ''' || start || '''.');
CREATE TEMP MACRO standin_fit_text(x, size, told) AS CASE
    WHEN x IS NULL OR strlen(x) <= size OR standin_units(x) <= size THEN x
    ELSE standin_too_long(told, left(x, size)) END;
CREATE TEMP MACRO standin_fit_bytes(x, size, told) AS CASE
    WHEN x IS NULL OR octet_length(x) <= size THEN x ELSE standin_too_long(told, '') END;
CREATE TEMP MACRO standin_divisor(x) AS CASE
    WHEN x = 0 THEN error('standin 8134 Divide by zero error encountered.') ELSE x END;
"""
_OWN = re.compile(r"standin (\d+) (.*)", re.DOTALL)
_OVERFLOW = re.compile(r"out of range|overflow|doesn't fit|could not be cast|Could not cast value", re.IGNORECASE)
_TARGET = re.compile(r"(?:type|to) ([A-Z]\w*(?:\([\d,]+\))?)")
_TSQL_NAMES = {
    "INT8": "tinyint", "UINT8": "tinyint", "INT16": "smallint", "INT32": "int", "INT64": "bigint", "BOOL": "bit",
    "UTINYINT": "tinyint", "SMALLINT": "smallint", "INTEGER": "int", "BIGINT": "bigint", "DOUBLE": "float",
    "FLOAT": "real", "BOOLEAN": "bit", "UUID": "uniqueidentifier",
}  # fmt: skip


class Engine:
    """The database that all sessions share, in memory or in a file."""

    def __init__(self, database: str, path: Path | None = None) -> None:
        self.database = database
        self._root = duckdb.connect()
        # The name is one that no schema can be mistaken for.
        target = str(path or ":memory:").replace("'", "''")
        self._root.execute(f"ATTACH '{target}' AS \"{_CATALOG}\"")
        self._root.execute(f'USE "{_CATALOG}"')
        create_catalogue(self._root)

    def connect(self) -> duckdb.DuckDBPyConnection:
        """A connection for one session."""
        connection = self._root.cursor()
        connection.execute(f'USE "{_CATALOG}"; SET integer_division = true; SET TimeZone = \'UTC\'')
        connection.execute(_MACROS)
        return connection

    def close(self) -> None:
        """Write what is in memory to the file, and close it."""
        self._root.execute(f'USE memory; DETACH "{_CATALOG}"')
        self._root.close()


def explain(
    error: duckdb.Error, session_id: int, database: str, table: Table | None, verb: str
) -> SqlError:
    """DuckDB's error as SQL Server would put it; `table` and `verb` are of the statement that failed."""
    text = str(error).split("\n\nLINE ")[0]
    if own := _OWN.search(text):
        return SqlError(int(own[1]), own[2], 16)
    for number, explanation in _EXPLANATIONS:
        if number.search(text):
            found = explanation(text, session_id, database, table, verb)
            if found:
                return found
    return SqlError(50000, f"the stand-in could not run this: {text}")


def _conflict(text: str, session_id: int, database: str, table: Table | None, verb: str) -> SqlError:
    return deadlock_victim(session_id)


def _duplicate(text: str, session_id: int, database: str, table: Table | None, verb: str) -> SqlError | None:
    if table is None:
        return None
    pattern = ", ".join(f"{re.escape(name)}: (.*)" for name in table.key)
    match = re.search(f'Duplicate key "{pattern}" violates', text, re.DOTALL)
    return duplicate_key(table.key_name, table.told, ", ".join(match.groups()) if match else "?")


def _null(text: str, session_id: int, database: str, table: Table | None, verb: str) -> SqlError | None:
    match = re.search(r"NOT NULL constraint failed: (.*)", text)
    if table is None or match is None:
        return None
    return null_not_allowed(match[1].removeprefix(f"{table.name}."), f"{database}.{table.told}", verb)


def _overflow(text: str, session_id: int, database: str, table: Table | None, verb: str) -> SqlError:
    return SqlError(8115, f"Arithmetic overflow error converting expression to data type {_target(text)}.")


def _conversion(text: str, session_id: int, database: str, table: Table | None, verb: str) -> SqlError:
    if re.search(r"date|time", text, re.IGNORECASE):
        return SqlError(241, "Conversion failed when converting date and/or time from character string.")
    value = re.search(r"string '(.*)' to|\"(.*)\" to", text, re.DOTALL)
    told = f" the nvarchar value '{value[1] or value[2]}'" if value else ""
    return SqlError(245, f"Conversion failed when converting{told} to data type {_target(text)}.")


def _target(text: str) -> str:
    names = _TARGET.findall(text)
    if not names:
        return "numeric"
    return "numeric" if names[-1].startswith("DECIMAL") else _TSQL_NAMES.get(names[-1], names[-1].lower())


_Explanation = Callable[[str, int, str, Table | None, str], SqlError | None]
_EXPLANATIONS: list[tuple[re.Pattern[str], _Explanation]] = [
    (re.compile(r"conflict|Failed to commit|has been (altered|dropped)", re.IGNORECASE), _conflict),
    (re.compile(r"Duplicate key"), _duplicate),
    (re.compile(r"NOT NULL constraint failed"), _null),
    (_OVERFLOW, _overflow),
    (re.compile(r"Conversion Error"), _conversion),
]
