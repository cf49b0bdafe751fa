"""The table etl.replaced: by which rows of the source a pipeline in mode replace has last replaced its sink table."""

from datetime import datetime
from typing import Any, NamedTuple

from etl.model.pipeline import Pipeline
from etl.model.window import definition
from etl.sqlserver import ledger
from etl.sqlserver.sql import quote_table, quote_text, quote_time, time_text

_TABLE, _WATERMARK = map(quote_table, (ledger.REPLACED, ledger.WATERMARK))


class Replaced(NamedTuple):
    """A row of the table: pipeline's definition, source's rows and sum of hashes, the sink's rows."""

    definition: str
    source_rows: int
    source_hash: str
    sink_rows: int
    read_at: datetime
    run_id: str


def read(pipeline: Pipeline) -> str:
    """The row of a pipeline, for `parse`; none before its first run."""
    return (
        f"SELECT r.[definition], r.[source_rows], r.[source_hash], r.[sink_rows], {time_text('read_at')}, r.[run_id]"
        f" FROM {_TABLE} AS r WHERE r.[pipeline] = {quote_text(pipeline.name)}"
    )


def parse(row: Any) -> Replaced:
    """A row of the result of `read`."""
    hashed, source_rows, source_hash, sink_rows, read_at, run_id = row
    return Replaced(hashed, int(source_rows), source_hash, int(sink_rows), ledger.utc(read_at), run_id)


def write(pipeline: Pipeline, replaced: Replaced) -> list[str]:
    """Put a row in the place of that of the pipeline."""
    name, rows, sink_rows = quote_text(pipeline.name), int(replaced.source_rows), int(replaced.sink_rows)
    values = [
        *(name, quote_text(replaced.definition), str(rows), quote_text(replaced.source_hash), str(sink_rows)),
        *(quote_time(replaced.read_at), quote_text(replaced.run_id)),
    ]
    return [
        forget(pipeline),
        f"INSERT INTO {_TABLE} ([pipeline], [definition], [source_rows], [source_hash], [sink_rows], [read_at],"
        f" [run_id]) VALUES ({', '.join(values)})",
    ]


def forget(pipeline: Pipeline) -> str:
    """Delete the row of a pipeline: the next run replaces the sink table, whatever the time at the source is."""
    return f"DELETE FROM {_TABLE} WHERE [pipeline] = {quote_text(pipeline.name)}"


def find_reconciled(pipeline: Pipeline) -> str:
    """The row of a pipeline as `read` selects it, if the watermark is that of its run; else none."""
    name = quote_text(pipeline.name)
    return (
        f"{read(pipeline)} AND EXISTS (SELECT 1 FROM {_WATERMARK} AS w WHERE w.[pipeline] = {name}"
        f" AND w.[run_id] = r.[run_id])"
    )


def is_same(pipeline: Pipeline, replaced: Replaced, source_rows: int, source_hash: str, sink_rows: int) -> bool:
    """Whether neither the pipeline, nor the source's rows, nor the number of the sink's have changed since."""
    now = (definition(pipeline), source_rows, source_hash, sink_rows)
    return now == (replaced.definition, replaced.source_rows, replaced.source_hash, replaced.sink_rows)
