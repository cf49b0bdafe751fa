"""The type that a pipeline declares for a column of the source, with a remark where it is not the source's own."""

from typing import Protocol

from etl.errors import printable
from etl.model.source_type import SourceType
from etl.new.catalogue import SourceColumn, SourceTable

_WIDEST_KEY_TEXT, _SHORTEST_KEY_TEXT = 450, 16
_DIGITS = 38
_KINDS = {"e": "enum ", "c": "composite ", "r": "range ", "m": "multirange "}


class Measures(Protocol):
    """Answers about the rows of a table; None if there is none in time (etl.new.measure)."""

    def rows(self, table: SourceTable) -> int | None:
        """How many rows it has."""

    def longest(self, table: SourceTable, column: str) -> int | None:
        """The characters of the longest text of a column."""

    def digits(self, table: SourceTable, column: str) -> tuple[int, int] | None:
        """Digits before and after the point that the values of a column need."""


def declaration(table: SourceTable, column: SourceColumn, in_key: bool, measures: Measures) -> tuple[str, str]:
    """The type that a pipeline declares for a column, and a remark on it; empty if there is nothing to say."""
    source = column.type
    declared, remark = _declared(table, column, measures)
    remarks = [f"domain {printable(column.declared)}" if column.is_domain else "", remark]
    if in_key and declared == "text":
        declared, remark = _key_text(measures.longest(table, column.name))
        remarks.append(remark)
    null = "" if source.is_required or in_key else " null"
    return declared + null, "; ".join(filter(None, remarks))


def _declared(table: SourceTable, column: SourceColumn, measures: Measures) -> tuple[str, str]:
    source = column.type
    if _is_numeric(source) and "(" not in source.written:
        return _numeric(measures.digits(table, column.name))
    declared = source.declaration_or_text()
    if _is_numeric(source) and declared == "text":
        return "text", f"{source.written} has more digits than a decimal of SQL Server: as its text"
    if source.row is not None:
        return declared, ""
    return declared, f"{_KINDS.get(source.kind, '')}{printable(source.name)}, as its text"


def _is_numeric(source: SourceType) -> bool:
    return source.row is not None and source.name == "numeric"


def _numeric(digits: tuple[int, int] | None) -> tuple[str, str]:
    """A numeric without precision: the digits that its values do not need today are shared between both sides.

    An average, for example, has the more decimals the smaller it is.
    """
    if digits is None:
        return "text", "numeric without precision, whose values take too long to measure: as their text"
    whole, scale = digits
    if whole + scale > _DIGITS:
        return "text", f"numeric with {whole} + {scale} digits, more than a decimal of SQL Server has: as its text"
    return (
        f"numeric({_DIGITS},{scale + (_DIGITS - whole - scale) // 2})",
        f"numeric without precision; today's values have at most {whole} digits before the point and {scale} after it",
    )


def _key_text(longest: int | None) -> tuple[str, str]:
    """A text without a length in the key, which SQL Server can only index if it has one."""
    if longest is None:
        return f"varchar({_WIDEST_KEY_TEXT})", "a longer text is refused"
    length = min(max(2 * longest, _SHORTEST_KEY_TEXT), _WIDEST_KEY_TEXT)
    return (
        f"varchar({length})",
        f"the longest text of today has {longest} characters; a longer one than this is refused",
    )
