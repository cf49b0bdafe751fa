"""Texts of the log as the values that reading the table itself gives, whole columns at a time.

The texts are those of the types' output functions, under the session's settings: dates in ISO 8601, times in UTC.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_BEFORE, _AFTER = -1_000_000, 4_000_000
"""Days since 1970 that stand for all times before the year 1 and after 9999, which no type of the sink has."""
_DAY = 24 * 60 * 60 * 1_000_000


def read_values(texts: pa.Array, wanted: pa.DataType) -> pa.Array:
    """The values of texts in the type in which rows of the table are staged.

    Raises pa.ArrowInvalid for a text that is no value of it.
    """
    if pa.types.is_string(wanted):
        return texts
    if pa.types.is_boolean(wanted):
        return pc.or_(pc.equal(texts, "t"), pc.equal(texts, "true"))
    if pa.types.is_date(wanted):
        regular = pc.equal(pc.binary_length(texts), 10)
        days = _cast_regular(texts, regular, "1970-01-01", pa.date32()).cast(pa.int32())
        return _with_edges(days, texts, regular, 1, pa.int32()).cast(wanted)
    if pa.types.is_timestamp(wanted):
        return _times(texts).cast(pa.timestamp("us")).cast(pa.int64()).cast(wanted)
    if pa.types.is_time(wanted):
        is_end = pc.equal(texts, "24:00:00")
        moments = pc.binary_join_element_wise("1970-01-01", pc.if_else(is_end, "00:00:00", texts), " ")
        times = moments.cast(pa.timestamp("us")).cast(pa.int64())
        return pc.if_else(is_end, pa.scalar(_DAY, pa.int64()), times).view(wanted)
    if pa.types.is_binary(wanted):
        return _unhexed(pc.replace_substring(texts, "\\x", "", max_replacements=1).cast(pa.binary()))
    if isinstance(wanted, pa.UuidType):
        return _uuids(texts, wanted)
    return texts.cast(wanted)


def _times(texts: pa.Array) -> pa.Array:
    """Microseconds since 1970."""
    regular = pc.match_substring_regex(texts, r"^\d{4}-[^B]*$")
    plain = pc.replace_substring_regex(texts, r"\+00$", "")
    times = _cast_regular(plain, regular, "1970-01-01 00:00:00", pa.timestamp("us")).cast(pa.int64())
    return _with_edges(times, texts, regular, _DAY, pa.int64())


def _cast_regular(texts: pa.Array, regular: pa.Array, otherwise: str, to: pa.DataType) -> pa.Array:
    return pc.if_else(regular, texts, otherwise).cast(to)


def _with_edges(values: pa.Array, texts: pa.Array, regular: pa.Array, unit: int, type_: pa.DataType) -> pa.Array:
    """The values, with an edge for texts that are none of the years 1 to 9999, such as infinity."""
    is_before = pc.or_(pc.starts_with(texts, "-"), pc.ends_with(texts, "BC"))
    edge = pc.if_else(is_before, pa.scalar(_BEFORE * unit, type_), pa.scalar(_AFTER * unit, type_))
    return pc.if_else(regular, values, edge)


def _unhexed(digits: pa.Array) -> pa.Array:
    """The bytes that hexadecimal digits stand for."""
    digits = pa.concat_arrays([digits])  # without an offset
    validity, offsets, data = digits.buffers()
    bounds = np.frombuffer(offsets, np.int32)[: len(digits) + 1]
    raw = b"" if data is None else bytes.fromhex(memoryview(data)[int(bounds[0]) : int(bounds[-1])].tobytes().decode())
    halves = pa.py_buffer(((bounds - bounds[0]) // 2).astype(np.int32))
    return pa.Array.from_buffers(pa.binary(), len(digits), [validity, halves, pa.py_buffer(raw)])


def _uuids(texts: pa.Array, wanted: pa.DataType) -> pa.Array:
    plain = pc.fill_null(pc.replace_substring(texts, "-", ""), "0" * 32)
    storage = _unhexed(plain.cast(pa.binary())).cast(pa.binary(16))
    storage = pc.if_else(pc.is_valid(texts), storage, pa.scalar(None, pa.binary(16)))
    return pa.ExtensionArray.from_storage(wanted, storage)
