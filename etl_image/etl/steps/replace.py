"""Mode replace: the sink becomes what the source was in one snapshot, in one transaction, and only where it differs."""

import structlog

from etl.errors import ConfigurationError, DataError, TryAgainError
from etl.model.pipeline import TableName
from etl.model.window import definition
from etl.sqlserver import deletes_sql, ledger, merge_sql, replace_sql, replaced
from etl.sqlserver import sql as sink_sql
from etl.sqlserver.replaced import Replaced
from etl.sqlserver.sink import Sink
from etl.steps import deletes
from etl.steps.context import StepContext
from etl.steps.merge import Loaded
from etl.storage.staging import Content, Manifest


def replace(work: StepContext, sink: Sink, staging: TableName, manifest: Manifest) -> Loaded:
    """Delete, update and insert what differs, under the load lock; the caller commits.

    Raises DataError for keys that are there twice, or if too many rows are gone; TryAgainError if counts do not add up.
    """
    _refuse_older(work, sink, manifest)
    before = sink.value(sink_sql.count_rows(work.pipeline.sink))
    if not work.pipeline.key:
        loaded = _replace_all(work, sink, staging, manifest, before)
    else:
        _check_keys(work, sink, staging)
        loaded = _apply_differences(work, sink, staging, manifest, before)
    after = sink.value(sink_sql.count_rows(work.pipeline.sink))
    if after != before + loaded.inserted - loaded.deleted:
        raise TryAgainError(
            f"{work}: the sink had {before} rows, now {after}, and counts {vars(loaded)}; none applied."
        )
    _record(work, sink, manifest, after)
    return loaded


def _record(work: StepContext, sink: Sink, manifest: Manifest, rows: int) -> None:
    """Record what the sink was replaced by, with which the next plan compares the source."""
    content = _content(work, manifest)
    row = Replaced(definition(work.pipeline), content.rows, content.hash, rows, content.read_at, work.run_id)
    for statement in replaced.write(work.pipeline, row):
        sink.execute(statement)


def _content(work: StepContext, manifest: Manifest) -> Content:
    if manifest.content is None:
        raise TryAgainError(
            f"{work}: staging has no hash of the rows of {work.pipeline.source}; clear from extract on."
        )
    return manifest.content


def _refuse_older(work: StepContext, sink: Sink, manifest: Manifest) -> None:
    """Raise ConfigurationError if the sink has rows that were read later, as where an old run is cleared."""
    own = _content(work, manifest).read_at
    for row in sink.rows(replaced.read(work.pipeline)):
        latest = replaced.parse(row).read_at
        if own < latest:
            raise ConfigurationError(
                f"{work}: its rows were read at {own}, and {work.pipeline.sink} has those of {latest}: nothing was"
                " changed. Start a new run. Or if the source's clock was put back, forget that time in the sink:"
                f" {replaced.forget(work.pipeline)}"
            )


def _check_keys(work: StepContext, sink: Sink, staging: TableName) -> None:
    for *key, number in sink.rows(replace_sql.find_duplicate_key(work.pipeline, staging)):
        raise DataError(
            f"{work}: {number} rows of {work.pipeline.source} have the key {work.mask.row(key)}: it does not identify a"
            ' row, and nothing was loaded. Declare another key, or key=[] with deletes="delete".'
        )


def _replace_all(work: StepContext, sink: Sink, staging: TableName, manifest: Manifest, before: int) -> Loaded:
    """Without a key all rows are deleted and inserted, unless this attempt repeats one that did."""
    identity = (work.pipeline, work.run_id, work.partition.id)
    if before == manifest.kept and sink.rows(ledger.find_audit(*identity)) == [
        (manifest.fingerprint, manifest.checksum)
    ]:
        return Loaded(unchanged=before, standing=before)
    deletes.check_loss(work, max(before - manifest.kept, 0), before, manifest.kept)
    sink.rows(replace_sql.lock_table(work.pipeline))
    deleted = sink.change(replace_sql.delete_all(work.pipeline)) if before else 0
    inserted = sink.change(merge_sql.insert_all(work.pipeline, staging))
    return Loaded(inserted, standing=sink.value(sink_sql.count_rows(work.pipeline.sink)), deleted=deleted)


def _apply_differences(work: StepContext, sink: Sink, staging: TableName, manifest: Manifest, before: int) -> Loaded:
    """With a key only the rows that differ are changed. They are counted before any row is locked."""
    pipeline = work.pipeline
    if not before:
        inserted = sink.change(merge_sql.insert_all(pipeline, staging))
        return Loaded(inserted, standing=sink.value(sink_sql.count_rows(pipeline.sink)))
    present, differing = sink.rows(replace_sql.count_changes(pipeline, staging))[0]
    gone = _count_gone(work, sink, staging, manifest)
    deleted = marked = updated = inserted = 0
    still_differing = differing
    if gone or differing or present != manifest.kept:
        sink.rows(replace_sql.lock_table(pipeline))
        # In this order, for unique indexes of the sink's own.
        if gone:
            deleted, marked = deletes.remove_absent(work, sink, staging)
        if differing:
            updated = sink.change(replace_sql.update_differing(pipeline, staging))
        if present != manifest.kept:
            inserted = sink.change(merge_sql.insert_missing(pipeline, staging, work.partition))
        unchanged = present - differing
        present, still_differing = sink.rows(replace_sql.count_changes(pipeline, staging))[0]
    else:
        unchanged = present
    return Loaded(inserted, updated, unchanged, present - still_differing, deleted, marked)


def _count_gone(work: StepContext, sink: Sink, staging: TableName, manifest: Manifest) -> int:
    """How many rows are to be deleted or marked. Raises DataError for too many."""
    pipeline = work.pipeline
    if pipeline.deletes == "keep":
        return 0
    gone = int(sink.value(deletes_sql.count_absent(pipeline, staging)))
    if gone and manifest.rejected:
        structlog.get_logger().warning(
            f"load: {gone} rows of {pipeline.sink} stay, since {manifest.rejected} rows of the source were rejected and"
            " may be theirs."
        )
        return 0
    deletes.check_loss(work, gone, int(sink.value(deletes_sql.count_standing(pipeline))), manifest.kept)
    return gone
