"""A pipeline's filter: one boolean expression that means the same in Postgres, DuckDB and SQL Server.

Only constructs with one meaning in all three are let through, so the filter can run on staged files and be checked
again in the sink. T-SQL tells conditions from values, so the grammar here does too.
"""

import math
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from etl.column_types import KEY_COLLATION, ColumnType
from etl.errors import shown

COMPARISONS = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Like, exp.Between, exp.In)
"""The conditions that compare values."""
_ORDERED = (exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Between)
_VALUES = (
    exp.Column, exp.Literal, exp.Boolean, exp.Paren, exp.Add, exp.Sub, exp.Mul, exp.Neg,
    exp.Lower, exp.Upper, exp.Coalesce, exp.Abs,
)  # fmt: skip
_NUMBER = re.compile(r"(?P<digits>[0-9]*\.?[0-9]*)(e[+-]?[0-9]{1,3})?", re.IGNORECASE)
_MOST_DIGITS = 38
# Postgres has no zero character, and T-SQL leaves out a backslash that ends a line together with the line's end.
_UNLIKE = re.compile("\0|\\\\\r?\n|[\ud800-\udfff]")
_END = "|"
"""Put behind both sides of a comparison, where SQL Server would otherwise take no notice of spaces."""


def parse_predicate(text: str, columns: Mapping[str, ColumnType]) -> exp.Expression:
    """Parse a filter and check that it uses known columns and portable constructs only.

    Raises ValueError, in words, for anything else.
    """
    try:
        statements = sqlglot.parse(text, dialect="postgres")
        if len(statements) != 1 or not isinstance(statements[0], exp.Expression):
            raise ValueError(f"'{shown(text)}' must be one SQL expression")
        expression = statements[0]
        for node in expression.walk():
            # They would be sent along, and nest in one dialect and not in another.
            node.pop_comments()
        _check_condition(expression, columns)
        # Rendering goes deeper than parsing does.
        render_tsql(expression, columns)
    except SqlglotError as error:
        raise ValueError(f"'{shown(text)}' is not a SQL expression: {shown(str(error).splitlines()[0])}") from error
    except RecursionError:
        raise ValueError(f"'{shown(text)}' is nested too deeply, or too long a chain; write it with IN (…)") from None
    return expression


def predicate_columns(expression: exp.Expression) -> set[str]:
    """The names of the columns that a filter reads."""
    return {column.name for column in expression.find_all(exp.Column)}


def render_duckdb(expression: exp.Expression) -> str:
    """The filter as SQL of DuckDB, every identifier quoted."""
    return expression.sql(dialect="duckdb", identify=True)


def render_tsql(expression: exp.Expression, columns: Mapping[str, ColumnType]) -> str:
    """The filter as T-SQL that decides as Postgres does, whatever the collation of the sink's columns."""
    # Only as part of a query does a bare boolean column become a comparison.
    query = exp.select("1").where(expression.copy())
    # All nodes are found before any is changed: what is put around a value is not looked at again.
    for node in list(query.walk()):
        padded = isinstance(node, exp.EQ | exp.NEQ | exp.In) and _compares_text(node, columns)
        for name, value in list(node.args.items()):
            if isinstance(value, list):  # set at once: one by one, a long list would take its square in time
                node.set(name, [_exact(each, columns, padded) for each in value])
            else:
                node.set(name, _exact(value, columns, padded))
    return query.sql(dialect="tsql", identify=True).removeprefix("SELECT 1 WHERE ")


def _exact(value: Any, columns: Mapping[str, ColumnType], padded: bool) -> Any:
    """A value as T-SQL that compares it as Postgres does; `padded`: in a comparison that would add spaces."""
    if isinstance(value, exp.Literal):
        # Without N the text would go through the database's code page, and lose what that does not have.
        text = value.this + _END if padded else value.this
        return exp.National(this=text) if padded or value.is_string else value
    if isinstance(value, exp.Column) and columns[value.name].is_text:
        # Of nchar the spaces that pad it are no part of the value, and LIKE takes notice of them.
        inner = exp.func("RTRIM", value) if columns[value.name].name == "char" else value
        value = exp.Collate(this=inner, expression=exp.var(KEY_COLLATION))
    if padded and isinstance(value, exp.Expr):
        return exp.Add(this=value, expression=exp.National(this=_END))
    return value


def _compares_text(node: exp.Expr, columns: Mapping[str, ColumnType]) -> bool:
    return any(columns[column.name].is_text for column in node.find_all(exp.Column))


