"""Whether a table that is there already takes the rows of a pipeline, and what to change where it does not."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from etl.errors import ConfigurationError
from etl.model.column_types import KEY_COLLATION
from etl.model.pipeline import TableName
from etl.sqlserver.connection import Sink
from etl.sqlserver.sql import Table, object_id, quote_name, quote_table

_FILLED_BY_SERVER = ("an IDENTITY column", "a computed column", "a column of the period of a temporal table")


@dataclass(frozen=True)
class SinkColumn:
    """A column as the sink has it: its type as the DDL here writes it, and its collation, empty where it is no text.

    `filled`: what makes the server fill it and refuse values, empty where it is to be filled.
    """

    tsql: str
    collation: str
    nullable: bool
    has_default: bool
    filled: str


def read_columns(sink: Sink, table: TableName) -> dict[str, SinkColumn]:
    """The columns of a table that is there, in its order."""
    # INFORMATION_SCHEMA shows the default only to whoever may see its definition, which loads need not.
    marks = {
        name: (default_id != 0, "".join(kind for kind, is_so in zip(_FILLED_BY_SERVER, flags, strict=True) if is_so))
        for name, default_id, *flags in sink.rows(
            "SELECT name, default_object_id, is_identity, is_computed, generated_always_type FROM sys.columns"
            f" WHERE object_id = {object_id(table)}"
        )
    }
    found = sink.rows(
        "SELECT COLUMN_NAME, DATA_TYPE, CHARACTER_MAXIMUM_LENGTH, NUMERIC_PRECISION, NUMERIC_SCALE,"
        " DATETIME_PRECISION, COLLATION_NAME, IS_NULLABLE FROM INFORMATION_SCHEMA.COLUMNS"
        " WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? ORDER BY ORDINAL_POSITION",
        table.schema_name,
        table.table,
    )
    return {
        name: SinkColumn(
            _written(*described),
            collation or "",
            nullable == "YES",
            marks[name][0],
            "a rowversion" if described[0] == "timestamp" else marks[name][1],
        )
        for name, *described, collation, nullable in found
    }


def check_table(table: Table, found: Mapping[str, SinkColumn]) -> None:
    """Compare the columns that a table has with those that it needs. Raises ConfigurationError for the first problem.

    Columns that it has beyond them may stay, if rows can do without them.
    """
    for name, column in table.columns.items():
        if name not in found:
            _refuse(table, f"has no column {name}", f"ADD {quote_name(name)} {column.tsql} NULL")
        there = found[name]
        # A column of a key cannot be altered, for its index depends on it.
        altered = f"ALTER COLUMN {quote_name(name)} {column.tsql} {'NULL' if column.nullable else 'NOT NULL'}"
        alter = "" if name in table.key else altered
        if there.filled:
            _refuse(table, f"has {name} as {there.filled}, which takes no values")
        if there.tsql != column.tsql:
            _refuse(table, f"has {name} as {there.tsql}, {column.tsql} is needed", alter)
        if name in table.key and column.is_text and "_BIN" not in there.collation.upper():
            _refuse(
                table,
                f"has {name} with the collation {there.collation}; in the key {KEY_COLLATION} is needed, or keys that"
                " differ in case only would be one",
            )
    for name, there in found.items():
        if name not in table.columns and not (there.nullable or there.has_default or there.filled):
            _refuse(
                table,
                f"has a column {name} that no row of the pipeline fills, and that is NOT NULL without a default",
                f"ALTER COLUMN {quote_name(name)} {there.tsql} NULL",
            )


def _refuse(table: Table, problem: str, alter: str = "") -> NoReturn:
    quoted = quote_table(table.name)
    either = f"ALTER TABLE {quoted} {alter}; or " if alter else ""
    raise ConfigurationError(
        f"sink table {table.name} {problem}. Have it changed: {either}DROP TABLE {quoted}, which a load"
        " makes anew; then run with full_refresh."
    )


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
