"""Rows that no window reaches: of old versions, but not in the sink, or there at another version."""

import pyarrow as pa

from etl.errors import DataError
from etl.model.pipeline import TableName
from etl.model.version_zone import as_local
from etl.model.window import KEYS, Partition, Window
from etl.sqlserver import deletes_sql
from etl.sqlserver import sql as sink_sql
from etl.sqlserver.sink import Sink
from etl.steps import extract
from etl.steps.classify import Classifier
from etl.steps.context import StepContext
from etl.steps.merge import Loaded, merge
from etl.steps.progress import Progress

MOST = 10_000
"""Rows that a comparison of keys brings; for more a run with full_refresh is the way."""
_READ_AT_ONCE = 1000


def bring(work: StepContext, sink: Sink, staging: TableName, table: TableName) -> Loaded:
    """Read such rows by their keys, and write them; `table` is a staging table for whole rows.

    As where rows are inserted with their old versions, or a key is assigned anew at a lower one.
    Raises DataError for more than MOST of them.
    """
    low = work.partition.window.low
    if low is None:
        return Loaded()  # the window reaches all
    pipeline = work.pipeline
    found = sink.rows(deletes_sql.find_missing(pipeline, staging, as_local(low, pipeline.version_zone), MOST + 1))
    if len(found) > MOST:
        raise DataError(
            f"{work}: more than {MOST} rows of {pipeline.source} are not in {pipeline.sink}, or at another version:"
            f" their {pipeline.version} was older than every window. Nothing was changed; run with full_refresh."
        )
    for first in range(0, len(found), _READ_AT_ONCE):
        _copy(work, sink, table, [list(key) for key in found[first : first + _READ_AT_ONCE]])
    if not found:
        return Loaded()
    return merge(_of_keys(work, []), sink, table, sink.value(sink_sql.count_rows(table)))


def _copy(work: StepContext, sink: Sink, table: TableName, keys: list[list[str]]) -> None:
    """Copy the rows of some keys, as far as the filter keeps them and they can be carried."""
    rows = _of_keys(work, keys)
    rejects = f"{work.staging.new_folder('run')}/rejects/rows.parquet"
    with (
        extract.reading(rows) as source,
        Classifier(rows, source.schema, rejects, Progress("load", len(keys))) as classifier,
    ):
        kept: list[pa.RecordBatch] = list(classifier.kept(source.batches()))
    sink.bulk_copy(table, classifier.schema, iter(kept))


def _of_keys(work: StepContext, keys: list[list[str]]) -> StepContext:
    window = Window(high=work.partition.window.high, refresh="all")
    return StepContext(work.pipeline, work.run_id, Partition(window=window, id=KEYS, keys=keys), work.settings)
