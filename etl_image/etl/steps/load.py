"""`etl load`: the kept rows into SQL Server, exactly once, with an audit row that adds up."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
import structlog

from etl.errors import ConfigurationError, TryAgainError
from etl.model.pipeline import TableName
from etl.sqlserver import ledger, merge_sql
from etl.sqlserver import sql as sink_sql
from etl.sqlserver.columns import check_table, read_columns
from etl.sqlserver.connection import Sink, connect_sink
from etl.steps.batches import open_staged, staged_batches
from etl.steps.context import StepContext
from etl.steps.prefetch import prefetch
from etl.steps.progress import Progress
from etl.storage.staging import Manifest


@dataclass(frozen=True)
class Loaded:
    """What a load did to the sink, in rows; kept = inserted + updated + unchanged."""

    inserted: int
    updated: int
    unchanged: int
    standing: int


@dataclass(frozen=True)
class RowStream:
    """Kept rows on their way to the sink, and what was made of the partition, to ask when all are taken."""

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]
    verdict: Callable[[], Manifest]


def load(work: StepContext) -> Loaded:
    """Bring the kept rows of one partition into the sink. Repeating it changes nothing.

    Raises ConfigurationError, DataError or TryAgainError, the sink unchanged.
    """
    manifest = work.staging.manifest("filter", work.fingerprint)
    progress = Progress("load", manifest.kept)
    return deliver(work, _staged(work, manifest, progress), progress)


def deliver(work: StepContext, rows: AbstractContextManager[RowStream], progress: Progress) -> Loaded:
    """Bring rows into the sink as they come, exactly once.

    They go into a staging table of this attempt alone and are counted there by the server; then one transaction
    under an application lock updates what is newer, inserts what is missing, and writes the audit row.
    Raises ConfigurationError, DataError or TryAgainError, the sink unchanged.
    """
    log = structlog.get_logger()
    with connect_sink(work.settings, work.pipeline, str(work)) as sink, ExitStack() as opened:
        # First: for a source that is not as the pipeline says, nothing is made in the sink.
        kept = opened.enter_context(rows)
        created = sink.create_missing(work.pipeline)
        if created:
            log.info("load: created tables in the sink", tables=created)
        collations = _check_sink(work, sink)
        _drop_leftovers(work, sink)
        _prune_audit(work, sink)
        with _staging_table(work, sink, collations) as staging:
            manifest = _fill(work, sink, staging, kept, opened)
            loaded = _apply(work, sink, staging, manifest)
    with work.metrics("load") as metrics:
        for outcome in ("inserted", "updated", "unchanged"):
            metrics.rows(outcome, getattr(loaded, outcome))
        metrics.bytes(manifest.kept * manifest.row_bytes)
        metrics.seconds(progress.seconds)
    log.info("load: done", kept=manifest.kept, **vars(loaded), seconds=round(progress.seconds, 1))
    return loaded


def _check_sink(work: StepContext, sink: Sink) -> dict[str, str]:
    """Compare the sink's columns with what is needed; returns the collations of the sink table's key, by column.

    Raises ConfigurationError naming the first that differs, and how to change it.
    """
    for table in ledger.needed_tables(work.pipeline):
        found = read_columns(sink, table.name)
        try:
            check_table(table, found)
        except ConfigurationError as error:
            raise ConfigurationError(f"{work}: {error}") from None
    return {name: found[name].collation for name in table.key if found[name].collation}


@contextmanager
def _staging_table(work: StepContext, sink: Sink, collations: dict[str, str]) -> Iterator[TableName]:
    """A table of this attempt alone, which goes with the block; its lock tells others that the attempt lives."""
    staging = sink_sql.staging_table(work.pipeline, _staging_name(work), collations)
    if not sink.try_lock(sink_sql.staging_lock(staging.name.table), "Session"):
        raise TryAgainError(f"{work}: the lock of the new staging table {staging.name} is held; run it again.")
    sink.create(staging)
    try:
        yield staging.name
    except BaseException:
        with suppress(Exception):  # where the sink is away: a later load drops what stays
            sink.rollback()
            sink.drop(staging.name)
        raise
    sink.drop(staging.name)


def _fill(work: StepContext, sink: Sink, table: TableName, kept: RowStream, opened: ExitStack) -> Manifest:
    """Bulk copy the kept rows and let the server count them: the driver's own count is of what it sent.

    Then what the rows came from is closed: the snapshot of the source lasts no longer than it has to.
    """
    sink.bulk_copy(table, kept.schema, kept.batches)
    manifest = kept.verdict()
    opened.close()
    arrived = sink.value(sink_sql.count_rows(table))
    sink.commit()
    if arrived != manifest.kept:
        raise TryAgainError(f"{work}: of {manifest.kept} rows sent {arrived} arrived in the sink; nothing was applied.")
    return manifest


@contextmanager
def _staged(work: StepContext, manifest: Manifest, progress: Progress) -> Iterator[RowStream]:
    """The kept rows that the filter has left in staging."""
    with work.staging.reading(manifest.files["rows"]) as file:
        parquet = open_staged(file)
        with prefetch(staged_batches(parquet)) as batches:
            yield RowStream(parquet.schema_arrow, _counted(batches, progress), lambda: manifest)


def _counted(batches: Iterator[pa.RecordBatch], progress: Progress) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield batch
        progress.add(batch.num_rows)


def _apply(work: StepContext, sink: Sink, staging: TableName, manifest: Manifest) -> Loaded:
    """One transaction: lock, bring in what is newer or missing, check, write the audit row, commit."""
    sink.lock(sink_sql.load_lock(work.pipeline), int(work.settings.sink_lock_timeout.total_seconds() * 1000))
    loaded = _merge(work, sink, staging, manifest.kept)
    if loaded.inserted + loaded.updated + loaded.unchanged != manifest.kept or loaded.standing != manifest.kept:
        sink.rollback()
        raise TryAgainError(f"{work}: {manifest.kept} rows kept, but the sink counts {vars(loaded)}; none applied.")
    _audit(work, sink, manifest, loaded)
    sink.commit()
    return loaded


def _merge(work: StepContext, sink: Sink, staging: TableName, kept: int) -> Loaded:
    """Update what is newer and insert what is missing, in as few passes as that takes; each number counted by itself.

    A pass is left out where a count has shown that it would find nothing.
    """
    pipeline, partition = work.pipeline, work.partition
    if not sink.rows(sink_sql.any_row(pipeline.sink)):
        inserted = sink.change(merge_sql.insert_all(pipeline, staging))
        return Loaded(inserted, 0, 0, standing=sink.value(sink_sql.count_rows(pipeline.sink)))
    known, unchanged, standing = sink.rows(merge_sql.count_standing(pipeline, staging, partition))[0]
    updated = sink.change(merge_sql.update_newer(pipeline, staging, partition)) if known != unchanged else 0
    inserted = sink.change(merge_sql.insert_missing(pipeline, staging, partition)) if known != kept else 0
    if updated or inserted:
        *_, standing = sink.rows(merge_sql.count_standing(pipeline, staging, partition))[0]
    return Loaded(inserted, updated, unchanged, standing)


def _audit(work: StepContext, sink: Sink, manifest: Manifest, loaded: Loaded) -> None:
    """Write this partition's audit row; a repetition that found nothing to do leaves the first one's."""
    identity = (work.pipeline, work.run_id, work.partition.id)
    earlier = sink.rows(ledger.find_audit(*identity))
    if earlier == [(manifest.fingerprint, manifest.checksum)] and loaded.inserted + loaded.updated == 0:
        return
    sink.execute(ledger.delete_audit(*identity))
    counts = {name: getattr(manifest, name) for name in ("extracted", "kept", "dropped", "rejected")}
    sink.execute(
        ledger.insert_audit(
            *identity,
            window=manifest.partition.window,
            counts=counts | vars(loaded),
            fingerprint=manifest.fingerprint,
            checksum=manifest.checksum,
            loaded_at=datetime.now(UTC),
        )
    )


def _staging_name(work: StepContext) -> str:
    """A name of this attempt alone, as sink_sql.STAGING_NAME reads it."""
    return f"{work.pipeline.name}_{datetime.now(UTC):%Y%m%d%H%M%S}_{uuid.uuid4().hex[:12]}"


def _prune_audit(work: StepContext, sink: Sink) -> None:
    """Delete audit rows of the pipeline beyond their retention, a bounded number a load; its latest run's stay."""
    # Loads at the same time need not wait for each other for that.
    if sink.try_lock(ledger.audit_lock(work.pipeline)):
        until = datetime.now(UTC) - work.settings.audit_retention
        for (run_id,) in sink.rows(ledger.latest_run(work.pipeline)):
            sink.execute(ledger.prune_audit(work.pipeline, run_id, until))
    sink.commit()


def _drop_leftovers(work: StepContext, sink: Sink) -> None:
    """Drop the pipeline's staging tables whose attempts are no more: the server has let go of their locks."""
    for table in sink.staging_tables(work.pipeline):
        if sink.try_lock(sink_sql.staging_lock(table.table)):
            sink.execute(sink_sql.drop_if_exists(table))
        sink.commit()
