"""Checks whether an existing table accepts the rows of a pipeline, with the change that is needed if not."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from etl.errors import ConfigurationError
from etl.model.column_types import KEY_COLLATION, ColumnType
from etl.model.names import as_sql_server_sees
from etl.model.table_name import TableName
from etl.sqlserver import described
from etl.sqlserver.sink import Sink
from etl.sqlserver.sql import Table, object_id, quote_name, quote_table, quote_text

_SIZES = re.compile(r"\w+")
_INTEGERS = ("smallint", "int", "bigint")
_WIDER = {
    "real": ("float(53)",),
    "time": ("time(7)",),
    "timestamp": ("datetime2(7)",),
    "timestamptz": ("datetime2(7)", "datetimeoffset(6)", "datetimeoffset(7)"),
}
"""Other types of SQL Server that hold each value of a declared one; a time in UTC gets the offset +00:00."""
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


def read_columns(sink: Sink, tables: Sequence[TableName]) -> dict[TableName, dict[str, SinkColumn]]:
    """The columns of each of some tables, in order; none of a table that does not exist."""
    # INFORMATION_SCHEMA shows defaults only with VIEW DEFINITION, which loads do not have. Asked second: a table that
    # another load creates between the two statements is not there, and creating tables checks that again.
    marked = " UNION ALL ".join(
        f"SELECT {place} AS place, name, default_object_id, is_identity, is_computed, generated_always_type"
        f" FROM sys.columns WHERE object_id = {object_id(table)}"
        for place, table in enumerate(tables)
    )
    columns = sink.rows(described.find_columns(*tables))
    marks = {
        (place, name): (default_id != 0, [kind for kind, is_so in zip(_FILLED_BY_SERVER, flags, strict=True) if is_so])
        for place, name, default_id, *flags in sink.rows(marked)
    }
    found: dict[TableName, dict[str, SinkColumn]] = {table: {} for table in tables}
    for place, name, *rest, collation, nullable in columns:
        if (place, name) not in marks:
            continue  # Dropped between the two statements.
        has_default, filled = marks[place, name]
        found[tables[place]][name] = SinkColumn(
            described.written(*rest),
            collation or "",
            nullable == "YES",
            has_default,
            "a rowversion" if rest[0] == "timestamp" else "".join(filled),
        )
    return found


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
        if not accepts(present, column, is_joined=name in (*table.key, *table.indexed)):
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


def accepts(have: SinkColumn, need: ColumnType, *, is_joined: bool) -> bool:
    """Whether a column of the sink holds every value of a type exactly. `is_joined`: it is of the key, or the version.

    The staging table has the types that are needed, so that only the statements that write the rows convert. Of a key
    the server compares the columns themselves, which is quick for these types.
    """
    if have.tsql == need.tsql:
        return True
    name, *sizes = _SIZES.findall(have.tsql)
    if need.is_integer and name in _INTEGERS:
        return _INTEGERS.index(name) >= _INTEGERS.index(need.tsql)
    if need.name in ("varchar", "text") and name == "nvarchar":
        # A key cannot be nvarchar(max).
        return not is_joined if sizes == ["max"] else need.length is not None and int(sizes[0]) >= need.length
    if is_joined:
        return False
    if need.name == "numeric" and name == "decimal":
        precision, scale = map(int, sizes)
        whole = (need.precision or 0) - (need.scale or 0)
        return scale >= (need.scale or 0) and precision - scale >= whole
    return have.tsql in _WIDER.get(need.name, ())


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
