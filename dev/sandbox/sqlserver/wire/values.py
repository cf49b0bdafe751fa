"""Single values in the TDS wire formats (MS-TDS 2.2.5.5): result columns out, parameters in."""

import struct
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Context, Decimal
from typing import Any
from uuid import UUID

from dev.sandbox.sqlserver.types import MAX, SqlType

_U16, _U32, _U64 = struct.Struct("<H"), struct.Struct("<I"), struct.Struct("<Q")
_FLOATS = {4: struct.Struct("<f"), 8: struct.Struct("<d")}
_PLP_NULL = 0xFFFF_FFFF_FFFF_FFFF
_PLP_UNKNOWN_LENGTH = _U64.pack(0xFFFF_FFFF_FFFF_FFFE)
_EXACT = Context(prec=80)  # the default would round to 28 digits
_FIRST_DAY = date(1, 1, 1).toordinal()

Encoder = Callable[[Any], bytes]


def encoder(declared: SqlType) -> Encoder:
    """Encoder of a type, for values as DuckDB returns them; None is NULL."""
    null = _null(declared)
    write = _writer(declared)
    return lambda value: null if value is None else write(value)


def _null(declared: SqlType) -> bytes:
    if declared.length == MAX:
        return _U64.pack(_PLP_NULL)
    return b"\xff\xff" if declared.is_text or declared.is_binary else b"\x00"


def _writer(declared: SqlType) -> Encoder:
    name = declared.name
    if declared.is_integer:
        width = declared.bytes
        return lambda value: bytes([width]) + value.to_bytes(width, "little", signed=width > 1)
    if declared.is_text:
        return _text_writer(declared)
    if declared.is_binary:
        return _sized if declared.length != MAX else _chunked
    if name in ("real", "float"):
        pack = _FLOATS[declared.bytes].pack
        return lambda value: bytes([declared.bytes]) + pack(value)
    if name == "decimal":
        return lambda value: _decimal(value, declared.scale)
    if name == "datetime2":
        return lambda value: b"\x08" + _time(value.time()) + _date(value.date())
    if name == "datetimeoffset":
        return lambda value: b"\x0a" + _time(value.time()) + _date(value.date()) + b"\0\0"
    return {
        "bit": lambda value: b"\x01\x01" if value else b"\x01\x00",
        "date": lambda value: b"\x03" + _date(value),
        "time": lambda value: b"\x05" + _time(value),
        "uniqueidentifier": lambda value: b"\x10" + value.bytes_le,
    }[name]


def _text_writer(declared: SqlType) -> Encoder:
    encoding = "utf-16-le" if declared.name.startswith("n") else "cp1252"
    pack = _chunked if declared.length == MAX else _sized
    if declared.name in ("nchar", "char"):
        # nchar is stored without SQL Server's padding.
        size = len(" ".encode(encoding)) * declared.length
        blank = " ".encode(encoding)
        return lambda value: _padded(value.encode(encoding, "replace"), blank, size)
    return lambda value: pack(value.encode(encoding, "replace"))


def _padded(data: bytes, blank: bytes, size: int) -> bytes:
    return _sized(data + blank * ((size - len(data)) // len(blank)))


def _sized(data: bytes) -> bytes:
    return _U16.pack(len(data)) + data


def _chunked(data: bytes) -> bytes:
    chunk = _U32.pack(len(data)) + data if data else b""
    return _PLP_UNKNOWN_LENGTH + chunk + b"\x00\x00\x00\x00"


def _decimal(value: Decimal, scale: int) -> bytes:
    unscaled = int(value.scaleb(scale, _EXACT))
    return bytes([17, unscaled >= 0]) + abs(unscaled).to_bytes(16, "little")


def _time(value: time) -> bytes:
    seconds = (value.hour * 60 + value.minute) * 60 + value.second
    return (seconds * 1_000_000 + value.microsecond).to_bytes(5, "little")


def _date(value: date) -> bytes:
    return (value.toordinal() - _FIRST_DAY).to_bytes(3, "little")


def read_value(data: bytes, at: int, declared: SqlType) -> tuple[Any, int]:
    """Read the value at a position: a Python value, or None for NULL, and the position after it."""
    if declared.is_text or declared.is_binary:
        raw, at = read_plp(data, at) if declared.length == MAX else _read_sized(data, at)
        if raw is None or declared.is_binary:
            return raw, at
        return raw.decode("utf-16-le" if declared.name.startswith("n") else "cp1252", "replace"), at
    size = data[at]
    raw = data[at + 1 : at + 1 + size]
    return (_read_scalar(raw, declared) if size else None), at + 1 + size


def read_plp(data: bytes, at: int) -> tuple[bytes | None, int]:
    """Read a value of a (max) type, which comes in chunks; None is NULL.

    If the data ends too early, the position returned is behind its end.
    """
    (total,) = _U64.unpack_from(data, at)
    at += 8
    if total == _PLP_NULL:
        return None, at
    parts: list[bytes] = []
    while True:
        (size,) = _U32.unpack_from(data, at)
        at += 4
        if not size:
            return b"".join(parts), at
        parts.append(data[at : at + size])
        at += size


def _read_sized(data: bytes, at: int) -> tuple[bytes | None, int]:
    (size,) = _U16.unpack_from(data, at)
    at += 2
    if size == 0xFFFF:
        return None, at
    return data[at : at + size], at + size


def _read_scalar(raw: bytes, declared: SqlType) -> Any:
    name = declared.name
    if declared.is_integer:
        return int.from_bytes(raw, "little", signed=len(raw) > 1)
    if name == "bit":
        return raw != b"\x00"
    if name in ("real", "float"):
        return _FLOATS[len(raw)].unpack(raw)[0]
    if name == "decimal":
        magnitude = int.from_bytes(raw[1:], "little")
        return Decimal(magnitude if raw[0] else -magnitude).scaleb(-declared.scale, _EXACT)
    if name == "uniqueidentifier":
        return UUID(bytes_le=raw)
    if name == "date":
        return date.fromordinal(int.from_bytes(raw, "little") + _FIRST_DAY)
    return _read_time(raw, declared)


def _read_time(raw: bytes, declared: SqlType) -> Any:
    """A time, or a datetime2; of a datetimeoffset the local time, which is what SQL Server stores as datetime2."""
    width = 3 if declared.scale <= 2 else 4 if declared.scale <= 4 else 5
    microseconds = int.from_bytes(raw[:width], "little") * 10**6 // 10**declared.scale
    clock = timedelta(microseconds=microseconds)
    if declared.name == "time":
        return (datetime.min + clock).time()
    day = datetime.min + timedelta(days=int.from_bytes(raw[width : width + 3], "little"))
    offset = int.from_bytes(raw[width + 3 :], "little", signed=True)
    return day + clock + timedelta(minutes=offset)
