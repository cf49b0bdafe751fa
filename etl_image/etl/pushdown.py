"""Whether a filter may run at the source: it must decide there as DuckDB does, which judges the rows.

Postgres and DuckDB agree on plain comparisons of columns of one kind. On others they may not: arithmetic,
floating-point numbers, the case of letters; these are refused.
"""

import re
from collections.abc import Mapping
from datetime import date, datetime, time

from sqlglot import exp

from etl.column_types import ColumnType
from etl.predicate import COMPARISONS, told

_FAMILIES = {
    "smallint": "integer", "integer": "integer", "bigint": "integer", "numeric": "numeric", "boolean": "boolean",
    "text": "text", "varchar": "text", "char": "text", "uuid": "uuid", "date": "date", "time": "time",
    "timestamp": "timestamp", "timestamptz": "timestamptz",
}  # fmt: skip
"""What compares alike everywhere, with its own kind only; other types do not compare, or not alike."""
_ORDERED_FAMILIES = {"integer", "numeric", "date", "time", "timestamp", "timestamptz"}
_NUMBER = re.compile(r"-?(?P<whole>\d+)(\.(?P<fraction>\d+))?")
_CLOCK = r"\d\d:\d\d(:\d\d(\.\d{1,6})?)?"
_TEXTS = {
    "uuid": re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"),
    "date": re.compile(r"\d{4}-\d\d-\d\d"),
    "time": re.compile(_CLOCK),
    "timestamp": re.compile(rf"\d{{4}}-\d\d-\d\d([ T]{_CLOCK})?"),
    "timestamptz": re.compile(rf"\d{{4}}-\d\d-\d\d([ T]{_CLOCK})?"),
}
_PARSERS = {"date": date.fromisoformat, "time": time.fromisoformat}
_MOST_DIGITS = 38
_LEAST_DIGITS = 10  # of an integer, as DuckDB compares it with a decimal


def check_pushdown(expression: exp.Expression, columns: Mapping[str, ColumnType]) -> None:
    """Raise ValueError, in words, unless Postgres decides about a parsed filter as the engine does."""
    for node in expression.find_all(*COMPARISONS):
        operands = list(_operands(node))
        families = {_FAMILIES.get(columns[each.name].name) for each in operands if isinstance(each, exp.Column)}
        if not families or len(families) > 1 or None in families:
            raise _refusal(node, "compare columns of one kind with each other or with plain values")
        (family,) = families
        if not isinstance(node, exp.EQ | exp.NEQ | exp.In | exp.Like) and family not in _ORDERED_FAMILIES:
            raise _refusal(node, f"{family} is not ordered alike everywhere; compare it by =, <> or IN")
        values = [each for each in operands if not isinstance(each, exp.Column)]
        if not all(_is_value(each, str(family)) for each in values):
            raise _refusal(node, f"a value to compare {family} with is written in its plainest form")
        if family == "numeric" and not _fits_decimal(operands, columns):
            raise _refusal(node, f"its decimals together have more than {_MOST_DIGITS} digits")
    for node in expression.find_all(exp.Is):
        if not isinstance(node.this, exp.Column):
            raise _refusal(node, "ask of a column alone whether it is null")


def _operands(node: exp.Expr) -> list[exp.Expr]:
    """The sides of a comparison, without parentheses around them."""
    return [each.unnest() for each in node.iter_expressions() if isinstance(each, exp.Expr)]


def _is_value(node: exp.Expr, family: str) -> bool:
    if family == "boolean":
        return isinstance(node, exp.Boolean)
    if family in ("integer", "numeric"):
        number = _NUMBER.fullmatch(_written(node))
        return number is not None and (family == "numeric" or (len(number["whole"]) <= 18 and not number["fraction"]))
    if not (isinstance(node, exp.Literal) and node.is_string):
        return False
    if family == "text":
        return True
    try:
        _PARSERS.get(family, datetime.fromisoformat if family.startswith("timestamp") else str)(node.this)
    except ValueError:
        return False
    return _TEXTS[family].fullmatch(node.this) is not None


def _written(node: exp.Expr) -> str:
    """A number as it is written, with its sign; empty for anything else."""
    if isinstance(node, exp.Neg):
        inner = _written(node.this)
        return f"-{inner}" if inner and not inner.startswith("-") else ""
    return str(node.this) if isinstance(node, exp.Literal) and not node.is_string else ""


def _fits_decimal(operands: list[exp.Expr], columns: Mapping[str, ColumnType]) -> bool:
    """Whether DuckDB has a decimal that holds every side exactly: it would compare floating-point numbers otherwise."""
    whole, scale = 0, 0
    for each in operands:
        if isinstance(each, exp.Column):
            column = columns[each.name]
            digits = ((column.precision or 0) - (column.scale or 0), column.scale or 0)
        else:
            number = _NUMBER.fullmatch(_written(each))
            fraction = (number["fraction"] or "") if number else ""
            digits = (max(len(number["whole"]) if number else 0, _LEAST_DIGITS if not fraction else 0), len(fraction))
        whole, scale = max(whole, digits[0]), max(scale, digits[1])
    return whole + scale <= _MOST_DIGITS


def _refusal(node: exp.Expr, words: str) -> ValueError:
    return ValueError(f"{told(node)} cannot run at the source with the same outcome: {words}")
