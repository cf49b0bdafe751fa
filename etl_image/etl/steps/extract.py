"""`etl extract`: read one partition of the source, in one read-only snapshot, to Parquet in staging."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pyarrow.parquet as pq
import structlog

from etl.postgres.checks import check_source
from etl.postgres.connection import connect_source
from etl.steps.context import StepContext
from etl.steps.log_reading import LogReading
from etl.steps.prefetch import prefetch
from etl.steps.progress import Progress
from etl.steps.reading import Reading
from etl.storage.staging import CODEC, Manifest


def extract(work: StepContext) -> Manifest:
    """Read the partition's rows and stage them unchanged, so that the next step can report bad values.

    Memory does not grow with the table: rows pass in Arrow batches of a few megabytes.
    Raises ConfigurationError if the source differs from the pipeline, TryAgainError if it is unavailable.
    """
    sweep(work)
    work = work.reading()
    progress = Progress("extract", work.partition.expected_rows)
    name = f"{work.staging.new_folder('extract')}/rows.parquet"
    with (
        reading(work) as source,
        prefetch(source.batches()) as batches,
        work.staging.writing(name) as file,
        pq.ParquetWriter(file, source.schema, **CODEC) as writer,
    ):
        for batch in batches:
            # A batch becomes a row group: writer and reader hold only one.
            writer.write_batch(batch)
            progress.add(batch.num_rows)
            del batch  # otherwise it is held while waiting for the next
    manifest = source.manifest().model_copy(update={"files": {"rows": name}})
    work.staging.publish("extract", manifest)
    log_extracted(work, manifest, progress)
    return manifest


def sweep(work: StepContext) -> None:
    """Remove the files of old runs from staging."""
    swept = work.staging.sweep(datetime.now(UTC) - work.settings.staging_retention)
    if swept:
        structlog.get_logger().info("extract: removed old runs from staging", runs=swept)


def log_extracted(work: StepContext, manifest: Manifest, progress: Progress) -> None:
    """Log and count the extracted rows."""
    with work.metrics("extract") as metrics:
        if work.is_counted:
            metrics.rows("extracted", manifest.extracted)
        metrics.bytes((manifest.extracted - manifest.dropped) * manifest.row_bytes)
        metrics.seconds(progress.seconds)
    structlog.get_logger().info("extract: done", rows=manifest.extracted, seconds=round(progress.seconds, 1))


@contextmanager
def reading(work: StepContext, at_most: int | None = None) -> Iterator[Reading | LogReading]:
    """The rows of the partition, or some of them, in a snapshot that lasts as long as the block.

    Raises ConfigurationError if the source differs from the pipeline, TryAgainError if it is unavailable.
    """
    with connect_source(work.settings, work.pipeline, str(work)) as connection, connection.cursor() as cursor:
        if work.is_of_log:
            yield LogReading(work, cursor)
            return
        yield Reading(work, cursor, check_source(work.pipeline, cursor), at_most)
