"""`etl extract`: read one partition of the source, in one read-only snapshot, to Parquet in staging."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import adbc_driver_postgresql.dbapi as postgres
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import structlog

from etl.config.settings import redacted_location
from etl.errors import ConfigurationError, DataError, TryAgainError, printable
from etl.logs import redact
from etl.postgres import sql as source_sql
from etl.postgres.checks import Source, check_source
from etl.postgres.compare_sql import content_hash
from etl.postgres.connection import connect_source
from etl.steps.batches import BATCH_BYTES
from etl.steps.context import StepContext
from etl.steps.memory import longest_row
from etl.steps.prefetch import prefetch
from etl.steps.progress import Progress
from etl.storage.staging import CODEC, Content, Manifest


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
def reading(work: StepContext, at_most: int | None = None) -> Iterator["Reading"]:
    """The rows of the partition, or some of them, in a snapshot that lasts as long as the block.

    Raises ConfigurationError if the source differs from the pipeline, TryAgainError if it is unavailable.
    """
    with connect_source(work.settings, work.pipeline, str(work)) as connection, connection.cursor() as cursor:
        yield Reading(work, cursor, check_source(work.pipeline, cursor), at_most)


class Reading:
    """The rows of a partition as they arrive from the source, and their count."""

    def __init__(self, work: StepContext, cursor: postgres.Cursor, source: Source, at_most: int | None) -> None:
        self._work = work
        self._rows = self._bytes = 0
        self._counted: tuple[int, int] | None = None
        if not source.is_key_unique:
            self._check_keys(cursor, source)
        self._content: Content | None = None
        if work.pipeline.mode == "replace" and at_most is None and not work.is_of_keys:
            cursor.execute(content_hash(work.pipeline))
            rows, hashed, read_at = cursor.fetchall()[0]
            self._content = Content(rows=rows, hash=hashed, read_at=read_at)
        if work.pipeline.pushdown:
            cursor.execute(source_sql.count_partition(work.pipeline, work.partition, source.types))
            self._counted = cursor.fetchone()
        # The driver's default is 16 MB.
        cursor.adbc_statement.set_options(**{"adbc.postgresql.batch_size_hint_bytes": str(BATCH_BYTES)})
        self._longest = work.settings.longest_row or longest_row()
        query = source_sql.extract_rows(work.pipeline, work.partition, source.types, self._longest)
        # A stream that is left half read would be read to its end when the transaction ends.
        cursor.execute(query if at_most is None else f"{query} LIMIT {int(at_most)}")
        self._reader = cursor.fetch_record_batch()
        fields = list(self._reader.schema)[:-1]  # TOO_LONG is last
        self.schema = pa.schema([pa.field(field.name, _stored(field.type)) for field in fields])

    def _check_keys(self, cursor: postgres.Cursor, source: Source) -> None:
        """Raises ConfigurationError for a key that several rows have; the source ensures none for a view."""
        work = self._work
        cursor.execute(source_sql.duplicate_keys(work.pipeline, work.partition, source.types))
        found = cursor.fetchone()
        if found is not None:
            count, *key = found
            raise ConfigurationError(
                f"{work}: {count} rows of {work.pipeline.source} have the key {work.mask.row(key)}: it does not"
                ' identify a row. Declare a key that does, or mode="replace" with key=[].'
            )

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows, once.

        Raises TryAgainError if the connection breaks, DataError for a row that is too long or invalid text.
        """
        work = self._work
        try:
            # Without a variable that would hold a batch while the next is made.
            yield from map(self._checked, self._reader)
        except (OSError, pa.ArrowException) as error:
            where = redacted_location(work.settings.source_url)
            message = work.mask.words(redact(str(error), work.settings.secrets()).strip().splitlines()[0])
            raise TryAgainError(f"{work}: the source {where} broke off: {message}") from None

    def _checked(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Count the rows of a batch, and convert them to the types in which they are staged. Raises DataError."""
        self._rows += batch.num_rows
        self._bytes += batch.nbytes
        self._check_lengths(batch)
        stored = _storage(batch, self.schema)
        self._check_texts(stored)
        return stored

    def _check_lengths(self, batch: pa.RecordBatch) -> None:
        """Raises DataError for a row that the memory of this step cannot hold."""
        lengths = batch.column(source_sql.TOO_LONG)
        if lengths.null_count < len(lengths):
            row = pc.index(lengths.is_valid(), True).as_py()
            raise DataError(
                f"{self._work}: {self._key(batch, row)}: {printable(lengths[row])}; this step carries {self._longest}"
                " bytes a row. Give its container more memory (ETL_STEP_MEMORY), or shorten the row at the source or"
                " leave the column out of the pipeline; then clear the run."
            )

    def _key(self, batch: pa.RecordBatch, row: int) -> str:
        return self._work.mask.row([_text(batch.column(name)[row]) for name in self._work.pipeline.key])

    def _check_texts(self, batch: pa.RecordBatch) -> None:
        """Raises DataError for text that is not UTF-8: a database in SQL_ASCII holds any bytes, nvarchar does not."""
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if not pa.types.is_string(column.type):
                continue
            try:
                column.validate(full=True)
            except pa.ArrowInvalid:
                row = next(row for row in range(len(column)) if not _is_utf8(column.slice(row, 1)))
                value = self._work.mask.value(name, _text(column[row]))
                raise DataError(
                    f"{self._work}: {self._key(batch, row)}: {name} is not valid UTF-8 ({value});"
                    " correct it at the source, then clear the run."
                ) from None

    def manifest(self) -> Manifest:
        """The manifest, after all rows were read. Raises TryAgainError if the source's own count differs."""
        extracted, dropped = self._counted or (self._rows, 0)
        if extracted - dropped != self._rows:
            counts = f"of {extracted} rows the filter drops {dropped}, but {self._rows} came"
            raise TryAgainError(f"{self._work}: {counts}; run it again.")
        return Manifest(
            partition=self._work.partition,
            fingerprint=self._work.fingerprint,
            files={},
            extracted=extracted,
            dropped=dropped,
            row_bytes=self._bytes // max(self._rows, 1),
            content=self._content,
        )


def _is_utf8(texts: pa.Array) -> bool:
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _text(value: pa.Scalar) -> object:
    """A value for messages, also invalid text, or a time that Python does not have."""
    if pa.types.is_string(value.type):
        return value.as_buffer()[:1000].to_pybytes().decode(errors="backslashreplace")
    try:
        return value.as_py()
    except OverflowError:
        return "infinite or outside the years 1 to 9999"


def _stored(field_type: pa.DataType) -> pa.DataType:
    """The type in which a column is staged: numeric as text (exact, with NaN), JSON as text; others unchanged."""
    if isinstance(field_type, pa.OpaqueType | pa.JsonType):
        return field_type.storage_type
    return field_type


def _storage(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    columns = [
        column.storage if isinstance(column, pa.ExtensionArray) and column.type != field.type else column
        for column, field in zip(batch.columns[: len(schema)], schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
