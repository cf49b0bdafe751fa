"""T-SQL that deletes or marks the rows of the sink whose key is not in a staging table.

In every statement t is the sink table and s the staging table.
"""

from datetime import datetime

from etl.model.pipeline import Pipeline
from etl.model.table_name import TableName
from etl.model.version_kind import Version
from etl.sqlserver.merge_sql import same_key, stamp
from etl.sqlserver.own_rows import standing
from etl.sqlserver.sql import (
    key_texts,
    mark_names,
    quote_name,
    quote_names,
    quote_table,
    quote_time,
    quote_version,
)


def count_standing(pipeline: Pipeline) -> str:
    """One row: how many rows of the pipeline the sink has, without the marked ones."""
    condition = " AND ".join(standing(pipeline, "t.") or ["1 = 1"])
    return f"SELECT COUNT_BIG(*) FROM {quote_table(pipeline.sink)} AS t WHERE {condition}"


def count_absent(pipeline: Pipeline, staging: TableName) -> str:
    """One row: how many rows of the sink are absent from staging, without the marked ones."""
    return f"SELECT COUNT_BIG(*) FROM {quote_table(pipeline.sink)} AS t WHERE {is_absent(pipeline, staging)}"


def count_present(pipeline: Pipeline, staging: TableName) -> str:
    """One row: how many keys of staging the sink has."""
    return (
        f"SELECT COUNT_BIG(*) FROM {quote_table(pipeline.sink)} AS t JOIN {quote_table(staging)} AS s"
        f" ON {same_key(pipeline)}"
    )


def find_absent(pipeline: Pipeline, staging: TableName) -> str:
    """The keys of the rows that `count_absent` counts: each column as text."""
    return (
        f"SELECT {', '.join(key_texts(pipeline, 't.'))} FROM {quote_table(pipeline.sink)} AS t"
        f" WHERE {is_absent(pipeline, staging)}"
    )


def find_missing(pipeline: Pipeline, staging: TableName, low: Version, most: int) -> str:
    """The keys of staging, as text, at a version up to `low` that the sink does not have them at; `most` at most."""
    version = quote_name(pipeline.version_column)
    there = " AND ".join([same_key(pipeline), f"t.{version} = s.{version}", *standing(pipeline, "t.")])
    return (
        f"SELECT TOP ({int(most)}) {', '.join(key_texts(pipeline, 's.'))} FROM {quote_table(staging)} AS s"
        f" WHERE s.{version} <= {quote_version(pipeline, low)}"
        f" AND NOT EXISTS (SELECT 1 FROM {quote_table(pipeline.sink)} AS t WHERE {there})"
    )


def insert_keys(pipeline: Pipeline, staging: TableName, conditions: str) -> str:
    """Insert the keys of rows of the sink into staging."""
    names = quote_names(pipeline.key)
    return (
        f"INSERT INTO {quote_table(staging)} ({names}) SELECT {names} FROM {quote_table(pipeline.sink)}"
        f" WHERE {conditions}"
    )


def remove_absent(pipeline: Pipeline, staging: TableName, at: datetime) -> str:
    """Delete the rows of the sink that are absent from staging, or mark them with a time."""
    sink, condition = quote_table(pipeline.sink), is_absent(pipeline, staging)
    for name in mark_names(pipeline):
        assignments = ", ".join([f"t.{quote_name(name)} = {quote_time(at)}", *stamp(pipeline)])
        return f"UPDATE t SET {assignments} FROM {sink} AS t WHERE {condition}"
    return f"DELETE t FROM {sink} AS t WHERE {condition}"


def is_absent(pipeline: Pipeline, staging: TableName) -> str:
    """A condition: row t is of the pipeline, not in staging, and not marked."""
    missing = f"NOT EXISTS (SELECT 1 FROM {quote_table(staging)} AS s WHERE {same_key(pipeline)})"
    return " AND ".join([*standing(pipeline, "t."), missing])
