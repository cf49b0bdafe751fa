"""`etl load`: apply the kept rows to the sink table, exactly once, with an audit row that adds up."""

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
import structlog

from etl.errors import ConfigurationError, TryAgainError
from etl.model.outcome import COUNTS
from etl.model.table_name import TableName
from etl.sqlserver import evolve, ledger
from etl.sqlserver import sql as sink_sql
from etl.sqlserver.columns import check_table, read_columns
from etl.sqlserver.connection import connect_sink
from etl.sqlserver.sink import Sink
from etl.steps import deletes, images
from etl.steps.batches import open_staged, staged_batches
from etl.steps.context import StepContext
from etl.steps.merge import Loaded, merge
from etl.steps.prefetch import prefetch
from etl.steps.progress import Progress
from etl.steps.replace import replace
from etl.storage.staging import Manifest


@dataclass(frozen=True)
class RowStream:
    """The kept rows, and `verdict`, the counts of the partition, to be called after the last batch."""

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]
    verdict: Callable[[], Manifest]


def load(work: StepContext) -> Loaded:
    """Load the kept rows of one partition into the sink. A repetition changes nothing.

    Raises ConfigurationError, DataError or TryAgainError, the sink unchanged.
    """
    manifest = work.staging.manifest("filter", work.fingerprint)
    progress = Progress("load", manifest.kept)
    return deliver(work, _staged(work, manifest, progress), progress)


def deliver(work: StepContext, rows: AbstractContextManager[RowStream], progress: Progress) -> Loaded:
    """Load rows into the sink as they arrive, exactly once.

    They are copied to a staging table of this attempt, and counted there by the server. Then one transaction under an
    application lock updates older rows, inserts missing ones, and writes the audit row.
    Raises ConfigurationError, DataError or TryAgainError, the sink unchanged.
    """
    log = structlog.get_logger()
    # The rows first, so that nothing is created in the sink if the source differs from the pipeline.
    with _at_once(connect_sink(work.settings, work.pipeline, str(work)), rows) as (sink, kept, opened):
        collations = prepare_tables(work, sink)
        _drop_leftovers(work, sink)
        _prune_audit(work, sink)
        with _staging_tables(work, sink, collations) as staging:
            manifest = _fill(work, sink, staging[0], kept, opened)
            loaded = _apply(work, sink, staging, manifest)
    with work.metrics("load") as metrics:
        of_deletes = ("deleted", "marked") if work.pipeline.deletes != "keep" else ()
        of_rows = ("unchanged",) if work.is_counted else ()
        for outcome in ("inserted", "updated", *of_rows, *of_deletes):
            metrics.rows(outcome, getattr(loaded, outcome))
        metrics.bytes(manifest.kept * manifest.row_bytes)
        metrics.seconds(progress.seconds)
    log.info("load: done", kept=manifest.kept, **vars(loaded), seconds=round(progress.seconds, 1))
    return loaded


@contextmanager
def _at_once(
    sink: AbstractContextManager[Sink], rows: AbstractContextManager[RowStream]
) -> Iterator[tuple[Sink, RowStream, ExitStack]]:
    """The sink, connected while the rows are opened, since both wait for a server; and what closes the rows."""
    with ExitStack() as of_sink, ExitStack() as of_rows, ThreadPoolExecutor(1) as thread:
        connecting = thread.submit(copy_context().run, of_sink.enter_context, sink)
        kept = of_rows.enter_context(rows)
        yield connecting.result(), kept, of_rows


def prepare_tables(work: StepContext, sink: Sink) -> dict[str, str]:
    """Create what the sink lacks of tables and columns, and check them; returns the collations of the key, by column.

    Raises ConfigurationError for the first column that differs, with how to change it.
    """
    log, own = structlog.get_logger(), {table.name for table in ledger.tables()}
    tables = {table.name: table for table in ledger.needed_tables(work.pipeline)}
    found = read_columns(sink, list(tables))
    lacking = [
        name for name in tables if not found[name] or (name in own and tables[name].columns.keys() - found[name].keys())
    ]
    if lacking or not sink.has_schema(sink_sql.STAGING):
        if created := sink.create_missing(work.pipeline):
            log.info("load: created tables in the sink", tables=created)
        found = read_columns(sink, list(tables))
    if added := evolve.add_columns(sink, work.pipeline, found[work.pipeline.sink]):
        log.info("load: added columns to the sink table", columns=added)
        found |= read_columns(sink, [work.pipeline.sink])
    for name, table in tables.items():
        try:
            check_table(table, found[name])
        except ConfigurationError as error:
            raise ConfigurationError(f"{work}: {error}") from None
    of_sink = found[work.pipeline.sink]
    return {name: of_sink[name].collation for name in work.pipeline.key if of_sink[name].collation}


@contextmanager
def _staging_tables(work: StepContext, sink: Sink, collations: dict[str, str]) -> Iterator[list[TableName]]:
    """The staging table of the partition, and, if it is one of keys, another for whole rows."""
    pipeline = work.reading().pipeline if work.is_of_log else work.pipeline
    tables = [sink_sql.staging_table(pipeline, staging_name(work), collations)]
    if work.is_of_keys:
        tables.insert(0, sink_sql.keys_table(work.reading().pipeline, staging_name(work), collations))
    with ExitStack() as made:
        yield [made.enter_context(staging_table(work, sink, table)) for table in tables]


