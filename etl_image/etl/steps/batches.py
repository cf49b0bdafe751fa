"""Batches of rows, limited in bytes and not only in rows."""

from collections.abc import Iterator
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

BATCH_BYTES = 2 * 1024 * 1024
"""Bytes of a batch, about; a longer row is a batch alone. A step holds several batches of this size."""

_BUFFER_BYTES = 1024 * 1024
"""Bytes of a staged column that are read at a time; by default the whole column of a row group is held."""


def open_staged(file: IO[bytes]) -> pq.ParquetFile:
    """Open a staged file for `staged_batches`."""
    return pq.ParquetFile(file, pre_buffer=False, buffer_size=_BUFFER_BYTES)


def staged_batches(file: pq.ParquetFile) -> Iterator[pa.RecordBatch]:
    """The rows of a staged file, once: small row groups together, a large one alone.

    A row group was one batch when it was written. Reading by a number of rows would combine long rows that were
    batches of their own.
    """
    for groups in _small_groups(file):
        # Not `iter_batches`, which holds the pages of a batch as long as the batch.
        yield from _popped(file.read_row_groups(groups, use_threads=False).combine_chunks().to_batches())


def _popped(batches: list[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    while batches:
        yield batches.pop(0)


def _small_groups(file: pq.ParquetFile) -> Iterator[list[int]]:
    """Numbers of consecutive row groups with about BATCH_BYTES in total."""
    groups: list[int] = []
    size = 0
    for group in range(file.num_row_groups):
        more = file.metadata.row_group(group).total_byte_size
        if groups and size + more > BATCH_BYTES:
            yield groups
            groups, size = [], 0
        groups.append(group)
        size += more
    if groups:
        yield groups


class CurrentBatch:
    """A table for DuckDB, by Arrow's PyCapsule protocol: the current batch, with the names of a schema."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self.empty()

    def empty(self) -> None:
        """Release the rows."""
        self.rows = pa.RecordBatch.from_pylist([], self._schema)

    def __arrow_c_schema__(self) -> object:
        return self._schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return pa.Table.from_arrays(self.rows.columns, schema=self._schema).__arrow_c_stream__(requested_schema)
