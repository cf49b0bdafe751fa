"""The images of a window of the write-ahead log as they arrive: the new rows of inserts and updates, in order."""

from collections.abc import Iterator

import adbc_driver_postgresql.dbapi as postgres
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import structlog

from etl.capture.decode import Decoder, Images
from etl.capture.tuples import LogError
from etl.capture.values import read_values
from etl.errors import ConfigurationError, DataError, TryAgainError
from etl.model.capture import IMAGE
from etl.model.lsn import parse_lsn
from etl.model.pipeline import Pipeline
from etl.model.window import LogWindow
from etl.postgres import log_sql
from etl.postgres import sql as source_sql
from etl.postgres.checks import check_source
from etl.postgres.log_checks import check_log, explain_origin
from etl.postgres.quoting import quote_table
from etl.steps.batches import BATCH_BYTES
from etl.steps.context import StepContext
from etl.steps.memory import longest_row
from etl.steps.reading import broken_off, check_texts, stored_type
from etl.storage.staging import LogCounts, Manifest


class LogReading:
    """The images of a partition of the log, and their count.

    Raises ConfigurationError if the source is not that of the plan. A slot that is beyond the window gives no image:
    the load then sees if the sink has them.
    """

    def __init__(self, work: StepContext, cursor: postgres.Cursor) -> None:
        self._work = work
        self._pipeline, self._window = declared(work), window_of(work)
        source = check_source(self._pipeline, cursor)
        found = check_log(self._pipeline, cursor)
        if problem := explain_origin(self._pipeline, self._window.origin, found.origin):
            raise ConfigurationError(f"{work}: {problem}")
        cursor.execute(f"{source_sql.extract_rows(self._pipeline, work.partition, source.types)} LIMIT 0")
        fields = list(cursor.fetch_record_batch().schema)[: len(self._pipeline.columns)]
        typed = [pa.field(field.name, stored_type(field.type)) for field in fields]
        self.schema = pa.schema([*typed, pa.field(IMAGE, pa.int64())])
        low, high = self._window.low, self._window.high
        self._decoder = Decoder(
            found.table,
            found.types,
            list(dict.fromkeys(self._pipeline.sources.values())),
            parse_lsn(low) if low else 0,
            parse_lsn(high),
        )
        self._images = self._bytes = 0
        self._longest = work.settings.longest_row or longest_row()
        self._reader: pa.RecordBatchReader | None = None
        self._is_past = low is not None and parse_lsn(found.confirmed) > parse_lsn(low)
        if self._is_past:
            structlog.get_logger().warning(
                f"extract: the slot {self._pipeline.slot_name} is at {found.confirmed}, beyond the begin of this"
                f" window, {low}: nothing is read. If the window is in the sink, the load says so."
            )
            return
        cursor.adbc_statement.set_options(**{"adbc.postgresql.batch_size_hint_bytes": str(BATCH_BYTES)})
        cursor.execute(log_sql.peek(self._pipeline, high))
        self._reader = cursor.fetch_record_batch()

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The images, once.

        Raises TryAgainError if the connection breaks, DataError for messages that are not as documented, and for a
        value that was not sent.
        """
        for messages in self._messages():
            try:
                batch = self._read(messages)
            except (LogError, pa.ArrowException) as error:
                raise DataError(
                    f"{self._work}: {self._log}: {str(error).splitlines()[0]}. Nothing was loaded. Where the table was"
                    " altered, let the pipeline be as the table is, drop the slot, let `etl prepare-source` make it"
                    " anew, and run with full_refresh."
                ) from None
            if batch.num_rows:
                yield batch
        try:
            self._decoder.finish()
        except LogError as error:
            raise TryAgainError(f"{self._work}: {self._log}: {error}; run it again.") from None

    @property
    def _log(self) -> str:
        return f"the log of {self._pipeline.source} from {self._window.low} to {self._window.high}"

    def _messages(self) -> Iterator[pa.Array]:
        try:
            for batch in self._reader or ():
                yield batch.column(0)
        except (OSError, pa.ArrowException) as error:
            raise broken_off(self._work, error) from None

    def _read(self, messages: pa.Array) -> pa.RecordBatch:
        longest = pc.max(pc.binary_length(messages)).as_py() or 0
        if longest > self._longest:
            raise DataError(
                f"{self._work}: {self._log} has a change of {longest} bytes; this step carries {self._longest} bytes a"
                " row. Give its container more memory (ETL_STEP_MEMORY), then clear the run."
            )
        images = self._decoder.images(messages)
        count = len(images.texts[0])
        texts = dict(zip(self._decoder.wanted, images.texts, strict=True))
        columns = []
        for name, field in zip(self._pipeline.columns, self.schema, strict=False):
            if name in self._pipeline.constants:
                constant = read_values(pa.array([self._pipeline.constants[name]]), field.type)
                columns.append(pa.concat_arrays([constant] * count) if count else constant.slice(0, 0))
            else:
                columns.append(read_values(texts[self._pipeline.sources[name]], field.type))
        columns.append(pa.array(np.arange(self._images, self._images + count)))
        batch = pa.RecordBatch.from_arrays(columns, schema=self.schema)
        self._images += count
        self._bytes += batch.nbytes
        self._check_sent(images, batch)
        check_texts(self._work, batch)
        return batch

    def _check_sent(self, images: Images, batch: pa.RecordBatch) -> None:
        """Raises DataError for a value that an update did not change and the source did not send."""
        for name, row in images.unsent.items():
            names = list(self._pipeline.columns)
            key = [batch.column(names.index(each))[row].as_py() for each in self._pipeline.key]
            raise DataError(
                f"{self._work}: {self._work.mask.row(key)}: {name} is stored out of line and was not changed by an"
                f" update, so the log does not have its value. Let the log have it, ALTER TABLE"
                f" {quote_table(self._pipeline.source)} REPLICA IDENTITY FULL; then drop the slot"
                f" {self._pipeline.slot_name}, let `etl prepare-source` make it anew, and run with full_refresh."
            )

    def manifest(self) -> Manifest:
        """The manifest, after all images were read. Raises TryAgainError if counts differ."""
        changes = self._decoder.changes
        if changes.inserts + changes.updates != self._images:
            counts = f"{changes.inserts} inserts and {changes.updates} updates gave {self._images} images"
            raise TryAgainError(f"{self._work}: {counts}; run it again.")
        return Manifest(
            partition=self._work.partition,
            fingerprint=self._work.fingerprint,
            files={},
            extracted=self._images,
            row_bytes=self._bytes // max(self._images, 1),
            log=LogCounts(**vars(changes), is_past=self._is_past),
        )


def declared(work: StepContext) -> Pipeline:
    """The pipeline as it was declared, of any context of it."""
    return work.whole or work.pipeline


def window_of(work: StepContext) -> LogWindow:
    """The positions of a partition. Raises ConfigurationError for a partition of the log without them."""
    if work.partition.log is None:
        raise ConfigurationError(f"{work}: a partition of the log has no positions; start a new run.")
    return work.partition.log
