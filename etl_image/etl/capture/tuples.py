"""Rows in messages of pgoutput: where the values of each column are, for many rows at once, and their texts."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Bytes = npt.NDArray[np.uint8]
Places = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

NULL, UNCHANGED, TEXT = ord("n"), ord("u"), ord("t")
_LONG = 4096
"""Bytes of a value, on average, from which on copying them one by one is better than all at once by an index."""


class LogError(ValueError):
    """A message that is not as pgoutput documents it; the text is a sentence."""


class Values(NamedTuple):
    """The values of one column: their kinds (a letter), and where each text begins and how long it is."""

    kinds: Bytes
    begins: Places
    lengths: Places

    def filled_from(self, old: "Values", rows: Places) -> "Values":
        """The same, where `rows` have the values of other rows instead: those of `old`, in order."""
        kinds, begins, lengths = self.kinds.copy(), self.begins.copy(), self.lengths.copy()
        kinds[rows], begins[rows], lengths[rows] = old.kinds, old.begins, old.lengths
        return Values(kinds, begins, lengths)

    def taken(self, rows: Places) -> "Values":
        """The values of some rows."""
        return Values(self.kinds[rows], self.begins[rows], self.lengths[rows])


def big_endian(buffer: Bytes, places: Places, size: int) -> Places:
    """The unsigned numbers of `size` bytes at places, which are within the buffer."""
    found = np.zeros(len(places), dtype=np.int64)
    for byte in range(size):
        found = (found << 8) | buffer[places + byte]
    return found


def split_rows(buffer: Bytes, places: Places, ends: Places, columns: int) -> tuple[list[Values], Places]:
    """The values of each column of rows that begin at places, and where the rows end.

    Raises LogError for a row with another number of columns, or one that does not end within its message.
    """
    _check(places + 2 <= ends, "a row is cut off")
    if not (big_endian(buffer, places, 2) == columns).all():
        raise LogError(f"a row does not have the {columns} columns that its table was announced with")
    at, found = places + 2, []
    for _ in range(columns):
        _check(at < ends, "a row is cut off")
        kinds = buffer[at]
        at = at + 1
        is_text = kinds == TEXT
        _check(is_text | (kinds == NULL) | (kinds == UNCHANGED), "a value is of an unknown kind")
        lengths = np.zeros(len(at), dtype=np.int64)
        texts = np.flatnonzero(is_text)
        _check(at[texts] + 4 <= ends[texts], "a value is cut off")
        lengths[texts] = big_endian(buffer, at[texts], 4)
        begins = at + 4
        at = np.where(is_text, begins + lengths, at)
        _check(at <= ends, "a value is longer than its message")
        found.append(Values(kinds, begins, lengths))
    return found, at


def texts(buffer: Bytes, values: Values) -> pa.Array:
    """The texts of a column; null where they are, and where a value was not sent."""
    is_text = values.kinds == TEXT
    lengths = np.where(is_text, values.lengths, 0)
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    total = int(offsets[-1])
    if total > _LONG * max(len(lengths), 1):
        view = memoryview(buffer.data)
        parts = zip(values.begins[is_text].tolist(), lengths[is_text].tolist(), strict=True)
        data = pa.py_buffer(b"".join(view[begin : begin + length] for begin, length in parts))
    else:
        index = np.repeat(values.begins - offsets[:-1], lengths) + np.arange(total)
        data = pa.py_buffer(buffer[index])
    validity = pa.py_buffer(np.packbits(is_text, bitorder="little"))
    return pa.StringArray.from_buffers(len(lengths), pa.py_buffer(offsets.astype(np.int32)), data, validity)


def _check(is_so: Flags, otherwise: str) -> None:
    if not is_so.all():
        raise LogError(otherwise)
