"""Rows of a bulk load as Arrow: a decoder is generated for each table, since a general one is several times slower.

The generated function goes over the bytes of the rows once. Values of fixed width are only copied, into one buffer a
column, and converted there by Arrow all at once.
"""

import codecs
import struct
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dev.sandbox.sqlserver.errors import SqlError
from dev.sandbox.sqlserver.types import MAX, SqlType
from dev.sandbox.sqlserver.wire.values import read_plp

_ROW = 0xD1
_MICROSECONDS_A_DAY = 86_400_000_000
_DAYS_TO_1970 = 719_162
_TIME_MASK = (1 << 40) - 1
_FIXED = {
    "bit": (1, pa.uint8()), "tinyint": (1, pa.uint8()), "smallint": (2, pa.int16()), "int": (4, pa.int32()),
    "bigint": (8, pa.int64()), "real": (4, pa.float32()), "float": (8, pa.float64()), "date": (4, pa.int32()),
    "time": (8, pa.int64()), "datetime2": (8, pa.int64()), "uniqueidentifier": (16, pa.binary(16)),
    "decimal": (16, None),
}  # fmt: skip
# How the value at d[p] (its length) is converted for a column's buffer, unless it is just copied.
_COPIES = {
    "date": "d[p + 1 : p + 4] + b'\\0'",
    "uniqueidentifier": "d[p + 4 : p : -1] + d[p + 6 : p + 4 : -1] + d[p + 8 : p + 6 : -1] + d[p + 9 : p + 17]",
    "decimal": "d[p + 2 : p + 1 + n] + pad[n] if d[p + 1] else negative(d[p + 2 : p + 1 + n])",
}


class RowDecoder:
    """Collects the rows of one bulk load, for an Arrow table with columns c0, c1 and so on."""

    def __init__(self, types: Sequence[SqlType]) -> None:
        self._types = types
        self._decode = _compile(types)
        self.rows = 0
        self._clear()

    def decode(self, data: bytes) -> int:
        """Decode the complete rows at the beginning of the data; returns their length in bytes."""
        at, self.rows = self._decode(data, self.rows, *self._values, *self._nulls)
        for values, declared in zip(self._values, self._types, strict=True):
            # An incomplete row has left values in the columns.
            del values[self.rows * _width(declared) :]
        for nulls in self._nulls:
            while nulls and nulls[-1] >= self.rows:
                nulls.pop()
        return int(at)

    def take(self, skip: int = 0) -> pa.Table:
        """Return the rows but the first `skip`, and clear them. Raises SqlError 8023 for NaN or infinity."""
        arrays = [
            _array(declared, values, nulls, self.rows)
            for declared, values, nulls in zip(self._types, self._values, self._nulls, strict=True)
        ]
        self._clear()
        return pa.table(arrays, names=[f"c{at}" for at in range(len(arrays))]).slice(skip)

    def _clear(self) -> None:
        self.rows = 0
        self._values: list[Any] = [bytearray() if _is_fixed(each) else [] for each in self._types]
        self._nulls: list[list[int]] = [[] for _ in self._types]


def _is_fixed(declared: SqlType) -> bool:
    return declared.name in _FIXED


def _width(declared: SqlType) -> int:
    return _FIXED[declared.name][0] if _is_fixed(declared) else 1


def _compile(types: Sequence[SqlType]) -> Any:
    names = [f"{kind}{at}" for kind in ("c", "x") for at in range(len(types))]
    lines = [
        f"def decode(d, r, {', '.join(names)}):",
        "  end, p, done = len(d), 0, 0",
        "  try:",
        f"    while p < end and d[p] == {_ROW}:",
        "      p += 1",
        *(f"      {line}" for at, declared in enumerate(types) for line in _column_code(at, declared)),
        "      if p > end: break",
        "      r += 1",
        "      done = p",
        "  except (IndexError, error): pass",
        "  return done, r",
    ]
    scope = {
        "decode_utf16": codecs.utf_16_le_decode,
        "decode_cp1252": lambda data, errors, final: (data.decode("cp1252", errors), len(data)),
        "error": struct.error,
        "negative": _negative,
        "pad": {1 + size: bytes(16 - size) for size in (4, 8, 12, 16)},
        "read_plp": read_plp,
    }
    exec("\n".join(lines), scope)  # made of the constants in this module and of numbers
    return scope["decode"]


