"""The column types that a pipeline may declare, and what each becomes in SQL Server.

A declaration is written as in Postgres DDL: `bigint`, `numeric(12,2)`, `varchar(40) null`. Columns are required
unless `null` is said.
"""

import re
from dataclasses import dataclass

from etl.errors import shown

_DECLARATION = re.compile(
    r"(?P<name>[a-z][a-z0-9_]*( [a-z][a-z0-9_]*)*?)"
    r" ?(\( ?(?P<first>[0-9]{1,9}) ?(, ?(?P<second>-?[0-9]{1,9}) ?)?\))?"
    r"(?P<zone> with(out)? time zone)?(?P<null> (not )?null)?",
    re.IGNORECASE | re.ASCII,
)
_OPTION = re.compile(
    r"\b(DEFAULT|COLLATE|PRIMARY KEY|UNIQUE|REFERENCES|CHECK|GENERATED|CONSTRAINT|STORAGE|COMPRESSION)\b",
    re.IGNORECASE | re.ASCII,
)
_ARRAY = re.compile(r"\[[0-9]*\]| array\b", re.IGNORECASE | re.ASCII)
_ALIASES = {
    "int2": "smallint",
    "int": "integer",
    "int4": "integer",
    "int8": "bigint",
    "decimal": "numeric",
    "dec": "numeric",
    "float4": "real",
    "float8": "double precision",
    "bool": "boolean",
    "character varying": "varchar",
    "char varying": "varchar",
    "national character varying": "varchar",
    "national char varying": "varchar",
    "nchar varying": "varchar",
    "character": "char",
    "national character": "char",
    "national char": "char",
    "nchar": "char",
    "bpchar": "char",
    "timestamp without time zone": "timestamp",
    "timestamp with time zone": "timestamptz",
    "time without time zone": "time",
}
_SERIALS = {
    "smallserial": "smallint",
    "serial2": "smallint",
    "serial": "integer",
    "serial4": "integer",
    "bigserial": "bigint",
    "serial8": "bigint",
}
# Without arguments: SQL Server's type.
_PLAIN = {
    "smallint": "smallint",
    "integer": "int",
    "bigint": "bigint",
    "real": "real",
    "double precision": "float(53)",
    "boolean": "bit",
    "text": "nvarchar(max)",
    "uuid": "uniqueidentifier",
    "date": "date",
    "time": "time(6)",
    "timestamp": "datetime2(6)",
    "timestamptz": "datetime2(6)",
    "bytea": "varbinary(max)",
    "json": "nvarchar(max)",
    "jsonb": "nvarchar(max)",
}
_SIZED = {"varchar": "nvarchar", "char": "nchar"}
# Source types that a declared type can carry; whether each value fits is checked row by row.
_CARRIES = {
    "integer": {"smallint", "integer"},
    "bigint": {"smallint", "integer", "bigint"},
    "double precision": {"real", "double precision"},
    "text": {"text", "varchar", "char"},
    "varchar": {"text", "varchar", "char"},
    "char": {"char"},
    "json": {"json", "jsonb"},
    "jsonb": {"json", "jsonb"},
}
# Types that SQL Server can index and that read back from text exactly.
_KEY_TYPES = {
    "smallint", "integer", "bigint", "numeric", "varchar", "char", "uuid", "date", "timestamp", "timestamptz",
}  # fmt: skip
KEY_COLLATION = "Latin1_General_BIN2"
"""Collation of text keys: Postgres tells 'a' from 'A', SQL Server's default collation does not."""
_DIGITS_OF_SECONDS = 6
_DIGITS_OF_REAL, _DIGITS_OF_DOUBLE = 24, 53
_LONGEST = 4000
_KNOWN = (
    "smallint, integer, bigint, numeric(p,s), real, double precision, boolean, text, varchar(n), char(n), uuid, date,"
    " time, timestamp, timestamptz, bytea, json, jsonb"
)


