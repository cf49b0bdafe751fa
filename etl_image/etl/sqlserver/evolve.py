"""Columns that a pipeline has gained: they are added to the sink table, and recorded until a run has filled them.

A column is nullable in the sink, whatever the pipeline says: rows that the source does not have any more never get a
value.
"""

from etl.model.pipeline import Pipeline
from etl.sqlserver import backfill
from etl.sqlserver import sql as sink_sql
from etl.sqlserver.ledger import TABLES_LOCK
from etl.sqlserver.sink import Sink


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
    return backfill.lacking(pipeline, {name for (name,) in sink.rows(sink_sql.find_columns(pipeline.sink))})


def prepare_columns(sink: Sink, pipeline: Pipeline) -> list[str]:
    """Add the columns that the sink table lacks, as its administrator, whose statements commit; returns their names."""
    added = find_lacking(sink, pipeline)
    _add(sink, pipeline, added)
    return added


def _add(sink: Sink, pipeline: Pipeline, names: list[str]) -> None:
    # The record first: without it a column would stay empty. A mark is none that a run fills.
    for name in (name for name in names if name in pipeline.columns):
        for statement in backfill.record_added(pipeline, name):
            sink.execute(statement)
    if names:
        sink.execute(sink_sql.add_columns(sink_sql.sink_table(pipeline), names))
