"""`etl extract`: one partition of the source, in one read-only snapshot, to Parquet in staging."""

from collections.abc import Iterator
from datetime import UTC, datetime

import adbc_driver_postgresql.dbapi as postgres
import pyarrow as pa
import pyarrow.parquet as pq
import structlog

from etl import source_sql
from etl.errors import TryAgainError
from etl.logs import blot_out
from etl.progress import Progress
from etl.settings import place
from etl.source import check_source, connect_source
from etl.staging import BATCH_BYTES, Manifest
from etl.step import Work


def extract(work: Work) -> Manifest:
    """Read the partition's rows and stage them as they are, so that the next step can say what is wrong with them.

    Memory does not grow with the table: rows pass in Arrow batches of a few megabytes.
    Raises ConfigurationError where the source is not as the pipeline says, TryAgainError where it is away.
    """
    log = structlog.get_logger()
    swept = work.staging.sweep(datetime.now(UTC) - work.settings.staging_retention)
    if swept:
        log.info("extract: removed old runs from staging", runs=swept)
    progress = Progress("extract", work.partition.expected_rows)
    with connect_source(work) as connection, connection.cursor() as cursor:
        check_source(work.pipeline, cursor)
        manifest = _stage(work, cursor, progress)
    work.staging.publish("extract", manifest)
    with work.metrics("extract") as metrics:
        metrics.rows("extracted", manifest.extracted)
        metrics.bytes(manifest.extracted * manifest.row_bytes)
        metrics.seconds(progress.seconds)
    log.info("extract: done", rows=manifest.extracted, seconds=round(progress.seconds, 1))
    return manifest


def _stage(work: Work, cursor: postgres.Cursor, progress: Progress) -> Manifest:
    # The driver's default is 16 MB.
    cursor.adbc_statement.set_options(**{"adbc.postgresql.batch_size_hint_bytes": str(BATCH_BYTES)})
    cursor.execute(source_sql.extract_rows(work.pipeline, work.partition))
    reader = cursor.fetch_record_batch()
    schema = pa.schema([pa.field(field.name, _stored(field.type)) for field in reader.schema])
    name = f"{work.staging.new_folder('extract')}/rows.parquet"
    size = 0
    with work.staging.writing(name) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for batch in _arriving(work, reader):
            # A batch becomes a row group: neither side holds more than one.
            writer.write_batch(_storage(batch, schema))
            size += batch.nbytes
            progress.add(batch.num_rows)
    return Manifest(
        partition=work.partition,
        fingerprint=work.fingerprint,
        files={"rows": name},
        extracted=progress.rows,
        row_bytes=size // max(progress.rows, 1),
    )


def _arriving(work: Work, reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    """The batches of a reader. Raises TryAgainError where the source goes away in between."""
    try:
        yield from reader
    except (OSError, pa.ArrowException) as error:
        where = place(work.settings.source_url)
        told = str(error).strip().splitlines()[0]
        raise TryAgainError(
            f"{work}: the source {where} broke off: {blot_out(told, work.settings.secrets())}"
        ) from None


def _stored(field_type: pa.DataType) -> pa.DataType:
    """How a column is staged: numeric as text (exact, NaN included), JSON as text; uuid stays what it is."""
    if isinstance(field_type, pa.OpaqueType | pa.JsonType):
        return field_type.storage_type
    return field_type


def _storage(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    columns = [
        column.storage if isinstance(column, pa.ExtensionArray) and column.type != field.type else column
        for column, field in zip(batch.columns, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
