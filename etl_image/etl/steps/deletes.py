"""Rows of the sink that the source does not have any more: deleted or marked, unless there are too many of them."""

from datetime import UTC, datetime

from etl.errors import DataError
from etl.model.pipeline import TableName
from etl.sqlserver import deletes_sql
from etl.sqlserver.sink import Sink
from etl.steps.context import StepContext

ALWAYS = 100
"""Rows that may go whatever `most_deleted` is: a share of a small table is a few rows."""


def check_share(work: StepContext, gone: int, standing: int, *, is_source_empty: bool) -> None:
    """Raise DataError if more rows of the sink are gone than one run may delete or mark, unless the run accepts it."""
    pipeline = work.pipeline
    allowed = max(ALWAYS, int(pipeline.most_deleted * standing))
    if work.partition.accept_deletes or not gone or (gone <= allowed and not is_source_empty):
        return
    why = (
        f"the filter keeps no row of {pipeline.source}"
        if is_source_empty
        else f"more than most_deleted ({pipeline.most_deleted:.0%}) allows"
    )
    verb = "marked" if pipeline.deletes == "mark" else "deleted"
    raise DataError(
        f"{work}: {gone} of {standing} rows of {pipeline.sink} are gone at the source, {why}: nothing was {verb}. Was"
        " the table truncated to be loaded again? Then run again when that is done. If the rows are really gone, run"
        " with accept_deletes."
    )


def remove_absent(work: StepContext, sink: Sink, staging: TableName) -> tuple[int, int]:
    """Delete or mark the rows that are absent from staging; returns how many were deleted, and how many marked."""
    changed = sink.change(deletes_sql.remove_absent(work.pipeline, staging, datetime.now(UTC)))
    return (0, changed) if work.pipeline.deletes == "mark" else (changed, 0)
