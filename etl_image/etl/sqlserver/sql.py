"""T-SQL as text: quoting, tables, locks, and statements that several modules send.

Names and values in T-SQL are quoted by the functions of this module only.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal

from etl.model.column_types import KEY_COLLATION, ColumnType, parse_column_type
from etl.model.pipeline import OWN_SCHEMAS, Pipeline, TableName
from etl.model.version_kind import TIME_TYPES, Version
from etl.model.version_zone import as_local

STAGING = OWN_SCHEMAS[1]
"""Schema of the staging tables."""
STAGING_NAME = re.compile(r"(?P<pipeline>\w+)_\d{14}_[0-9a-f]{12}")
"""Name of a staging table: its pipeline, and when it was created (UTC)."""
Owner = Literal["Transaction", "Session"]


@dataclass(frozen=True)
class Table:
    """A table to create: columns with their types, and the key, which is no constraint in a heap.

    `collations`: of text columns of the key, if not KEY_COLLATION. `indexed`: the columns of a second index, if any.
    """

    name: TableName
    columns: dict[str, ColumnType]
    key: tuple[str, ...]
    heap: bool = False
    collations: Mapping[str, str] = field(default_factory=dict)
    indexed: tuple[str, ...] = ()


def quote_name(name: str) -> str:
    """A SQL Server identifier, quoted."""
    return "[" + name.replace("]", "]]") + "]"


def quote_names(names: Iterable[str]) -> str:
    """SQL Server identifiers, quoted, with commas between them."""
    return ", ".join(map(quote_name, names))


def quote_text(value: str) -> str:
    """A SQL Server Unicode literal."""
    return "N'" + value.replace("'", "''") + "'"


def quote_time(value: datetime) -> str:
    """A SQL Server datetime2(6) of a time in UTC, the same in every language setting."""
    return f"CAST({quote_text(value.replace(tzinfo=None).isoformat(timespec='microseconds'))} AS datetime2(6))"


def quote_version(pipeline: Pipeline, value: Version) -> str:
    """A literal of a version, as the sink's column holds it."""
    if isinstance(value, int):
        return str(value)
    if pipeline.version_kind == "day":
        return f"CAST({quote_text(value.date().isoformat())} AS date)"
    return quote_time(as_local(value, pipeline.version_zone))


def quote_table(table: TableName) -> str:
    """A SQL Server table, quoted."""
    return f"{quote_name(table.schema_name)}.{quote_name(table.table)}"


def sink_table(pipeline: Pipeline) -> Table:
    """The sink table of a pipeline, with an index on the version, for the rows of a window, and the column of marks."""
    indexed = (pipeline.version,) if pipeline.version else ()
    columns = pipeline.types | {name: parse_column_type("timestamptz null") for name in mark_names(pipeline)}
    return Table(pipeline.sink, columns, tuple(pipeline.key), indexed=indexed)


def keys_table(pipeline: Pipeline, name: str, collations: Mapping[str, str] | None = None) -> Table:
    """The staging table of a partition of keys: rows that the source has kept since have a key alone."""
    table = staging_table(pipeline, name, collations)
    columns = {
        name: column if name in pipeline.key else replace(column, nullable=True)
        for name, column in table.columns.items()
    }
    return replace(table, columns=columns)


def staging_table(pipeline: Pipeline, name: str, collations: Mapping[str, str] | None = None) -> Table:
    """A heap with the columns of the sink table, and the collations of its key."""
    # With the same names, types and collations the two join without conversion.
    table = TableName(schema_name=STAGING, table=name)
    return Table(table, pipeline.types, tuple(pipeline.key), heap=True, collations=collations or {})


def create_table(table: Table) -> str:
    """DDL of a table; the collation of text columns in its key distinguishes case and accents, as Postgres does."""
    lines = []
    for name, column in table.columns.items():
        collation = ""
        if name in table.key and column.is_text:
            collation = f" COLLATE {table.collations.get(name, KEY_COLLATION)}"
        lines.append(f"{quote_name(name)} {column.tsql}{collation} {'NULL' if column.nullable else 'NOT NULL'}")
    if table.key and not table.heap:
        # Without a name of ours, which another table of the schema may have, or which may be too long.
        lines.append(f"PRIMARY KEY ({quote_names(table.key)})")
    if table.indexed:
        lines.append(f"INDEX {_index_name(table)} ({quote_names(table.indexed)})")
    return f"CREATE TABLE {quote_table(table.name)} ({', '.join(lines)})"


def add_columns(table: Table, names: Iterable[str]) -> str:
    """DDL that adds columns to a table with rows, which have no value in them."""
    added = ", ".join(f"{quote_name(name)} {table.columns[name].tsql} NULL" for name in names)
    return f"ALTER TABLE {quote_table(table.name)} ADD {added}"


def find_columns(table: TableName) -> str:
    """The names of a table's columns, one a row; none if it does not exist."""
    return f"SELECT [name] FROM sys.columns WHERE [object_id] = {object_id(table)}"


