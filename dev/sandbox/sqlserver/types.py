"""SQL Server types of the double: declaration, DuckDB type, and description in the catalogue."""

import re
from dataclasses import dataclass, replace

MAX = -1
"""Length of nvarchar(max) and varbinary(max)."""
DEFAULT_COLLATION = "SQL_Latin1_General_CP1_CI_AS"
_INTEGERS = {"tinyint": (1, 3), "smallint": (2, 5), "int": (4, 10), "bigint": (8, 19)}
_TEXT = {"nvarchar": 4000, "nchar": 4000, "varchar": 8000, "char": 8000}
_BINARY = {"varbinary": 8000, "binary": 8000}
_DUCKDB = {
    "bit": "BOOLEAN",
    "tinyint": "UTINYINT",
    "smallint": "SMALLINT",
    "int": "INTEGER",
    "bigint": "BIGINT",
    "real": "FLOAT",
    "float": "DOUBLE",
    "date": "DATE",
    "time": "TIME",
    "datetime2": "TIMESTAMP",
    "datetimeoffset": "TIMESTAMP",  # the local time: its offset is not kept
    "uniqueidentifier": "UUID",
}
_CLOCKS = ("time", "datetime2", "datetimeoffset")
_DECLARATION = re.compile(r"(?P<name>\w+)\s*(\(\s*(?P<first>\d+|max)\s*(,\s*(?P<second>\d+)\s*)?\))?", re.IGNORECASE)


@dataclass(frozen=True)
class SqlType:
    """A type; `length` is in UTF-16 code units or bytes, `precision` and `scale` in decimal digits."""

    name: str
    length: int = 0
    precision: int = 0
    scale: int = 0
    collation: str = ""

    @property
    def is_integer(self) -> bool:
        """Whether it is one of the four integer types."""
        return self.name in _INTEGERS

    @property
    def is_text(self) -> bool:
        """Whether it holds characters."""
        return self.name in _TEXT

    @property
    def is_binary(self) -> bool:
        """Whether it holds bytes."""
        return self.name in _BINARY

    @property
    def is_number(self) -> bool:
        """Whether arithmetic works on it."""
        return self.is_integer or self.name in ("bit", "decimal", "real", "float")

    @property
    def bytes(self) -> int:
        """Bytes of an integer, or of a floating-point number."""
        return {"real": 4, "float": 8}.get(self.name) or _INTEGERS[self.name][0]

    @property
    def duckdb(self) -> str:
        """The DuckDB type of its values. A collation is part of a column, not of this."""
        if self.name == "decimal":
            return f"DECIMAL({self.precision},{self.scale})"
        if self.is_text:
            return "VARCHAR"
        return "BLOB" if self.is_binary else _DUCKDB[self.name]

    @property
    def declared(self) -> str:
        """The type in T-SQL."""
        if self.name == "decimal":
            return f"decimal({self.precision},{self.scale})"
        if self.is_text or self.is_binary:
            return f"{self.name}({'max' if self.length == MAX else self.length})"
        return f"{self.name}({self.scale})" if self.name in _CLOCKS else self.name

    @property
    def described(self) -> tuple[int | None, int | None, int | None, int | None]:
        """INFORMATION_SCHEMA's character length, numeric precision, numeric scale and datetime precision."""
        if self.is_text or self.is_binary:
            return self.length, None, None, None
        if self.is_integer:
            return None, _INTEGERS[self.name][1], 0, None
        if self.name == "decimal":
            return None, self.precision, self.scale, None
        if self.name in ("real", "float"):
            return None, 24 if self.name == "real" else 53, None, None
        return None, None, None, self.scale if self.name in ("date", *_CLOCKS) else None

    def collated(self, collation: str) -> "SqlType":
        """The same type with a collation."""
        return replace(self, collation=collation)

    @property
    def ignores_case(self) -> bool:
        """Whether its texts compare without regard to case."""
        return self.is_text and "_BIN" not in self.collation.upper() and "_CS_" not in self.collation.upper()


def parse_type(text: str) -> SqlType | None:
    """Parse a declaration such as `decimal(12, 2)`; None for an unknown type.

    Times have microseconds, as DuckDB does: datetime2(7) and datetimeoffset(7) are unknown.
    """
    match = _DECLARATION.fullmatch(text.strip())
    if match is None:
        return None
    name = match["name"].lower()
    name = {"numeric": "decimal", "integer": "int"}.get(name, name)
    first, second = match["first"], match["second"]
    if name in _TEXT or name in _BINARY:
        return _sized(name, first) if second is None else None
    if name == "decimal":
        precision, scale = int(first or 18), int(second or 0)
        return SqlType(name, precision=precision, scale=scale) if 1 <= precision <= 38 >= scale else None
    if name in ("time", "datetime2"):
        return SqlType(name, scale=6) if (first, second) == ("6", None) else None
    if name == "datetimeoffset" and second is None:
        return SqlType(name, scale=6)
    if name == "float" and second is None and 1 <= int(first or 53) <= 53:
        return SqlType("float" if int(first or 53) > 24 else "real")
    return SqlType(name) if name in _DUCKDB and first is None else None


def _sized(name: str, length: str | None) -> SqlType | None:
    longest = (_TEXT | _BINARY)[name]
    if length is not None and length.lower() == "max":
        return SqlType(name, length=MAX) if name in ("nvarchar", "varchar", "varbinary") else None
    size = int(length or 1)
    return SqlType(name, length=size) if 1 <= size <= longest else None


BIT, TINYINT, SMALLINT, INT, BIGINT = (SqlType(name) for name in ("bit", "tinyint", "smallint", "int", "bigint"))
REAL, FLOAT = SqlType("real"), SqlType("float")
DATE, TIME, DATETIME2 = SqlType("date"), SqlType("time", scale=6), SqlType("datetime2", scale=6)
GUID = SqlType("uniqueidentifier")


def text_type(length: int) -> SqlType:
    """The nvarchar type for a number of UTF-16 code units."""
    return SqlType("nvarchar", length=max(length, 1) if length <= 4000 else MAX)


def binary_type(length: int) -> SqlType:
    """The varbinary type for a number of bytes."""
    return SqlType("varbinary", length=max(length, 1) if length <= 8000 else MAX)


def utf16_length(text: str) -> int:
    """The length of a text in UTF-16 code units, which is how SQL Server counts characters."""
    return len(text) + sum(character > "\uffff" for character in text) if not text.isascii() else len(text)