def _column_code(at: int, declared: SqlType) -> list[str]:
    if _is_fixed(declared):
        return [
            "n = d[p]",
            f"if n: c{at} += {_copy(declared)}; p += n + 1",
            f"else: c{at} += {bytes(_width(declared))!r}; x{at}.append(r); p += 1",
        ]
    decoded = "{}"
    if declared.is_text:
        decode = "decode_utf16" if declared.name.startswith("n") else "decode_cp1252"
        decoded = f"{decode}({{}}, 'replace', True)[0]"
    if declared.length == MAX:
        return ["v, p = read_plp(d, p)", f"c{at}.append(None if v is None else {decoded.format('v')})"]
    return [
        "n = d[p] | d[p + 1] << 8",
        f"if n != 65535: c{at}.append({decoded.format('d[p + 2 : p + 2 + n]')}); p += n + 2",
        f"else: c{at}.append(None); p += 2",
    ]


def _copy(declared: SqlType) -> str:
    if declared.name in ("time", "datetime2"):
        clock = 3 if declared.scale <= 2 else 4 if declared.scale <= 4 else 5
        if declared.name == "datetime2" and clock == 5:
            return "d[p + 1 : p + 9]"
        day = f" + d[p + {1 + clock} : p + {4 + clock}]" if declared.name == "datetime2" else " + b'\\0\\0\\0'"
        return f"d[p + 1 : p + {1 + clock}] + {bytes(5 - clock)!r}{day}"
    return _COPIES.get(declared.name, f"d[p + 1 : p + {1 + _width(declared)}]")


def _negative(magnitude: bytes) -> bytes:
    return (-int.from_bytes(magnitude, "little")).to_bytes(16, "little", signed=True)


def _array(declared: SqlType, values: Any, nulls: list[int], rows: int) -> pa.Array:
    if not _is_fixed(declared):
        return pa.array(values, pa.string() if declared.is_text else pa.binary())
    arrow = _FIXED[declared.name][1] or pa.decimal128(declared.precision, declared.scale)
    buffers = [_validity(nulls, rows), pa.py_buffer(bytes(values))]
    raw = pa.Array.from_buffers(arrow, rows, buffers, len(nulls))
    if declared.name in ("real", "float") and pc.any(pc.invert(pc.is_finite(raw))).as_py():
        raise SqlError(8023, f"The supplied value is not a valid instance of data type {declared.name}.")
    if declared.name == "bit":
        return raw.cast(pa.bool_())
    if declared.name == "date":
        return pc.subtract(raw, pa.scalar(_DAYS_TO_1970, pa.int32())).view(pa.date32())
    if declared.name == "uniqueidentifier":
        return pa.ExtensionArray.from_storage(pa.uuid(), raw)
    if declared.name in ("time", "datetime2"):
        return _times(raw, declared)
    return raw


def _times(raw: pa.Array, declared: SqlType) -> pa.Array:
    """Times, of five bytes in units of the scale, and datetime2, with three bytes of days on top."""
    clock = pc.bit_wise_and(raw, _TIME_MASK)
    if declared.scale > 6:
        clock = pc.divide(clock, 10 ** (declared.scale - 6))
    else:
        clock = pc.multiply(clock, 10 ** (6 - declared.scale))
    if declared.name == "time":
        return clock.view(pa.time64("us"))
    days = pc.subtract(pc.shift_right(raw, 40), _DAYS_TO_1970)
    return pc.add(pc.multiply(days, _MICROSECONDS_A_DAY), clock).view(pa.timestamp("us"))


def _validity(nulls: list[int], rows: int) -> pa.Buffer | None:
    if not nulls:
        return None
    bits = bytearray(b"\xff" * ((rows + 7) // 8))
    for row in nulls:
        bits[row >> 3] &= ~(1 << (row & 7))
    return pa.py_buffer(bytes(bits))
