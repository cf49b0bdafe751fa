"""Requests that run a procedure (MS-TDS 2.2.6.6): how the drivers send statements with parameters."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dev.sandbox.sqlserver.types import DATETIME2, TIME, SqlType, text_type
from dev.sandbox.sqlserver.wire.typeinfo import read_type
from dev.sandbox.sqlserver.wire.values import read_value

EXECUTE_SQL, PREPARE, EXECUTE, PREPEXEC, UNPREPARE = 10, 11, 12, 13, 15
_BY_NUMBER = 0xFFFF
# Times are kept in microseconds; a datetimeoffset is kept as SQL Server converts it to datetime2.
_KEPT_AS = {"time": TIME, "datetime2": DATETIME2, "datetimeoffset": DATETIME2}
_SEPARATORS = (0x80, 0xFF)
_NULL_TYPE = 0x1F


@dataclass(frozen=True)
class Parameter:
    """A value for a procedure, with its type."""

    name: str
    type: SqlType
    value: Any


@dataclass(frozen=True)
class Call:
    """A procedure to run: its number (0: known by name only), its name, its parameters."""

    number: int
    name: str
    parameters: list[Parameter]


def skip_headers(data: bytes) -> bytes:
    """A request without its ALL_HEADERS."""
    (size,) = struct.unpack_from("<I", data)
    return data[size:]


def read_calls(data: bytes) -> Iterator[Call]:
    """Read the calls of a request."""
    at = 0
    while at < len(data):
        call, at = _read_call(data, at)
        at += 1  # the separator
        yield call


def _read_call(data: bytes, at: int) -> tuple[Call, int]:
    (length,) = struct.unpack_from("<H", data, at)
    at += 2
    number, name = 0, ""
    if length == _BY_NUMBER:
        (number,) = struct.unpack_from("<H", data, at)
        at += 2
    else:
        name = data[at : at + 2 * length].decode("utf-16-le")
        at += 2 * length
    at += 2  # option flags
    parameters = []
    while at < len(data) and data[at] not in _SEPARATORS:
        parameter, at = _read_parameter(data, at)
        parameters.append(parameter)
    return Call(number, name, parameters), at


def _read_parameter(data: bytes, at: int) -> tuple[Parameter, int]:
    length = data[at]
    name = data[at + 1 : at + 1 + 2 * length].decode("utf-16-le")
    at += 1 + 2 * length + 1  # the name, and one byte of status flags
    if data[at] == _NULL_TYPE:  # Go's driver sends NULL without a type
        return Parameter(name, text_type(1), None), at + 1
    declared, at = read_type(data, at)
    value, at = read_value(data, at, declared)
    return Parameter(name, _KEPT_AS.get(declared.name, declared), value), at
