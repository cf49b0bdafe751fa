"""TYPE_INFO (MS-TDS 2.2.5.6): types in column metadata and parameters."""

import struct

from dev.sandbox.sqlserver.types import BIT, DATE, GUID, MAX, SqlType

COLLATION = bytes.fromhex("0904d00034")
"""SQL_Latin1_General_CP1_CI_AS."""
_INTEGER_NAMES = {1: "tinyint", 2: "smallint", 4: "int", 8: "bigint"}
_FIXED_INTEGERS = {0x30: "tinyint", 0x34: "smallint", 0x38: "int", 0x7F: "bigint"}
_TEXT_TOKENS = {"nvarchar": 0xE7, "nchar": 0xEF, "varchar": 0xA7, "char": 0xAF}
_BINARY_TOKENS = {"varbinary": 0xA5, "binary": 0xAD}
_TIME_TOKENS = {"time": 0x29, "datetime2": 0x2A, "datetimeoffset": 0x2B}
_TEXT_NAMES = {token: name for name, token in _TEXT_TOKENS.items()}
_BINARY_NAMES = {token: name for name, token in _BINARY_TOKENS.items()}
_TIME_NAMES = {token: name for name, token in _TIME_TOKENS.items()}
_U16 = struct.Struct("<H")


def write_type(declared: SqlType) -> bytes:
    """TYPE_INFO of a type, always in its nullable form."""
    name = declared.name
    if declared.is_integer:
        return bytes([0x26, declared.bytes])
    if name in ("real", "float"):
        return bytes([0x6D, declared.bytes])
    if name == "decimal":
        return bytes([0x6A, 17, declared.precision, declared.scale])
    if declared.is_text:
        unit = 2 if name.startswith("n") else 1
        return bytes([_TEXT_TOKENS[name]]) + _size(declared.length * unit) + COLLATION
    if declared.is_binary:
        return bytes([_BINARY_TOKENS[name]]) + _size(declared.length)
    if name in _TIME_TOKENS:
        return bytes([_TIME_TOKENS[name], declared.scale])
    return {"bit": b"\x68\x01", "date": b"\x28", "uniqueidentifier": b"\x24\x10"}[name]


def read_type(data: bytes, at: int) -> tuple[SqlType, int]:
    """Read the TYPE_INFO at a position: the type and the position after it.

    Raises ValueError for an unknown type.
    """
    token = data[at]
    if token in (0x26, 0x6D):
        width = data[at + 1]
        names = _INTEGER_NAMES if token == 0x26 else {4: "real", 8: "float"}
        return SqlType(names[width]), at + 2
    if token in (0x6A, 0x6C):
        return SqlType("decimal", precision=data[at + 2], scale=data[at + 3]), at + 4
    if token in _TEXT_NAMES:
        unit = 2 if _TEXT_NAMES[token].startswith("n") else 1
        return SqlType(_TEXT_NAMES[token], length=_read_size(data, at + 1, unit)), at + 8
    if token in _BINARY_NAMES:
        return SqlType(_BINARY_NAMES[token], length=_read_size(data, at + 1, 1)), at + 3
    if token in _TIME_NAMES:
        return SqlType(_TIME_NAMES[token], scale=data[at + 1]), at + 2
    if token in (0x68, 0x28, 0x24):
        return {0x68: BIT, 0x28: DATE, 0x24: GUID}[token], at + (1 if token == 0x28 else 2)
    if token in _FIXED_INTEGERS:
        raise ValueError(f"the SQL Server double reads {_FIXED_INTEGERS[token]} in its nullable form only")
    raise ValueError(f"the SQL Server double does not know the wire type {token:#04x}")


def _size(size: int) -> bytes:
    return _U16.pack(size if 0 <= size <= 8000 else 0xFFFF)


def _read_size(data: bytes, at: int, unit: int) -> int:
    (size,) = _U16.unpack_from(data, at)
    return MAX if size == 0xFFFF else size // unit
