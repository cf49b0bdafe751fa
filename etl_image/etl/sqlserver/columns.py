"""Checks whether an existing table accepts the rows of a pipeline, with the change that is needed if not."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from etl.errors import ConfigurationError
from etl.model.column_types import KEY_COLLATION
from etl.model.names import as_sql_server_sees
from etl.model.pipeline import TableName
from etl.sqlserver import described
from etl.sqlserver.sink import Sink
from etl.sqlserver.sql import Table, object_id, quote_name, quote_table, quote_text

_FILLED_BY_SERVER = ("an IDENTITY column", "a computed column", "a column of the period of a temporal table")


@dataclass(frozen=True)
class SinkColumn:
    """A column in the sink: its type as our DDL writes it, and its collation, empty if it is no text.

    `filled`: why the server fills it and refuses values, such as IDENTITY; empty for ordinary columns.
    """

    tsql: str
    collation: str
    nullable: bool
    has_default: bool
    filled: str


def read_columns(sink: Sink, table: TableName) -> dict[str, SinkColumn]:
    """The columns of an existing table, in order."""
    # INFORMATION_SCHEMA shows defaults only with VIEW DEFINITION, which loads do not have.
    marks = {
        name: (default_id != 0, "".join(kind for kind, is_so in zip(_FILLED_BY_SERVER, flags, strict=True) if is_so))
        for name, default_id, *flags in sink.rows(
            "SELECT name, default_object_id, is_identity, is_computed, generated_always_type FROM sys.columns"
            f" WHERE object_id = {object_id(table)}"
        )
    }
    found = sink.rows(described.find_columns(table))
    return {
        name: SinkColumn(
            described.written(*rest),
            collation or "",
            nullable == "YES",
            marks[name][0],
            "a rowversion" if rest[0] == "timestamp" else marks[name][1],
        )
        for name, *rest, collation, nullable in found
    }


def check_table(table: Table, found: Mapping[str, SinkColumn]) -> None:
    """Compare a table's columns with those that are needed. Raises ConfigurationError for the first problem.

    Other columns are accepted if they are nullable or have a default.
    """
    for name, column in table.columns.items():
        if name not in found:
            _refuse_other_case(table, name, found)
            _refuse(table, f"has no column {name}", f"ADD {quote_name(name)} {column.tsql} NULL")
        present = found[name]
        # A column of the key cannot be altered: its index depends on it.
        altered = f"ALTER COLUMN {quote_name(name)} {column.tsql} {'NULL' if column.nullable else 'NOT NULL'}"
        alter = "" if name in table.key else altered
        if present.filled:
            _refuse(table, f"has {name} as {present.filled}, which takes no values")
        if present.tsql != column.tsql:
            _refuse(table, f"has {name} as {present.tsql}, {column.tsql} is needed", alter)
        if name in table.key and column.is_text and "_BIN" not in present.collation.upper():
            _refuse(
                table,
                f"has {name} with the collation {present.collation}; in the key {KEY_COLLATION} is needed, or keys that"
                " differ in case only would be one",
            )
    for name, present in found.items():
        if name not in table.columns and not (present.nullable or present.has_default or present.filled):
            _refuse(
                table,
                f"has a column {name} that no row of the pipeline fills, and that is NOT NULL without a default",
                f"ALTER COLUMN {quote_name(name)} {present.tsql} NULL",
            )


def _refuse_other_case(table: Table, name: str, found: Mapping[str, SinkColumn]) -> None:
    """Refuse a column that has the name in another case: SQL Server takes both for one, and the bulk copy not."""
    for other in found:
        if as_sql_server_sees(other) == as_sql_server_sees(name) and other not in table.columns:
            column = f"{quote_table(table.name)}.{quote_name(other)}"
            rename = f"EXEC sp_rename {quote_text(column)}, {quote_text(name)}, 'COLUMN'"
            _refuse(table, f"has {name} as {other}", statement=rename)


def _refuse(table: Table, problem: str, alter: str = "", *, statement: str = "") -> NoReturn:
    quoted = quote_table(table.name)
    statement = f"ALTER TABLE {quoted} {alter}" if alter else statement
    either = f"{statement}; or " if statement else ""
    raise ConfigurationError(
        f"sink table {table.name} {problem}. Have it changed: {either}DROP TABLE {quoted}, which a load"
        " makes anew; then run with full_refresh."
    )
