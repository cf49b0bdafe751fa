"""T-SQL that deletes or marks the rows of the sink whose key is not in a staging table.

In every statement t is the sink table and s the staging table.
"""

from datetime import datetime

from etl.model.pipeline import Pipeline, TableName
from etl.sqlserver.merge_sql import same_key
from etl.sqlserver.sql import quote_name, quote_table, quote_time


def mark_names(pipeline: Pipeline) -> list[str]:
    """The sink's column for the time at which a row was found to be gone, if the pipeline marks such rows."""
    return [pipeline.mark_column] if pipeline.deletes == "mark" else []


def count_standing(pipeline: Pipeline) -> str:
    """One row: how many rows the sink has, without the marked ones."""
    marked = " AND ".join(f"t.{quote_name(name)} IS NULL" for name in mark_names(pipeline)) or "1 = 1"
    return f"SELECT COUNT_BIG(*) FROM {quote_table(pipeline.sink)} AS t WHERE {marked}"


def count_absent(pipeline: Pipeline, staging: TableName) -> str:
    """One row: how many rows of the sink are absent from staging, without the marked ones."""
    return f"SELECT COUNT_BIG(*) FROM {quote_table(pipeline.sink)} AS t WHERE {is_absent(pipeline, staging)}"


def remove_absent(pipeline: Pipeline, staging: TableName, at: datetime) -> str:
    """Delete the rows of the sink that are absent from staging, or mark them with a time."""
    sink, condition = quote_table(pipeline.sink), is_absent(pipeline, staging)
    for name in mark_names(pipeline):
        return f"UPDATE t SET t.{quote_name(name)} = {quote_time(at)} FROM {sink} AS t WHERE {condition}"
    return f"DELETE t FROM {sink} AS t WHERE {condition}"


def is_absent(pipeline: Pipeline, staging: TableName) -> str:
    """A condition: row t is not in staging, and not marked."""
    unmarked = [f"t.{quote_name(name)} IS NULL" for name in mark_names(pipeline)]
    missing = f"NOT EXISTS (SELECT 1 FROM {quote_table(staging)} AS s WHERE {same_key(pipeline)})"
    return " AND ".join([*unmarked, missing])
