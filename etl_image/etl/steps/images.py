"""Rows of a pipeline that reads the log into the sink: what stands there is replaced, whatever its version is."""

import structlog

from etl.errors import ConfigurationError
from etl.model.table_name import TableName
from etl.sqlserver import images_sql, log_position, merge_sql, own_rows, replace_sql
from etl.sqlserver import sql as sink_sql
from etl.sqlserver.log_position import LogPosition
from etl.sqlserver.sink import Sink
from etl.steps.context import StepContext
from etl.steps.log_reading import window_of
from etl.steps.merge import Loaded
from etl.storage.staging import Manifest


def is_loaded(work: StepContext, sink: Sink, manifest: Manifest) -> bool:
    """Whether the partition's turn is over, under the load lock: the position in the ledger is not that of the plan.

    Nothing is to be done then. Raises ConfigurationError for a window that does not begin where the ledger is and is
    not in the sink either.
    """
    window, position = window_of(work), read_position(work, sink)
    here = position.lsn if position else None
    if not work.is_of_log:
        if here == window.low:
            return False
    elif position is None or not (position.is_at(window) or position.is_beyond(window)):
        whose = "another" if position and position.origin != window.origin else "the"
        raise ConfigurationError(
            f"{work}: its window begins at {window.low}, and {work.pipeline.sink} is at {here or 'no position'} of"
            f" {whose} log: nothing was changed. Start a new run."
        )
    elif position.is_at(window):
        if manifest.log is not None and manifest.log.is_past:
            raise ConfigurationError(
                f"{work}: the slot {work.pipeline.slot_name} is beyond {window.low}, up to where"
                f" {work.pipeline.sink} is: another session has read it, and its changes are lost to this pipeline. Run"
                " with full_refresh."
            )
        return False
    structlog.get_logger().info(
        f"load: already loaded: {work.pipeline.sink} is at {here}; this partition, from {window.low} to {window.high},"
        " changes nothing"
    )
    return True


def read_position(work: StepContext, sink: Sink) -> LogPosition | None:
    """The pipeline's position in the ledger."""
    rows = sink.rows(log_position.read(work.pipeline))
    return log_position.parse(rows[0]) if rows else None


def apply_images(work: StepContext, sink: Sink, staging: TableName, manifest: Manifest) -> Loaded:
    """Bring the last image of each key into the sink, and move the position; the caller commits.

    An image that a later one follows counts as unchanged.
    """
    superseded = sink.change(images_sql.delete_superseded(work.pipeline, staging)) if manifest.kept > 1 else 0
    loaded = upsert(work, sink, staging, manifest.kept - superseded)
    changes = manifest.log.model_dump(exclude={"is_past"}) if manifest.log else {}
    counts = {
        **changes,
        "images": manifest.extracted,
        "kept": manifest.kept,
        "superseded": superseded,
        "applied": loaded.inserted + loaded.updated + loaded.unchanged,
    }
    for statement in log_position.write(work.pipeline, work.run_id, window_of(work), counts):
        sink.execute(statement)
    structlog.get_logger().info("load: applied images", **counts)
    return Loaded(loaded.inserted, loaded.updated, loaded.unchanged + superseded, standing=loaded.standing + superseded)


def upsert(work: StepContext, sink: Sink, staging: TableName, rows: int) -> Loaded:
    """Update the rows that differ from staging and insert the missing ones; each number is counted separately."""
    pipeline = work.pipeline
    if not rows:
        return Loaded()
    if not sink.rows(sink_sql.any_row(pipeline.sink)):
        inserted = sink.change(merge_sql.insert_all(pipeline, staging))
        return Loaded(inserted, standing=sink.value(own_rows.count_own(pipeline)))
    present, differing = sink.rows(replace_sql.count_changes(pipeline, staging))[0]
    updated = sink.change(replace_sql.update_differing(pipeline, staging)) if differing else 0
    inserted = sink.change(merge_sql.insert_missing(pipeline, staging, work.partition)) if present != rows else 0
    still_present, still_differing = present, differing
    if updated or inserted:
        still_present, still_differing = sink.rows(replace_sql.count_changes(pipeline, staging))[0]
    return Loaded(inserted, updated, present - differing, standing=still_present - still_differing)
