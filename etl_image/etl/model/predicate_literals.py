"""Families of types in filters: the operators of each, and how its literals are written."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal

from etl.errors import printable
from etl.model.column_types import ColumnType

MOST_DIGITS = 38
"""Digits of an exact number: the most of a decimal in SQL Server and DuckDB."""
_MOST_FLOAT_DIGITS = 15  # up to so many digits, every database reads the same floating-point number
_CLOCK = r"\d\d:\d\d(:\d\d(\.\d{1,6})?)?"
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_TIME = re.compile(_CLOCK, re.ASCII)
_TIMESTAMP = re.compile(rf"\d{{4}}-\d\d-\d\d([ T]{_CLOCK})?", re.ASCII)
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_NUMBER = re.compile(r"-?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,3})?", re.IGNORECASE | re.ASCII)
# Postgres has no zero character, and T-SQL removes a backslash at a line's end together with the line's end.
_UNLIKE = re.compile("\0|\\\\\r?\n|[\ud800-\udfff]")
_EQUAL = ("=", "<>", "IN")
_ORDERED = (*_EQUAL, "<", "<=", ">", ">=", "BETWEEN")


@dataclass(frozen=True)
class Family:
    """Types that compare with each other: by these operators, and advice on what to write instead of others."""

    operators: tuple[str, ...]
    advice: str


FAMILIES = {
    "number": Family(_ORDERED, "numbers have no pattern; compare them by =, <, IN or BETWEEN"),
    "float": Family(_ORDERED, "numbers have no pattern; compare them by <, > or BETWEEN"),
    "boolean": Family(_ORDERED, "true and false have no pattern; write the column alone, or NOT and the column"),
    "text": Family((*_EQUAL, "LIKE"), "source and sink order text differently; compare it by =, <>, IN or LIKE"),
    "document": Family(
        ("LIKE",), "documents do not compare alike; write LIKE or IS NULL, or make a column of the part"
    ),
    "opaque": Family((), "source and sink compare these differently; ask only whether they are null"),
    "uuid": Family(_EQUAL, "SQL Server orders uuids otherwise; compare them by =, <> or IN"),
    "date": Family(_ORDERED, "dates have no pattern; compare them by =, < or BETWEEN"),
    "time": Family(_ORDERED, "times have no pattern; compare them by =, < or BETWEEN"),
    "timestamp": Family(_ORDERED, "times have no pattern; compare them by =, < or BETWEEN"),
    "timestamptz": Family(_ORDERED, "times have no pattern; compare them by =, < or BETWEEN"),
}
"""By name; values of one family compare with each other only."""


def family(column: ColumnType | None) -> str:
    """The name of a type's family; empty without a type."""
    return column.row.family if column else ""


def number(text: str) -> tuple[ColumnType, str]:
    """The type of an exact number, and its canonical form. Raises ValueError with the form to write."""
    if not _NUMBER.fullmatch(text):
        raise ValueError("a number is written as 5 or -1.50")
    _, digits, exponent = Decimal(text).as_tuple()
    if not isinstance(exponent, int) or max(len(digits), -exponent, len(digits) + exponent) > MOST_DIGITS:
        raise ValueError(f"a number has {MOST_DIGITS} digits at most")
    scale = max(-exponent, 0)
    precision = max(len(digits) + max(exponent, 0), scale, 1)
    return ColumnType("numeric", precision=precision, scale=scale), f"{Decimal(text):f}"


def literal(kind: str, given: ColumnType | None, text: str) -> tuple[ColumnType, str]:
    """A literal beside values of a family: its type, and its canonical text.

    `given` is the type in which it was written: numeric, boolean, or None for a text. Raises ValueError with the
    form to write.
    """
    if kind in ("number", "float"):
        if family(given) != "number":
            raise ValueError("a number is written without quotes, as 5 or -1.50")
        return _float(text) if kind == "float" else number(text)
    if kind == "boolean":
        if family(given) != "boolean":
            raise ValueError("write true or false, or the column alone")
        return ColumnType("boolean"), text
    if given is not None:
        raise ValueError(f"a value to compare {kind} with is written in quotes, as '{_EXAMPLES.get(kind, 'paid')}'")
    if kind in ("text", "document"):
        return _text(text)
    read, form = _READERS[kind]
    try:
        if form.fullmatch(text):
            return ColumnType(kind), read(text)
    except ValueError:
        pass
    raise ValueError(f"'{printable(text)}' is not a {kind} that is read alike everywhere; {_hint(kind, text)}")


def is_bigint(text: str) -> bool:
    """Whether a number in its canonical form is an integer that bigint holds."""
    return "." not in text and abs(int(text)) < 2**63


def _float(text: str) -> tuple[ColumnType, str]:
    _, digits, exponent = Decimal(text).as_tuple()
    if len(digits) > _MOST_FLOAT_DIGITS or not isinstance(exponent, int) or abs(exponent) > _MOST_FLOAT_DIGITS:
        raise ValueError(f"beside a floating-point number a number has {_MOST_FLOAT_DIGITS} digits at most")
    return ColumnType("double precision"), text


def _text(text: str) -> tuple[ColumnType, str]:
    if _UNLIKE.search(text):
        raise ValueError("a text with a zero character or with \\ at a line's end is not read alike")
    if text.endswith(" "):
        raise ValueError("a text that ends in a space does not compare alike everywhere; leave the space out")
    return ColumnType("text"), text


def _hint(kind: str, text: str) -> str:
    if text.strip().lstrip("-").lower() in ("infinity", "inf"):
        return "rows with an infinite time are rejected, never loaded; leave the condition out, or ask for IS NULL"
    if text.startswith("24"):
        return "SQL Server's time ends at '23:59:59.999999'"
    if kind == "timestamptz" and re.search(r"([+-]\d\d(:?\d\d)?|Z)$", text):
        return f"write the time in UTC, without an offset, as '{_EXAMPLES[kind]}'"
    return f"write it as '{_EXAMPLES[kind]}'" + (", in UTC" if kind == "timestamptz" else "")


def _time(text: str) -> str:
    return time.fromisoformat(text).isoformat(timespec="microseconds")


def _timestamp(text: str) -> str:
    return datetime.fromisoformat(text).isoformat(sep=" ", timespec="microseconds")


_READERS: dict[str, tuple[Callable[[str], str], re.Pattern[str]]] = {
    "uuid": (str.lower, _UUID),
    "date": (lambda text: date.fromisoformat(text).isoformat(), _DATE),
    "time": (_time, _TIME),
    "timestamp": (_timestamp, _TIMESTAMP),
    "timestamptz": (_timestamp, _TIMESTAMP),
}
_EXAMPLES = {
    "uuid": "00000000-0000-0000-0000-00000000000a",
    "date": "2026-01-31",
    "time": "12:30:00",
    "timestamp": "2026-01-31 12:00:00",
    "timestamptz": "2026-01-31 12:00:00",
}
