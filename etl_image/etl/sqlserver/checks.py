"""T-SQL of reconcile's checks of the sink, and of the constraints that make some of them unnecessary."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from etl.model.pipeline import Pipeline
from etl.model.predicate_sql import render_tsql
from etl.model.table_name import TableName
from etl.model.window import Window
from etl.sqlserver.own_rows import owned, standing
from etl.sqlserver.sql import Table, create_index, object_id, quote_name, quote_table, quote_version


@dataclass(frozen=True)
class Index:
    """An index over all rows of a table: its columns in order, and whether it is unique."""

    columns: tuple[str, ...]
    is_unique: bool


def find_required(table: TableName) -> str:
    """The names of the columns that are NOT NULL in the sink, one a row."""
    return f"SELECT [name] FROM sys.columns WHERE [object_id] = {object_id(table)} AND [is_nullable] = 0"


def find_indexes(table: TableName) -> str:
    """The columns of the indexes over all rows, for `read_indexes`."""
    # Type 1 is clustered, 2 nonclustered; others (columnstore, XML, full-text) are not sorted.
    return (
        "SELECT i.[index_id], i.[is_unique], c.[name] FROM sys.indexes AS i"
        " JOIN sys.index_columns AS x ON x.[object_id] = i.[object_id] AND x.[index_id] = i.[index_id]"
        " JOIN sys.columns AS c ON c.[object_id] = x.[object_id] AND c.[column_id] = x.[column_id]"
        f" WHERE i.[object_id] = {object_id(table)} AND i.[type] IN (1, 2) AND i.[is_disabled] = 0"
        " AND i.[is_hypothetical] = 0 AND i.[has_filter] = 0 AND x.[key_ordinal] > 0"
        " ORDER BY i.[index_id], x.[key_ordinal]"
    )


def read_indexes(rows: Iterable[Sequence[object]]) -> list[Index]:
    """The indexes in the result of `find_indexes`."""
    found = []
    for (_, is_unique), columns in groupby(rows, key=lambda row: (row[0], row[1])):
        found.append(Index(tuple(str(row[2]) for row in columns), bool(is_unique)))
    return found


def index_advice(table: Table, indexes: list[Index]) -> str:
    """A sentence with the statement that creates a table's missing index; empty if an index begins with its columns."""
    if not table.indexed or any(index.columns[: len(table.indexed)] == table.indexed for index in indexes):
        return ""
    return (
        f"{table.name} has no index on {', '.join(table.indexed)}, so every run reads the whole table for a few rows."
        f" Create it at a quiet time, since loads wait while it is built: {create_index(table)}"
    )


def count_breaches(pipeline: Pipeline, window: Window, required: Sequence[str]) -> str:
    """One row: how many rows of the window lack a required value, and how many the filter is not true for.

    `required`: the columns that are NOT NULL in the sink, which are not counted; nor are rows that are marked as gone,
    or of another pipeline.
    """
    unsure = [name for name, column in pipeline.types.items() if not column.nullable and name not in required]
    lacking = " OR ".join(f"{quote_name(name)} IS NULL" for name in unsure)
    lacks = f"COUNT_BIG(CASE WHEN {lacking} THEN 1 END)" if unsure else "CAST(0 AS bigint)"
    return (
        f"SELECT {lacks}, COUNT_BIG(CASE WHEN {render_tsql(pipeline.predicate)} THEN NULL ELSE 1 END)"
        f" FROM {quote_table(pipeline.sink)} WHERE {' AND '.join([*standing(pipeline), _in_window(pipeline, window)])}"
    )


def has_unique_key(pipeline: Pipeline, indexes: list[Index]) -> bool:
    """Whether a unique index of the sink excludes duplicates of the pipeline's key."""
    return any(index.is_unique and set(index.columns) <= set(pipeline.key) for index in indexes)


def count_duplicate_keys(pipeline: Pipeline, window: Window) -> str:
    """One row: how many keys are in the sink more than once, within the window."""
    keys = ", ".join(map(quote_name, pipeline.key))
    return (
        f"SELECT COUNT_BIG(*) FROM (SELECT {keys} FROM {quote_table(pipeline.sink)}"
        f" WHERE {' AND '.join([*owned(pipeline), _in_window(pipeline, window)])}"
        f" GROUP BY {keys} HAVING COUNT_BIG(*) > 1) AS duplicates"
    )


def _in_window(pipeline: Pipeline, window: Window) -> str:
    if pipeline.version is None or pipeline.is_log:
        return "1 = 1"
    version = quote_name(pipeline.version_column)
    conditions = [f"{version} <= {quote_version(pipeline, window.high)}"]
    if window.low is not None:
        conditions.append(f"{version} > {quote_version(pipeline, window.low)}")
    return " AND ".join(conditions)
