"""Rows that no window reaches: of old versions, but not in the sink, or there at another version."""

from typing import NamedTuple

from etl.errors import DataError, TryAgainError
from etl.model.pipeline import TableName
from etl.model.window import KEYS, Partition
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


class Copied(NamedTuple):
    """How many rows were copied, and of how many of these a value was changed."""

    rows: int = 0
    adjusted: int = 0


def copy(work: StepContext, sink: Sink, staging: TableName, table: TableName) -> Copied:
    """Copy such rows, found by the keys in staging, to another staging table, for whole rows.

    They are rows that were inserted with their old versions, or whose key was assigned anew at a lower one.
    Raises DataError for more than MOST of them, TryAgainError if not all arrive.
    """
    low = work.partition.window.low
    if low is None:
        return Copied()  # the window reaches all
    pipeline = work.pipeline
    found = sink.rows(deletes_sql.find_missing(pipeline, staging, low, MOST + pipeline.tolerated_rejects + 1))
    if len(found) > MOST + pipeline.tolerated_rejects:
        raise DataError(
            f"{work}: more than {MOST} rows of {pipeline.source} are not in {pipeline.sink}, or at another version:"
            f" their {pipeline.version} was older than every window. Nothing was changed; run with full_refresh."
        )
    chunks = [found[first : first + _READ_AT_ONCE] for first in range(0, len(found), _READ_AT_ONCE)]
    sent = [_copy(work, sink, table, [[str(text) for text in key] for key in chunk]) for chunk in chunks]
    copied = Copied(sum(each.rows for each in sent), sum(each.adjusted for each in sent))
    arrived = int(sink.value(sink_sql.count_rows(table)))
    if arrived != copied.rows:
        raise TryAgainError(f"{work}: of {copied.rows} rows sent {arrived} arrived in the sink; nothing was applied.")
    return copied


def write(work: StepContext, sink: Sink, table: TableName, copied: Copied) -> Loaded:
    """Write the copied rows, whatever their versions in the sink are."""
    if not copied.rows:
        return Loaded()
    return merge(_of_keys(work, []), sink, table, copied.rows).with_adjusted(copied.adjusted)


def _copy(work: StepContext, sink: Sink, table: TableName, keys: list[list[str]]) -> Copied:
    """Copy the rows of some keys, as far as the filter keeps them and they can be carried.

    Raises DataError if more of them break the type rules than the pipeline tolerates.
    """
    rows = _of_keys(work, keys)
    rejects = f"{work.staging.new_folder('run')}/rejects/rows.parquet"
    with (
        extract.reading(rows) as source,
        Classifier(rows, source.schema, rejects, Progress("load", len(keys))) as classifier,
    ):
        sink.bulk_copy(table, classifier.schema, classifier.kept(source.batches()))
        manifest = classifier.verdict(source.manifest())
    return Copied(manifest.kept, manifest.adjusted)


def _of_keys(work: StepContext, keys: list[list[str]]) -> StepContext:
    window = work.partition.window.model_copy(update={"low": None, "refresh": "all"})
    return StepContext(work.pipeline, work.run_id, Partition(window=window, id=KEYS, keys=keys), work.settings)