def create_index(table: Table) -> str:
    """DDL of a table's index, for an existing table without it."""
    return f"CREATE INDEX {_index_name(table)} ON {quote_table(table.name)} ({quote_names(table.indexed)})"


def session_of_load(lock_timeout: timedelta) -> str:
    """Settings of a session that changes rows: an error ends its transaction, and no wait for a lock is longer.

    Without LOCK_TIMEOUT a statement waits without end for a reader that leaves its transaction open.
    """
    return f"SET XACT_ABORT ON; SET LOCK_TIMEOUT {int(lock_timeout.total_seconds() * 1000)}"


def load_lock(pipeline: Pipeline) -> str:
    """The application lock for changing the rows of a sink table."""
    return f"etl: {pipeline.sink_identity}"


def staging_lock(name: str) -> str:
    """The application lock that an attempt holds while it is connected: its staging table is in use."""
    return f"etl: staging table {name}"


def find_staging_tables() -> str:
    """The names of all staging tables, of every pipeline."""
    return f"SELECT TABLE_NAME FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA = {quote_text(STAGING)}"


def lock(resource: str, timeout_ms: int, owner: Owner = "Transaction") -> str:
    """sp_getapplock, released with its owner. One row: the status, negative if not granted."""
    return (
        "DECLARE @granted int;"
        f" EXEC @granted = sp_getapplock @Resource = {quote_text(resource)}, @LockMode = N'Exclusive',"
        f" @LockOwner = N'{owner}', @LockTimeout = {int(timeout_ms)}; SELECT @granted;"
    )


def drop_if_exists(table: TableName) -> str:
    """Drop a table, if it is there."""
    return f"DROP TABLE IF EXISTS {quote_table(table)}"


def any_row(table: TableName) -> str:
    """One row if a table has any, else none."""
    return f"SELECT TOP (1) 1 FROM {quote_table(table)}"


def has_key(pipeline: Pipeline) -> str:
    """The condition for the row of a key; its parameters are numbers and booleans, and text for all other types."""
    kinds = {name: pipeline.types[name] for name in pipeline.key}
    values = {
        name: "?" if kind.is_text or kind.is_integer else f"CAST(? AS {kind.tsql})" for name, kind in kinds.items()
    }
    return " AND ".join(f"{quote_name(name)} = {value}" for name, value in values.items())


def count_rows(table: TableName) -> str:
    """One row: how many rows a table has."""
    return f"SELECT COUNT_BIG(*) FROM {quote_table(table)}"


def object_id(table: TableName) -> str:
    """An expression: the object id of a table, NULL if it does not exist."""
    return f"OBJECT_ID({quote_text(quote_table(table))}, N'U')"


def find_table(table: TableName) -> str:
    """One row: the object id of a table, NULL if it does not exist."""
    return f"SELECT {object_id(table)}"


def time_text(column: str, aggregate: str = "") -> str:
    """A datetime2(6) column, or an aggregate of it, as ISO 8601 text, which every driver reads exactly."""
    value = f"{aggregate}({quote_name(column)})" if aggregate else quote_name(column)
    return f"CONVERT(nvarchar(33), {value}, 126)"


def key_texts(pipeline: Pipeline, table: str = "") -> list[str]:
    """Expressions for the columns of the key: each value as text, which Postgres reads, or as a number.

    `table`: an alias and a dot.
    """
    return [_as_text(pipeline, name, table) for name in pipeline.key]


def _as_text(pipeline: Pipeline, name: str, table: str = "") -> str:
    kind, value = pipeline.types[name], f"{table}{quote_name(name)}"
    if kind.row.family == "float":  # CONVERT would round it
        return value
    return f"CONVERT(nvarchar(33), {value}, 126)" if kind.name in TIME_TYPES else f"CONVERT(nvarchar(450), {value})"


def mark_names(pipeline: Pipeline) -> list[str]:
    """The sink's column for the time at which a row was found to be gone, if the pipeline marks such rows."""
    return [pipeline.mark_column] if pipeline.deletes == "mark" else []


def unmarked(pipeline: Pipeline, table: str = "") -> list[str]:
    """Conditions: a row is not marked as gone; none if the pipeline marks none. `table`: an alias and a dot."""
    return [f"{table}{quote_name(name)} IS NULL" for name in mark_names(pipeline)]


def newest_rows(pipeline: Pipeline, count: int, *, has_mark: bool = True) -> str:
    """The newest rows of the sink: each column of the key as text, or as a number, and the version as text.

    `has_mark`: whether the sink table has the column of marks, which the first load of a pipeline that marks adds.
    """
    texts = [*key_texts(pipeline), _as_text(pipeline, pipeline.version_column)]
    conditions = [*(unmarked(pipeline) if has_mark else []), "1 = 1"]
    return (
        f"SELECT TOP ({int(count)}) {', '.join(texts)}"
        f" FROM {quote_table(pipeline.sink)} WHERE {' AND '.join(conditions)}"
        f" ORDER BY {quote_name(pipeline.version_column)} DESC"
    )


def _index_name(table: Table) -> str:
    # Unique within its table; a name has 128 characters at most.
    return quote_name("_".join(["ix", *table.indexed])[:128])