@dataclass(frozen=True)
class ColumnType:
    """A declared column type: Postgres' name, its arguments, and whether it may be null.

    `length` is in characters (varchar, char); `precision` and `scale` in decimal digits (numeric).
    """

    name: str
    length: int | None = None
    precision: int | None = None
    scale: int | None = None
    nullable: bool = False

    @property
    def is_text(self) -> bool:
        """Whether SQL Server compares it by a collation."""
        return self.name in {"text", "varchar", "char", "json", "jsonb"}

    @property
    def is_unbounded(self) -> bool:
        """Whether a value of the source may have any length; of a sized text too, for the source's may have no size."""
        return self.is_text or self.name == "bytea"

    @property
    def can_be_key(self) -> bool:
        """Whether SQL Server can index it, and its value survives being written as text."""
        return self.name in _KEY_TYPES

    @property
    def is_fixed(self) -> bool:
        """Whether each of its values takes the same room in a row of SQL Server, null or not."""
        return self.name != "varchar" and "max" not in self.tsql

    def carries(self, source_type: str) -> bool:
        """Whether a source column of this type (its plain name, no arguments) can be declared so."""
        return plain_name(source_type) in _CARRIES.get(self.name, {self.name})

    @property
    def tsql(self) -> str:
        """The SQL Server type that carries it exactly, without NULL or collation."""
        if self.name == "numeric":
            return f"decimal({self.precision},{self.scale})"
        if self.name in _SIZED:
            return f"{_SIZED[self.name]}({self.length})"
        return _PLAIN[self.name]

    def __str__(self) -> str:
        arguments = {"numeric": f"({self.precision},{self.scale})"}.get(self.name, "")
        return self.name + (f"({self.length})" if self.length else arguments) + (" null" if self.nullable else "")


def plain_name(source_type: str) -> str:
    """The one name here of a type that Postgres knows by several."""
    return _ALIASES.get(source_type, source_type)


def parse_column_type(text: str) -> ColumnType:
    """Read a declaration such as `numeric(12,2) null`: a type as DDL and psql write it, and what of null.

    Raises ValueError, in words, for a type that cannot be carried exactly.
    """
    told = f"'{shown(text)}'"
    match = _DECLARATION.fullmatch(" ".join(text.split()))
    if match is None or _OPTION.search(match["name"]):
        raise ValueError(f"{told} {_why_not(text)}")
    written = (match["name"] + (match["zone"] or "")).lower()
    arguments = [int(match[group]) for group in ("first", "second") if match[group]]
    nullable = bool(match["null"]) and "not" not in match["null"].lower()
    if written in _SERIALS and nullable:
        raise ValueError(f"{told}: a {written} is never null in Postgres; leave null away")
    name = _SERIALS.get(written) or plain_name(written)
    if written == "float":
        name, arguments = _float(told, arguments), []
    if name in ("time", "timestamp", "timestamptz") and len(arguments) == 1:
        if arguments[0] > _DIGITS_OF_SECONDS:
            raise ValueError(f"{told}: seconds have 0 to {_DIGITS_OF_SECONDS} digits in Postgres")
        arguments = []  # it is carried with all of them
    if name == "numeric":
        return _numeric(told, arguments, nullable)
    if name in _SIZED:
        return ColumnType(name, length=_length(told, written, arguments), nullable=nullable)
    if name not in _PLAIN:
        raise ValueError(f"{told} {_why_not(text)}")
    if arguments:
        raise ValueError(f"{told}: {name} takes no arguments here")
    return ColumnType(name, nullable=nullable)


def _why_not(text: str) -> str:
    if option := _OPTION.search(text):
        return f"says more than a type: leave {option[0].upper()} away, and what belongs to it"
    if _ARRAY.search(text):
        return f"is an array, which SQL Server does not have, so the column must be left out; known types: {_KNOWN}"
    return f"cannot be carried exactly; known types, as Postgres writes them: {_KNOWN}"


def _length(told: str, written: str, arguments: list[int]) -> int:
    # Postgres knows char without a length as char(1), but bpchar as one without end.
    if not arguments and written != "bpchar" and plain_name(written) == "char":
        return 1
    if len(arguments) != 1 or not 1 <= arguments[0] <= _LONGEST:
        raise ValueError(f"{told} needs a length from 1 to {_LONGEST}, or use text")
    return arguments[0]


def _float(told: str, arguments: list[int]) -> str:
    """The type that float is with so many binary digits."""
    digits = arguments[0] if arguments else _DIGITS_OF_DOUBLE
    if len(arguments) > 1 or not 1 <= digits <= _DIGITS_OF_DOUBLE:
        raise ValueError(f"{told}: a float has 1 to {_DIGITS_OF_DOUBLE} binary digits")
    return "real" if digits <= _DIGITS_OF_REAL else "double precision"


def _numeric(told: str, arguments: list[int], nullable: bool) -> ColumnType:
    if not arguments:
        raise ValueError(f"{told} needs precision and scale, as numeric(12,2): no decimal is unbounded in SQL Server")
    precision, scale = (*arguments, 0)[:2]
    if not (1 <= precision <= 38 and 0 <= scale <= precision):
        raise ValueError(f"{told}: precision goes from 1 to 38 and scale from 0 to precision")
    return ColumnType("numeric", precision=precision, scale=scale, nullable=nullable)