def _check_condition(node: exp.Expression, columns: Mapping[str, ColumnType]) -> None:
    if isinstance(node, exp.And | exp.Or | exp.Not | exp.Paren):
        for operand in node.iter_expressions():
            _check_condition(operand, columns)
    elif isinstance(node, exp.Column):
        _check_value(node, columns)
        if columns[node.name].name != "boolean":
            raise ValueError(f"{told(node)} is {columns[node.name]}, not true or false; compare it")
    elif isinstance(node, exp.Is) and isinstance(node.expression, exp.Null):
        _check_value(node.this, columns)
    elif isinstance(node, COMPARISONS) and node.args.get("query") is None:
        for value in node.iter_expressions():
            _check_value(value, columns)
        _check_comparison(node, columns)
    elif not isinstance(node, exp.Boolean):
        raise ValueError(f"{told(node)} is not a condition that means the same at source and sink")


def _check_value(node: exp.Expression, columns: Mapping[str, ColumnType]) -> None:
    if not isinstance(node, _VALUES):
        raise ValueError(f"{told(node)} is not a value that means the same at source and sink")
    if isinstance(node, exp.Column):
        if node.table:
            raise ValueError(f"{told(node)} names a table; write the column alone")
        if node.name not in columns:
            raise ValueError(f"unknown column {shown(node.name)}; the pipeline has {', '.join(columns)}")
        return
    if isinstance(node, exp.Literal):
        _check_literal(node)
    if isinstance(node, exp.Coalesce) and not node.expressions:
        raise ValueError(f"{told(node)}: coalesce needs two values in SQL Server")
    for operand in node.iter_expressions():
        if isinstance(operand, exp.Boolean):
            raise ValueError(f"{told(node)}: true and false are conditions in SQL Server, not values")
        _check_value(operand, columns)


def _check_literal(node: exp.Literal) -> None:
    if node.is_string:
        if _UNLIKE.search(node.this):
            raise ValueError(f"{told(node)}: a text with a zero character or with \\ at a line's end is not read alike")
        return
    number = _NUMBER.fullmatch(node.this)
    digits = number["digits"].lstrip("0").replace(".", "") if number else ""
    if not number or len(digits) > _MOST_DIGITS or not math.isfinite(float(node.this)):
        raise ValueError(f"{told(node)}: a number has {_MOST_DIGITS} digits at most")


def _check_comparison(node: exp.Expression, columns: Mapping[str, ColumnType]) -> None:
    """Refuse comparisons whose outcome depends on who makes them."""
    texts = [literal.this for literal in node.find_all(exp.Literal) if literal.is_string]
    types = [columns[column.name] for column in node.find_all(exp.Column)]
    if any(column.name == "bytea" for column in types):
        # SQL Server takes no notice of zeros at their end, and reads them as UTF-16 beside a text.
        raise ValueError(f"{told(node)}: source and sink compare bytes differently; ask only whether they are null")
    if isinstance(node, exp.In) and not node.expressions:
        raise ValueError(f"{told(node)} has an empty list, so it is never true")
    if isinstance(node, exp.Like):
        # What _ stands for is a character, half of one (UTF-16) or one of its bytes (SQL_ASCII).
        if not isinstance(node.expression, exp.Literal) or any(sign in node.expression.this for sign in "\\[_"):
            raise ValueError(
                f"{told(node)}: a pattern is a text without \\, [ and _, which not all databases read alike;"
                " write % in their place, or compare by IN"
            )
    elif isinstance(node, _ORDERED) and any(column.is_text for column in types):
        raise ValueError(f"{told(node)}: source and sink order text differently; compare it by =, <>, IN or LIKE")
    if any(text.endswith(" ") for text in texts) and any(column.is_text for column in types):
        raise ValueError(f"{told(node)}: a text that ends in a space does not compare alike everywhere")
    if any(column.name in ("timestamp", "timestamptz") for column in types):
        for text in texts:
            _check_time(text)


def _check_time(text: str) -> None:
    try:
        zone = datetime.fromisoformat(text).tzinfo
    except ValueError:
        raise ValueError(f"'{text}' is not a time; write it as 2026-01-31 or 2026-01-31 12:00:00, in UTC") from None
    if zone is not None:
        raise ValueError(f"'{text}' has an offset; write the time in UTC, without one")


def told(node: exp.Expr) -> str:
    """A part of a filter, as messages tell it."""
    return f"'{shown(node.sql('postgres'))}'"
