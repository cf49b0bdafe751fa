"""The column types that a pipeline may declare, and what each becomes in SQL Server.

A declaration is written as in Postgres DDL: `bigint`, `numeric(12,2)`, `varchar(40) null`. Columns are required
unless `null` is said.
"""

import re
from dataclasses import dataclass

from etl.errors import shown

_DECLARATION = re.compile(
    r"(?P<name>[a-z][a-z ]*?)\s*"
    r"(\(\s*(?P<first>[0-9]{1,9})\s*(,\s*(?P<second>[0-9]{1,9})\s*)?\))?(?P<null>\s+(not\s+)?null)?",
    re.IGNORECASE,
)
_ALIASES = {
    "int2": "smallint",
    "int": "integer",
    "int4": "integer",
    "int8": "bigint",
    "decimal": "numeric",
    "float4": "real",
    "float8": "double precision",
    "bool": "boolean",
    "character varying": "varchar",
    "character": "char",
    "bpchar": "char",
    "timestamp without time zone": "timestamp",
    "timestamp with time zone": "timestamptz",
    "time without time zone": "time",
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
MAX_KEY_TEXT = 400
"""Longest text of a key, all its columns together, in UTF-16 code units: a clustered index key holds 900 bytes."""


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
    def can_be_key(self) -> bool:
        """Whether SQL Server can index it, and its value survives being written as text."""
        return self.name in _KEY_TYPES and (self.length or 0) <= MAX_KEY_TEXT

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
    """Read a declaration such as `numeric(12,2) null`.

    Raises ValueError, in words, for a type that cannot be carried exactly.
    """
    match = _DECLARATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"'{shown(text)}' is not a column type; write it as in Postgres, for example numeric(12,2)")
    name = re.sub(r"\s+", " ", match["name"].lower())
    name = plain_name(name)
    arguments = [int(match[group]) for group in ("first", "second") if match[group]]
    nullable = bool(match["null"]) and "not" not in match["null"].lower()
    if name == "numeric":
        return _numeric(text, arguments, nullable)
    if name in _SIZED:
        longest = 4000
        if len(arguments) != 1 or not 1 <= arguments[0] <= longest:
            raise ValueError(f"'{text}' needs a length from 1 to {longest}, or use text")
        return ColumnType(name, length=arguments[0], nullable=nullable)
    if name not in _PLAIN:
        known = ", ".join(sorted([*_PLAIN, *_SIZED, "numeric"]))
        raise ValueError(f"'{shown(text)}' cannot be carried exactly; known types: {known}")
    if arguments:
        raise ValueError(f"'{text}': {name} takes no arguments here")
    return ColumnType(name, nullable=nullable)


def _numeric(text: str, arguments: list[int], nullable: bool) -> ColumnType:
    if not arguments:
        raise ValueError(f"'{text}' needs precision and scale, as numeric(12,2): no decimal is unbounded in SQL Server")
    precision, scale = (*arguments, 0)[:2]
    if not (1 <= precision <= 38 and 0 <= scale <= precision):
        raise ValueError(f"'{text}': precision goes from 1 to 38 and scale from 0 to precision")
    return ColumnType("numeric", precision=precision, scale=scale, nullable=nullable)