@contextmanager
def staging_table(work: StepContext, sink: Sink, staging: sink_sql.Table) -> Iterator[TableName]:
    """A table of this attempt, dropped after the block; while its lock is held, other loads do not drop it."""
    if not sink.try_lock(sink_sql.staging_lock(staging.name.table), "Session"):
        raise TryAgainError(f"{work}: the lock of the new staging table {staging.name} is held; run it again.")
    sink.create(staging)
    try:
        yield staging.name
    except BaseException:
        with suppress(Exception):  # if the sink is unavailable, a later load drops the table
            sink.rollback()
            sink.drop(staging.name)
        raise
    sink.drop(staging.name)


def _fill(work: StepContext, sink: Sink, table: TableName, kept: RowStream, opened: ExitStack) -> Manifest:
    """Bulk copy the kept rows, and have the server count them: the driver's count is of the rows it sent.

    Then closes the rows' origin, so that the source's snapshot does not last longer than needed.
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
    """The kept rows in staging."""
    with work.staging.reading(manifest.files["rows"]) as file:
        parquet = open_staged(file)
        with prefetch(staged_batches(parquet)) as batches:
            yield RowStream(parquet.schema_arrow, _counted(batches, progress), lambda: manifest)


def _counted(batches: Iterator[pa.RecordBatch], progress: Progress) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield batch
        progress.add(batch.num_rows)


def _apply(work: StepContext, sink: Sink, tables: list[TableName], manifest: Manifest) -> Loaded:
    """One transaction: lock, update and insert, check the counts, write the audit row, commit."""
    sink.lock(sink_sql.load_lock(work.pipeline), int(work.settings.sink_lock_timeout.total_seconds() * 1000))
    if work.partition.log and images.is_loaded(work, sink, manifest):
        sink.rollback()
        return Loaded(unchanged=manifest.kept, standing=manifest.kept)
    if work.is_of_log:
        loaded = images.apply_images(work, sink, tables[0], manifest)
    elif work.partition.log:
        loaded = images.upsert(work, sink, tables[0], manifest.kept)
    elif work.is_of_keys:
        loaded = deletes.compare(work, sink, tables[0], tables[1], manifest)
    elif work.pipeline.mode == "replace":
        loaded = replace(work, sink, tables[0], manifest)
    else:
        loaded = merge(work, sink, tables[0], manifest.kept)
    is_standing = loaded.standing == manifest.kept or work.is_of_keys
    if loaded.inserted + loaded.updated + loaded.unchanged != manifest.kept or not is_standing:
        sink.rollback()
        raise TryAgainError(f"{work}: {manifest.kept} rows kept, but the sink counts {vars(loaded)}; none applied.")
    loaded = loaded.with_adjusted(manifest.adjusted)
    _audit(work, sink, manifest, loaded)
    sink.commit()
    return loaded


def _audit(work: StepContext, sink: Sink, manifest: Manifest, loaded: Loaded) -> None:
    """Write this partition's audit row; a repetition that changed nothing keeps the first one."""
    identity = (work.pipeline, work.run_id, work.partition.id)
    earlier = sink.rows(ledger.find_audit(*identity))
    if earlier == [(manifest.fingerprint, manifest.checksum)] and loaded.is_without_change:
        return
    sink.execute(ledger.delete_audit(*identity))
    read = {name: getattr(manifest, name) for name in ("extracted", "kept", "dropped", "rejected")}
    sink.execute(
        ledger.insert_audit(
            *identity,
            window=manifest.partition.window,
            counts=dict.fromkeys(COUNTS, 0) | read | vars(loaded),
            fingerprint=manifest.fingerprint,
            checksum=manifest.checksum,
            loaded_at=datetime.now(UTC),
        )
    )


def staging_name(work: StepContext) -> str:
    """The name of this attempt's staging table, as sink_sql.STAGING_NAME parses it."""
    return f"{work.pipeline.name}_{datetime.now(UTC):%Y%m%d%H%M%S}_{uuid.uuid4().hex[:12]}"


def _prune_audit(work: StepContext, sink: Sink) -> None:
    """Delete audit rows of the pipeline after their retention, a limited number a load; the latest run's stay."""
    # Concurrent loads skip this instead of waiting for each other.
    if sink.try_lock(ledger.audit_lock(work.pipeline)):
        until = datetime.now(UTC) - work.settings.audit_retention
        for (run_id,) in sink.rows(ledger.latest_run(work.pipeline)):
            sink.execute(ledger.prune_audit(work.pipeline, run_id, until))
    sink.commit()


def _drop_leftovers(work: StepContext, sink: Sink) -> None:
    """Drop the pipeline's staging tables of attempts that ended: their locks are released."""
    for table in sink.staging_tables(work.pipeline):
        if sink.try_lock(sink_sql.staging_lock(table.table)):
            sink.execute(sink_sql.drop_if_exists(table))
        sink.commit()
