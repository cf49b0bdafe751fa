"""The table `etl.backfill` of the ledger: columns that were added to a sink table, until a run has filled them."""

from etl.model.names import as_sql_server_sees
from etl.model.pipeline import Pipeline
from etl.sqlserver.ledger import BACKFILL, is_of
from etl.sqlserver.sql import own_names, quote_name, quote_table, quote_text

_BACKFILL = quote_table(BACKFILL)


def lacking(pipeline: Pipeline, present: set[str]) -> list[str]:
    """The columns that an existing sink table with the columns `present` gets; none of key and version."""
    wanted = [*pipeline.columns, *own_names(pipeline)]
    others = set(map(as_sql_server_sees, [*present, *pipeline.key, pipeline.version or ""]))
    return [name for name in wanted if present and as_sql_server_sees(name) not in others]


def read_added(pipeline: Pipeline) -> str:
    """The names of the columns that have been added to the sink table, and whether a run is to fill them (1)."""
    is_open = "CASE WHEN [filled_at] IS NULL THEN 1 ELSE 0 END"
    return f"SELECT [column_name], {is_open} FROM {_BACKFILL} WHERE {is_of(pipeline)}"


def read_of_others(pipeline: Pipeline) -> str:
    """The names of the columns that are recorded of other pipelines, which may share the sink table."""
    return f"SELECT [column_name] FROM {_BACKFILL} WHERE NOT ({is_of(pipeline)})"


def record_added(pipeline: Pipeline, column: str) -> list[str]:
    """Statements that record that a column was added, and is to be filled."""
    this = f"{is_of(pipeline)} AND {quote_name('column_name')} = {quote_text(column)}"
    return [
        f"UPDATE {_BACKFILL} SET [added_at] = SYSUTCDATETIME(), [filled_at] = NULL WHERE {this}",
        f"INSERT INTO {_BACKFILL} ([pipeline], [column_name], [added_at]) SELECT {quote_text(pipeline.name)},"
        f" {quote_text(column)}, SYSUTCDATETIME() WHERE NOT EXISTS (SELECT 1 FROM {_BACKFILL} WHERE {this})",
    ]


def record_filled(pipeline: Pipeline, run_id: str) -> str:
    """Record that a run has filled the columns that were added, of those that the pipeline lists."""
    listed = ", ".join(map(quote_text, pipeline.columns))
    return (
        f"UPDATE {_BACKFILL} SET [filled_at] = SYSUTCDATETIME(), [run_id] = {quote_text(run_id)}"
        f" WHERE {is_of(pipeline)} AND [filled_at] IS NULL AND [column_name] IN ({listed})"
    )
