"""Batches of rows that are bounded by their bytes, and not only by the number of their rows."""

from collections.abc import Iterator
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

BATCH_BYTES = 2 * 1024 * 1024
"""About how many bytes of rows make a batch, or one row that is longer; a step holds several batches of this size."""

_BUFFER_BYTES = 1024 * 1024
"""How much of a staged column is read at a time; without it all of a row group's column is held while it is read."""


def open_staged(file: IO[bytes]) -> pq.ParquetFile:
    """A staged file, to be read by `staged_batches`."""
    return pq.ParquetFile(file, pre_buffer=False, buffer_size=_BUFFER_BYTES)


def staged_batches(file: pq.ParquetFile) -> Iterator[pa.RecordBatch]:
    """The rows of a staged file, once: row groups together while they are small, a large one alone.

    A row group is what was one batch when it was written. Reading by a number of rows instead would bring long rows
    together that came one by one.
    """
    for groups in _small_ones_together(file):
        # Not `iter_batches`, which holds the pages of a batch as long as the batch.
        yield from _popped(file.read_row_groups(groups, use_threads=False).combine_chunks().to_batches())


def _popped(batches: list[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    while batches:
        yield batches.pop(0)


def _small_ones_together(file: pq.ParquetFile) -> Iterator[list[int]]:
    """Numbers of consecutive row groups of about BATCH_BYTES together."""
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
    """A table for DuckDB: the rows that are there when a query runs, under the names of a schema.

    The protocol is Arrow's PyCapsules.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self.empty()

    def empty(self) -> None:
        """Hold no rows."""
        self.rows = pa.RecordBatch.from_pylist([], self._schema)

    def __arrow_c_schema__(self) -> object:
        return self._schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return pa.Table.from_arrays(self.rows.columns, schema=self._schema).__arrow_c_stream__(requested_schema)
