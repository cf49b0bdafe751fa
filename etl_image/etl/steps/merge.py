"""Rows of a window into the sink: older ones are updated, missing ones inserted."""

from dataclasses import dataclass, replace
from typing import NoReturn

from etl.errors import DataError
from etl.model.pipeline import TableName
from etl.sqlserver import merge_sql
from etl.sqlserver import sql as sink_sql
from etl.sqlserver.sink import Sink
from etl.steps.context import StepContext


@dataclass(frozen=True)
class Loaded:
    """Row counts of a load; kept = inserted + updated + unchanged.

    `adjusted`: kept rows of which a value was changed, and such rows that a comparison of keys brought.
    """

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    standing: int = 0
    deleted: int = 0
    marked: int = 0
    adjusted: int = 0

    @property
    def is_without_change(self) -> bool:
        """Whether the sink is as it was before."""
        return self.inserted + self.updated + self.deleted + self.marked == 0

    def with_adjusted(self, rows: int) -> "Loaded":
        """The same with further rows of which a value was changed."""
        return replace(self, adjusted=self.adjusted + rows)


def merge(work: StepContext, sink: Sink, staging: TableName, kept: int) -> Loaded:
    """Update older rows and insert missing ones; each number is counted separately.

    An update or insert is skipped if a count has shown that it would find no row.
    """
    pipeline, partition = work.pipeline, work.partition
    if not sink.rows(sink_sql.any_row(pipeline.sink)):
        inserted = sink.change(merge_sql.insert_all(pipeline, staging))
        return Loaded(inserted, standing=sink.value(sink_sql.count_rows(pipeline.sink)))
    known, unchanged, present = sink.rows(merge_sql.count_present(pipeline, staging, partition))[0]
    if pipeline.mode == "append" and known != unchanged:
        _refuse_changed(work, sink, staging, known - unchanged)
    updated = sink.change(merge_sql.update_newer(pipeline, staging, partition)) if known != unchanged else 0
    inserted = sink.change(merge_sql.insert_missing(pipeline, staging, partition)) if known != kept else 0
    if updated or inserted:
        *_, present = sink.rows(merge_sql.count_present(pipeline, staging, partition))[0]
    return Loaded(inserted, updated, unchanged, standing=present)


def _refuse_changed(work: StepContext, sink: Sink, staging: TableName, number: int) -> NoReturn:
    """Raise DataError: rows that are in the sink have changed, in a table to which rows are only added."""
    ((*key,),) = sink.rows(merge_sql.find_changed(work.pipeline, staging, work.partition))
    sink.rollback()
    raise DataError(
        f"{work}: {number} rows of {work.pipeline.sink} have other values at the source, the first is"
        f" {work.mask.row([str(value) for value in key])}, but mode is append: nothing was applied. Where rows may"
        ' change, the mode is "incremental"; else correct them at the source, or delete them from the sink.'
    )
