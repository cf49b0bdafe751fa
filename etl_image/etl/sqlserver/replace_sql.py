"""T-SQL that makes the sink table equal to a staging table, which holds all rows of the source.

The table is changed and not exchanged: grants, indexes, foreign keys and triggers stay. In every statement t is the
sink table and s the staging table.
"""

from etl.model.pipeline import Pipeline
from etl.model.table_name import TableName
from etl.sqlserver.merge_sql import differs, is_marked, same_key, update_rows
from etl.sqlserver.sql import key_texts, quote_names, quote_table


def find_duplicate_key(pipeline: Pipeline, staging: TableName) -> str:
    """One row if a key is there more than once: its columns as text, and how often; else none."""
    return (
        f"SELECT TOP (1) {', '.join(key_texts(pipeline))}, COUNT_BIG(*) FROM {quote_table(staging)}"
        f" GROUP BY {quote_names(pipeline.key)} HAVING COUNT_BIG(*) > 1"
    )


def count_changes(pipeline: Pipeline, staging: TableName) -> str:
    """One row: how many rows of staging have their key in the sink, and how many of these differ there."""
    # SQL Server refuses an aggregate over a subquery (error 130).
    return (
        f"SELECT COUNT_BIG(*), COUNT_BIG([differing]) FROM (SELECT CASE WHEN {_is_to_update(pipeline)} THEN 1 END"
        f" AS [differing] FROM {quote_table(pipeline.sink)} AS t JOIN {quote_table(staging)} AS s"
        f" ON {same_key(pipeline)}) AS compared"
    )


def lock_table(pipeline: Pipeline) -> str:
    """Wait for the readers of the sink table, and keep others out of it until the transaction ends.

    Under READ COMMITTED a scan of rows that are being deleted and inserted counts fewer than there are before or after.
    """
    return f"SELECT TOP (1) 1 FROM {quote_table(pipeline.sink)} WITH (TABLOCKX, HOLDLOCK)"


def update_differing(pipeline: Pipeline, staging: TableName) -> str:
    """Update the rows of the sink that differ from those of their key in staging; marks are removed."""
    return update_rows(pipeline, staging, _is_to_update(pipeline))


def delete_all(pipeline: Pipeline) -> str:
    """Delete all rows of the sink. No TRUNCATE: that needs the right to alter the table, and refuses foreign keys."""
    return f"DELETE FROM {quote_table(pipeline.sink)}"


def _is_to_update(pipeline: Pipeline) -> str:
    return " OR ".join([differs(pipeline), *is_marked(pipeline)])
