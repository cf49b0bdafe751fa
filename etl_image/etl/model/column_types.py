"""Declared column types, parsed as Postgres DDL writes them: `bigint`, `numeric(12,2)`, `varchar(40) null`.

Columns are NOT NULL unless declared `null`.
"""

import re
from dataclasses import dataclass, replace

from etl.errors import printable
from etl.model.type_table import FORM_NAMES, FORMS, TYPES, TypeRow

_DECLARATION = re.compile(
    r"(?P<name>\"char\"|[a-z][a-z0-9_]*( [a-z][a-z0-9_]*)*?)"
    r" ?(\( ?(?P<first>[0-9]{1,9}) ?(, ?(?P<second>-?[0-9]{1,9}) ?)?\))?"
    r"(?P<zone> with(out)? time zone)?(?P<null> (not )?null)?",
    re.IGNORECASE | re.ASCII,
)
_OPTION = re.compile(
    r"\b(DEFAULT|COLLATE|PRIMARY KEY|UNIQUE|REFERENCES|CHECK|GENERATED|CONSTRAINT|STORAGE|COMPRESSION)\b",
    re.IGNORECASE | re.ASCII,
)
_ARRAY = re.compile(r"\[[0-9]*\]| array\b", re.IGNORECASE | re.ASCII)
_NAMES = {name: row for row, each in TYPES.items() for name in each.names}
_SERIALS = {name: row for row, each in TYPES.items() for name in each.serials}
KEY_COLLATION = "Latin1_General_BIN2"
"""Collation of text keys: 'a' and 'A' differ in Postgres, and are equal in SQL Server's default collation."""
_DIGITS_OF_SECONDS = 6
_DIGITS_OF_REAL, _DIGITS_OF_DOUBLE = 24, 53
_DIGITS_OF_DECIMAL = 38
_LONGEST = 4000


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
        return self.arrow == "string"

    @property
    def is_unbounded(self) -> bool:
        """Whether a value of the source may have any length; a sized text too, since the source's may be unsized."""
        return self.arrow in ("string", "binary")

    @property
    def is_fixed(self) -> bool:
        """Whether each of its values has the same size in a row of SQL Server, null or not."""
        return self.name == "char" or not self.is_unbounded

    @property
    def is_integer(self) -> bool:
        """Whether it is an integer type."""
        return self.row.digits > 0

    @property
    def row(self) -> TypeRow:
        """Its row in the table of types."""
        return TYPES[self.name]

    @property
    def tsql(self) -> str:
        """The SQL Server type that carries it exactly, without NULL or collation."""
        return self._filled(self.row.tsql)

    @property
    def duckdb(self) -> str:
        """The type of DuckDB that the sink's type corresponds to."""
        return self._filled(self.row.duckdb)

    @property
    def arrow(self) -> str:
        """The type of Arrow that the bulk copy takes, as pyarrow's function with its arguments."""
        return self._filled(self.row.arrow)

    def _filled(self, text: str) -> str:
        return text.format(length=self.length, precision=self.precision, scale=self.scale)

    def __str__(self) -> str:
        arguments = {"numeric": f"({self.precision},{self.scale})"}.get(self.name, "")
        return self.name + (f"({self.length})" if self.length else arguments) + (" null" if self.nullable else "")


def plain_name(source_type: str) -> str:
    """The name in the table of types, for a type with several names in Postgres."""
    return _NAMES.get(source_type, source_type)


