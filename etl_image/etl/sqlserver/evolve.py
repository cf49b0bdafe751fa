"""Columns that a pipeline has gained: they are added to the sink table, and recorded until a run has filled them.

The record, `etl.backfill`, also has the columns of the sink table that the pipeline does not list: loads bring rows
without their values, so a run is to fill one when the pipeline lists it (again). An added column is nullable in the
sink, whatever the pipeline says: rows that the source does not have any more never get a value.
"""

from collections.abc import Collection

from etl.model.names import as_sql_server_sees
from etl.model.pipeline import Pipeline
from etl.sqlserver import backfill, own_rows
from etl.sqlserver import sql as sink_sql
from etl.sqlserver.ledger import TABLES_LOCK
from etl.sqlserver.sink import Sink

_LONGEST = 63
"""Bytes of the longest name of Postgres."""


def add_columns(sink: Sink, pipeline: Pipeline, present: Collection[str]) -> list[str]:
    """Add the columns that the sink table lacks, record those that the load leaves out, and commit; returns the added.

    `present`: the columns that it has. The record comes before the rows that lack the values.
    """
    added, left_out = _find_changes(sink, pipeline, present)
    if added or left_out:
        sink.lock(TABLES_LOCK, 60_000)  # another load may do it
        added, left_out = _find_changes(sink, pipeline, _present(sink, pipeline))
    _record(sink, pipeline, left_out)
    _add(sink, pipeline, added)
    sink.commit()
    return added


def prepare_columns(sink: Sink, pipeline: Pipeline) -> list[str]:
    """Add the columns that the sink table lacks, as its administrator, whose statements commit; returns their names."""
    added = backfill.lacking(pipeline, set(_present(sink, pipeline)))
    _add(sink, pipeline, added)
    return added


def _present(sink: Sink, pipeline: Pipeline) -> list[str]:
    return [name for (name,) in sink.rows(sink_sql.find_columns(pipeline.sink))]


def _find_changes(sink: Sink, pipeline: Pipeline, present: Collection[str]) -> tuple[list[str], list[str]]:
    """The columns that the sink table lacks, and others of which the pipeline is to have an open record.

    They are those that it does not list, and those that another pipeline of a shared table may have added before it.
    """
    listed = set(map(as_sql_server_sees, [*pipeline.columns, *sink_sql.own_names(pipeline)]))
    # Names that no column of Postgres can have are never listed.
    others = [name for name in present if as_sql_server_sees(name) not in listed and len(name.encode()) <= _LONGEST]
    if others:
        is_open = {name for name, is_open in sink.rows(backfill.read_added(pipeline)) if is_open}
        others = [name for name in others if name not in is_open]
    if pipeline.own_key:
        others += _added_by_others(sink, pipeline, set(present))
    return backfill.lacking(pipeline, set(present)), others


def _added_by_others(sink: Sink, pipeline: Pipeline, present: set[str]) -> list[str]:
    """The columns without a value in the rows of the pipeline, which others have on record, and it has not."""
    known = {name for name, _ in sink.rows(backfill.read_added(pipeline))}
    recorded = {name for (name,) in sink.rows(backfill.read_of_others(pipeline))}
    names = [name for name in pipeline.columns if name in (recorded & present) - known]
    return [name for name in names if not sink.rows(own_rows.any_value(pipeline, name))]


def _add(sink: Sink, pipeline: Pipeline, names: list[str]) -> None:
    # The record first: without it a column would stay empty. A time that loads set is none that a run fills.
    _record(sink, pipeline, [name for name in names if name in pipeline.columns])
    if names:
        sink.execute(sink_sql.add_columns(sink_sql.sink_table(pipeline), names))


def _record(sink: Sink, pipeline: Pipeline, names: list[str]) -> None:
    """Record columns that a run of the pipeline is to fill."""
    for name in names:
        for statement in backfill.record_added(pipeline, name):
            sink.execute(statement)
