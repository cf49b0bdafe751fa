"""DuckDB as the store: the database, its macros, and the translation of its errors to SQL Server's."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import duckdb

from dev.sandbox.sqlserver.engine.catalogue import SCHEMA, Catalogue, Changes, Table, create_catalogue
from dev.sandbox.sqlserver.engine.principals import create_principals
from dev.sandbox.sqlserver.engine.table_locks import TableLocks
from dev.sandbox.sqlserver.errors import SqlError, deadlock_victim, duplicate_key, null_not_allowed, unknown_object

EXPRESS, AZURE = 4, 5
"""SERVERPROPERTY('EngineEdition') that the double reports."""
_CATALOG = "stand-in store"
# Lengths are in UTF-16 code units: DuckDB counts code points, of which those beyond the BMP take two.
# Few texts need the slow count: no text has more code units than UTF-8 bytes.
_MACROS = r"""
CREATE TEMP MACRO standin_units(x) AS length(x) + length(regexp_replace(x, '[^\x{10000}-\x{10FFFF}]', '', 'g'));
CREATE TEMP MACRO standin_length(x) AS CAST(standin_units(rtrim(x, ' ')) AS INTEGER);
CREATE TEMP MACRO standin_too_long(target, start) AS error(
    'standin 2628 String or binary data would be truncated in ' || target || '. Truncated value: ''' || start || '''.');
CREATE TEMP MACRO standin_fit_text(x, size, target) AS CASE
    WHEN x IS NULL OR strlen(x) <= size OR standin_units(x) <= size THEN x
    ELSE standin_too_long(target, left(x, size)) END;
CREATE TEMP MACRO standin_fit_bytes(x, size, target) AS CASE
    WHEN x IS NULL OR octet_length(x) <= size THEN x ELSE standin_too_long(target, '') END;
CREATE TEMP MACRO standin_password_matches(x, hashed) AS CASE
    WHEN hashed IS NULL THEN NULL WHEN sha256(left(hashed, 16) || x) = substr(hashed, 17) THEN 1 ELSE 0 END;
CREATE TEMP MACRO standin_divisor(x) AS CASE
    WHEN x = 0 THEN error('standin 8134 Divide by zero error encountered.') ELSE x END;
"""
_INDEXES = f"""
CREATE TABLE IF NOT EXISTS "{SCHEMA}"."INDEXES" (
    object_id INTEGER, name VARCHAR COLLATE NOCASE, index_id INTEGER, type UTINYINT, is_unique BOOLEAN,
    is_primary_key BOOLEAN, is_disabled BOOLEAN, is_hypothetical BOOLEAN, has_filter BOOLEAN);
CREATE TABLE IF NOT EXISTS "{SCHEMA}"."INDEX_COLUMNS" (
    object_id INTEGER, index_id INTEGER, column_id INTEGER, key_ordinal UTINYINT);
"""
_OWN = re.compile(r"standin (\d+) (.*)", re.DOTALL)
_TARGET = re.compile(r"(?:type|to) ([A-Z]\w*(?:\([\d,]+\))?)")
_TSQL_NAMES = {
    "INT8": "tinyint", "UINT8": "tinyint", "INT16": "smallint", "INT32": "int", "INT64": "bigint", "BOOL": "bit",
    "UTINYINT": "tinyint", "SMALLINT": "smallint", "INTEGER": "int", "BIGINT": "bigint", "DOUBLE": "float",
    "FLOAT": "real", "BOOLEAN": "bit", "UUID": "uniqueidentifier",
}  # fmt: skip


class Engine:
    """The DuckDB database that all sessions share, in memory or in a file.

    `database` is created if missing; without a name, CREATE DATABASE does. Raises ValueError if the file has a database
    of another name. `offline` is set while the database may not be used. In the edition AZURE a session stays in the
    database of its login.
    """

    def __init__(self, database: str, path: Path | None = None, edition: int = EXPRESS) -> None:
        self._root = duckdb.connect()
        # A name that no schema has.
        target = str(path or ":memory:").replace("'", "''")
        self._root.execute(f"ATTACH '{target}' AS \"{_CATALOG}\"")
        self._root.execute(f'USE "{_CATALOG}"')
        create_catalogue(self._root)
        self.edition = edition
        self.changes = Changes()
        self.offline = Event()
        self.table_locks = TableLocks()
        create_principals(self._root)
        self._root.execute(_INDEXES)
        self._create(database)

    def connect(self) -> duckdb.DuckDBPyConnection:
        """A connection for one session."""
        connection = self._root.cursor()
        connection.execute(f"USE \"{_CATALOG}\"; SET integer_division = true; SET TimeZone = 'UTC'")
        connection.execute(_MACROS)
        return connection

    def _create(self, database: str) -> None:
        catalogue = Catalogue(self._root, self.changes)
        there = catalogue.own_database()
        if database and there is None:
            catalogue.create_database(database)
        elif database and there != database:
            raise ValueError(f"the file has the database {there}, not {database}")

    def close(self) -> None:
        """Write the memory to the file, and close it."""
        self._root.execute(f'USE memory; DETACH "{_CATALOG}"')
        self._root.close()


@dataclass(frozen=True)
class Failure:
    """A statement that DuckDB has refused: its message, and the statement's table and verb."""

    text: str
    session_id: int
    database: str
    table: Table | None
    verb: str

    def explain(self) -> SqlError:
        """The error translated to SQL Server's."""
        # The message of a CHECK ends with that of the error() in it.
        _, is_check, words = self.text.rpartition("(Error: ")
        if own := _OWN.search(words.removesuffix(")") if is_check else self.text):
            return SqlError(int(own[1]), own[2])
        for pattern, explain in _EXPLANATIONS:
            if pattern.search(self.text) and (found := explain(self)) is not None:
                return found
        return SqlError(50000, f"the SQL Server double could not run this: {self.text}")


def _conflict(failure: Failure) -> SqlError:
    return deadlock_victim(failure.session_id)


def _gone(failure: Failure) -> SqlError | None:
    """Error 208, if another session has dropped the table after this one had found it."""
    match = re.search(r"Table with name (\S+) does not exist", failure.text)
    return unknown_object(match[1]) if match else None


def _duplicate(failure: Failure) -> SqlError | None:
    table = failure.table
    if table is None:
        return None
    named = ", ".join(f"{re.escape(name)}: (.*)" for name in table.key)
    match = re.search(f'uplicate key "{named}"', failure.text, re.DOTALL)
    match = match or re.search('uplicate key "(.*)"', failure.text, re.DOTALL)
    return duplicate_key(table.key_name, table.full_name, ", ".join(match.groups()) if match else "")


def _null(failure: Failure) -> SqlError | None:
    match = re.search(r"NOT NULL constraint failed: (.*)", failure.text)
    if failure.table is None or match is None:
        return None
    column = match[1].removeprefix(f"{failure.table.name}.")
    return null_not_allowed(column, f"{failure.database}.{failure.table.full_name}", failure.verb)


def _overflow(failure: Failure) -> SqlError:
    return SqlError(8115, f"Arithmetic overflow error converting expression to data type {_target(failure)}.")


def _conversion(failure: Failure) -> SqlError:
    if re.search(r"date|time", failure.text, re.IGNORECASE):
        return SqlError(241, "Conversion failed when converting date and/or time from character string.")
    value = re.search(r"string '(.*)' to|\"(.*)\" to", failure.text, re.DOTALL)
    converted = f" the nvarchar value '{value[1] or value[2]}'" if value else ""
    return SqlError(245, f"Conversion failed when converting{converted} to data type {_target(failure)}.")


def _target(failure: Failure) -> str:
    """The last type that DuckDB names, in T-SQL."""
    names = _TARGET.findall(failure.text) or ["DECIMAL"]
    return "numeric" if names[-1].startswith("DECIMAL") else _TSQL_NAMES.get(names[-1], names[-1].lower())


_EXPLANATIONS: list[tuple[re.Pattern[str], Callable[[Failure], SqlError | None]]] = [
    (re.compile(r"conflict|Failed to commit|has been (altered|dropped)", re.IGNORECASE), _conflict),
    (re.compile(r"Table with name"), _gone),
    (re.compile(r"uplicate key"), _duplicate),
    (re.compile(r"NOT NULL constraint failed"), _null),
    (re.compile(r"out of range|overflow|doesn't fit|could not cast value", re.IGNORECASE), _overflow),
    (re.compile(r"Conversion Error"), _conversion),
]