def parse_column_type(text: str) -> ColumnType:
    """Parse a declaration such as `numeric(12,2) null`: a type as DDL and psql write it, and NULL or NOT NULL.

    Raises ValueError, with a sentence, for a type that cannot be carried exactly.
    """
    quoted = f"'{printable(text)}'"
    match = _DECLARATION.fullmatch(" ".join(text.split()))
    if match is None or _OPTION.search(match["name"]):
        raise ValueError(f"{quoted} {_why_not(text)}")
    written = (match["name"] + (match["zone"] or "")).lower()
    arguments = [int(match[group]) for group in ("first", "second") if match[group]]
    nullable = bool(match["null"]) and "not" not in match["null"].lower()
    if written in _SERIALS and nullable:
        raise ValueError(f"{quoted}: a {written} is never null in Postgres; leave null away")
    name = _SERIALS.get(written) or plain_name(written)
    if written == "float":
        name, arguments = _float(quoted, arguments), []
    if name in ("time", "timestamp", "timestamptz") and len(arguments) == 1:
        if arguments[0] > _DIGITS_OF_SECONDS:
            raise ValueError(f"{quoted}: seconds have 0 to {_DIGITS_OF_SECONDS} digits in Postgres")
        arguments = []  # the sink's type has all six digits
    if name == "numeric":
        return _numeric(quoted, arguments, nullable)
    if (form := FORM_NAMES.get(name, "interval" if name.startswith("interval ") else name)) in FORMS:
        return replace(_in_form(quoted, form, arguments), nullable=nullable)
    if name not in TYPES:
        raise ValueError(f"{quoted} {_why_not(text)}")
    if "{length}" in TYPES[name].tsql:
        return ColumnType(name, length=_length(quoted, written, arguments), nullable=nullable)
    if arguments:
        raise ValueError(f"{quoted}: {name} takes no arguments here")
    return ColumnType(name, nullable=nullable)


def _in_form(quoted: str, name: str, arguments: list[int]) -> ColumnType:
    """The type that carries a type without a row."""
    declared = FORMS[name].declared
    if "{length}" not in declared:
        return parse_column_type(declared)  # digits of seconds do not matter in it
    if not arguments:
        return parse_column_type("varchar(1)" if name == "bit" else "text")
    if len(arguments) != 1:
        raise ValueError(f"{quoted}: {name} has one length")
    return parse_column_type(declared.format(length=arguments[0]) if arguments[0] <= _LONGEST else "text")


def _why_not(text: str) -> str:
    if option := _OPTION.search(text):
        return f"says more than a type: leave {option[0].upper()} away, and what belongs to it"
    if _ARRAY.search(text):
        return "is an array, which SQL Server does not have; declare text, for the array as Postgres writes it"
    return (
        f"is none of the types that may be declared: {_known()}. An enum is declared varchar(63), a domain as its base"
        " type, and every other type text, for its values as Postgres writes them; `null` as always"
    )


def _known() -> str:
    """The types that may be declared, with their arguments."""
    arguments = {"numeric": "(p,s)", "varchar": "(n)", "char": "(n)"}
    forms = (name for name, form in FORMS.items() if form.declared != "text")
    return ", ".join(f"{name}{arguments.get(name, '')}" for name in (*TYPES, *forms))


def _length(quoted: str, written: str, arguments: list[int]) -> int:
    # Postgres knows char without a length as char(1), but bpchar as one without end.
    if not arguments and written != "bpchar" and plain_name(written) == "char":
        return 1
    if len(arguments) != 1 or not 1 <= arguments[0] <= _LONGEST:
        raise ValueError(f"{quoted} needs a length from 1 to {_LONGEST}, or use text")
    return arguments[0]


def _float(quoted: str, arguments: list[int]) -> str:
    """The type that `float(n)` stands for, by its binary digits."""
    digits = arguments[0] if arguments else _DIGITS_OF_DOUBLE
    if len(arguments) > 1 or not 1 <= digits <= _DIGITS_OF_DOUBLE:
        raise ValueError(f"{quoted}: a float has 1 to {_DIGITS_OF_DOUBLE} binary digits")
    return "real" if digits <= _DIGITS_OF_REAL else "double precision"


def _numeric(quoted: str, arguments: list[int], nullable: bool) -> ColumnType:
    if not arguments:
        raise ValueError(
            f"{quoted} has no precision: write how many digits there are and how many of them are decimals, as in"
            " numeric(38,10), which `etl new-pipeline` measures; or text, which holds every digit"
        )
    precision, scale = (*arguments, 0)[:2]
    # Postgres rounds numeric(5,-2) to hundreds, and numeric(2,5) has three zeros behind the point.
    precision, scale = max(precision - min(scale, 0), scale), max(scale, 0)
    if not 1 <= precision <= _DIGITS_OF_DECIMAL:
        raise ValueError(
            f"{quoted}: a decimal of SQL Server has 1 to {_DIGITS_OF_DECIMAL} digits; text holds every digit"
        )
    return ColumnType("numeric", precision=precision, scale=scale, nullable=nullable)
