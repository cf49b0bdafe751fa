"""The rows of a partition as they arrive from the source: checked, counted, in the types in which they are staged."""

from collections.abc import Iterator

import adbc_driver_postgresql.dbapi as postgres
import pyarrow as pa
import pyarrow.compute as pc

from etl.config.settings import redacted_location
from etl.errors import ConfigurationError, DataError, TryAgainError, printable
from etl.logs import redact
from etl.postgres import sql as source_sql
from etl.postgres.checks import Source
from etl.postgres.compare_sql import content_hash
from etl.steps.batches import BATCH_BYTES
from etl.steps.context import StepContext
from etl.steps.memory import longest_row
from etl.storage.staging import Content, Manifest


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
        self.schema = pa.schema([pa.field(field.name, stored_type(field.type)) for field in fields])

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
        try:
            # Without a variable that would hold a batch while the next is made.
            yield from map(self._checked, self._reader)
        except (OSError, pa.ArrowException) as error:
            raise broken_off(self._work, error) from None

    def _checked(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Count the rows of a batch, and convert them to the types in which they are staged. Raises DataError."""
        self._rows += batch.num_rows
        self._bytes += batch.nbytes
        self._check_lengths(batch)
        stored = _storage(batch, self.schema)
        check_texts(self._work, stored)
        return stored

    def _check_lengths(self, batch: pa.RecordBatch) -> None:
        """Raises DataError for a row that the memory of this step cannot hold."""
        lengths = batch.column(source_sql.TOO_LONG)
        if lengths.null_count < len(lengths):
            row = pc.index(lengths.is_valid(), True).as_py()
            raise DataError(
                f"{self._work}: {_key(self._work, batch, row)}: {printable(lengths[row])}; this step carries"
                f" {self._longest} bytes a row. Give its container more memory (ETL_STEP_MEMORY), or shorten the row at"
                " the source or leave the column out of the pipeline; then clear the run."
            )

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


def broken_off(work: StepContext, error: Exception) -> TryAgainError:
    """The error for a source whose connection breaks while it is read."""
    where = redacted_location(work.settings.source_url)
    message = work.mask.words(redact(str(error), work.settings.secrets()).strip().splitlines()[0])
    return TryAgainError(f"{work}: the source {where} broke off: {message}")


def check_texts(work: StepContext, batch: pa.RecordBatch) -> None:
    """Raise DataError for text that is not UTF-8: a database in SQL_ASCII holds any bytes, nvarchar does not."""
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if not pa.types.is_string(column.type):
            continue
        try:
            column.validate(full=True)
        except pa.ArrowInvalid:
            row = next(row for row in range(len(column)) if not _is_utf8(column.slice(row, 1)))
            value = work.mask.value(name, _text(column[row]))
            raise DataError(
                f"{work}: {_key(work, batch, row)}: {name} is not valid UTF-8 ({value});"
                " correct it at the source, then clear the run."
            ) from None


def _key(work: StepContext, batch: pa.RecordBatch, row: int) -> str:
    return work.mask.row([_text(batch.column(name)[row]) for name in work.pipeline.key])


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


def stored_type(field_type: pa.DataType) -> pa.DataType:
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
