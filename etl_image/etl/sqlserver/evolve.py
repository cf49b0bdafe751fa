"""Columns that a pipeline has gained: they are added to the sink table, and recorded until a run has filled them.

The record is the ledger's table `etl.backfill`. A column is nullable in the sink, whatever the pipeline says: rows that
the source does not have any more never get a value.
"""

from etl.model.pipeline import Pipeline
from etl.sqlserver import sql as sink_sql
from etl.sqlserver.ledger import BACKFILL, TABLES_LOCK, is_of
from etl.sqlserver.sink import Sink
from etl.sqlserver.sql import quote_name, quote_table, quote_text

_BACKFILL = quote_table(BACKFILL)


def lacking(pipeline: Pipeline, present: set[str]) -> list[str]:
    """The columns that an existing sink table with the columns `present` gets: none of key and version; the mark."""
    wanted = [*pipeline.columns, *sink_sql.mark_names(pipeline)]
    return [name for name in wanted if present and name not in {*present, *pipeline.key, pipeline.version or ""}]


def add_columns(sink: Sink, pipeline: Pipeline) -> list[str]:
    """Add the columns that the sink table lacks, and commit; returns their names."""
    if find_lacking(sink, pipeline):
        sink.lock(TABLES_LOCK, 60_000)  # another load may add them
    added = find_lacking(sink, pipeline)
    _add(sink, pipeline, added)
    sink.commit()
    return added


def find_lacking(sink: Sink, pipeline: Pipeline) -> list[str]:
    """The columns that the sink table lacks; none if there is no table yet."""
    return lacking(pipeline, {name for (name,) in sink.rows(sink_sql.find_columns(pipeline.sink))})


def prepare_columns(sink: Sink, pipeline: Pipeline) -> list[str]:
    """Add the columns that the sink table lacks, as its administrator, whose statements commit; returns their names."""
    added = find_lacking(sink, pipeline)
    _add(sink, pipeline, added)
    return added


def read_added(pipeline: Pipeline) -> str:
    """The names of the columns that have been added to the sink table, and whether a run is to fill them (1)."""
    is_open = "CASE WHEN [filled_at] IS NULL THEN 1 ELSE 0 END"
    return f"SELECT [column_name], {is_open} FROM {_BACKFILL} WHERE {is_of(pipeline)}"


def record_filled(pipeline: Pipeline, run_id: str) -> str:
    """Record that a run has filled the columns that were added."""
    return (
        f"UPDATE {_BACKFILL} SET [filled_at] = SYSUTCDATETIME(), [run_id] = {quote_text(run_id)}"
        f" WHERE {is_of(pipeline)} AND [filled_at] IS NULL"
    )


def _add(sink: Sink, pipeline: Pipeline, names: list[str]) -> None:
    # The record first: without it a column would stay empty. A mark is none that a run fills.
    for name in (name for name in names if name in pipeline.columns):
        this = f"{is_of(pipeline)} AND {quote_name('column_name')} = {quote_text(name)}"
        sink.execute(f"UPDATE {_BACKFILL} SET [added_at] = SYSUTCDATETIME(), [filled_at] = NULL WHERE {this}")
        sink.execute(
            f"INSERT INTO {_BACKFILL} ([pipeline], [column_name], [added_at]) SELECT {quote_text(pipeline.name)},"
            f" {quote_text(name)}, SYSUTCDATETIME() WHERE NOT EXISTS (SELECT 1 FROM {_BACKFILL} WHERE {this})"
        )
    if names:
        sink.execute(sink_sql.add_columns(sink_sql.sink_table(pipeline), names))
