"""A pipeline's filter: one boolean expression that means the same in Postgres, DuckDB and SQL Server.

Only constructs with one meaning in all three are let through, so the filter can run on staged files and be checked
again in the sink. T-SQL tells conditions from values, so the grammar here does too.
"""

from collections.abc import Mapping
from datetime import datetime

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from etl.column_types import KEY_COLLATION, ColumnType

COMPARISONS = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Like, exp.Between, exp.In)
"""The conditions that compare values."""
_ORDERED = (exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Between)
_VALUES = (
    exp.Column, exp.Literal, exp.Boolean, exp.Paren, exp.Add, exp.Sub, exp.Mul, exp.Neg,
    exp.Lower, exp.Upper, exp.Coalesce, exp.Abs,
)  # fmt: skip


def parse_predicate(text: str, columns: Mapping[str, ColumnType]) -> exp.Expression:
    """Parse a filter and check that it uses known columns and portable constructs only.

    Raises ValueError, in words, for anything else.
    """
    try:
        statements = sqlglot.parse(text, dialect="postgres")
    except SqlglotError as error:
        raise ValueError(f"'{text}' is not a SQL expression: {str(error).splitlines()[0]}") from error
    if len(statements) != 1 or not isinstance(statements[0], exp.Expression):
        raise ValueError(f"'{text}' must be one SQL expression")
    expression = statements[0]
    _check_condition(expression, columns)
    return expression


def predicate_columns(expression: exp.Expression) -> set[str]:
    """The names of the columns that a filter reads."""
    return {column.name for column in expression.find_all(exp.Column)}


def render_duckdb(expression: exp.Expression) -> str:
    """The filter as SQL of DuckDB, every identifier quoted."""
    return expression.sql(dialect="duckdb", identify=True)


def render_tsql(expression: exp.Expression, columns: Mapping[str, ColumnType]) -> str:
    """The filter as T-SQL that decides as Postgres does, whatever the collation of the sink's columns."""

    def exact(node: exp.Expression) -> exp.Expression:
        if isinstance(node, exp.Literal) and node.is_string:
            # Without N the text would go through the database's code page, and lose what that does not have.
            return exp.National(this=node.this)
        if isinstance(node, exp.Column) and columns[node.name].is_text:
            return exp.Collate(this=node.copy(), expression=exp.var(KEY_COLLATION))
        return node

    # Only as part of a query does a bare boolean column become a comparison.
    query = exp.select("1").where(expression.transform(exact)).sql(dialect="tsql", identify=True)
    return query.removeprefix("SELECT 1 WHERE ")


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
            raise ValueError(f"unknown column {node.name}; the pipeline has {', '.join(columns)}")
        return
    for operand in node.iter_expressions():
        if isinstance(operand, exp.Boolean):
            raise ValueError(f"{told(node)}: true and false are conditions in SQL Server, not values")
        _check_value(operand, columns)


def _check_comparison(node: exp.Expression, columns: Mapping[str, ColumnType]) -> None:
    """Refuse comparisons whose outcome depends on who makes them."""
    texts = [literal.this for literal in node.find_all(exp.Literal) if literal.is_string]
    types = [columns[column.name] for column in node.find_all(exp.Column)]
    if isinstance(node, exp.In) and not node.expressions:
        raise ValueError(f"{told(node)} has an empty list, so it is never true")
    if isinstance(node, exp.Like):
        if not isinstance(node.expression, exp.Literal) or any(sign in node.expression.this for sign in "\\["):
            raise ValueError(f"{told(node)}: a pattern is a text without \\ and [, which not all databases read alike")
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
    return f"'{node.sql('postgres')}'"
