"""A pipeline's filter: one boolean expression that means the same in Postgres, DuckDB and SQL Server.

Only constructs with one meaning in all three are let through, so the filter can run on staged files, be pushed to
the source, and be checked again in the sink.
"""

from typing import cast

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

_ALLOWED: tuple[type[exp.Expression], ...] = (
    exp.Column, exp.Identifier, exp.Literal, exp.Boolean, exp.Null, exp.Paren, exp.Tuple,
    exp.And, exp.Or, exp.Not, exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE,
    exp.In, exp.Between, exp.Is, exp.Like,
    exp.Add, exp.Sub, exp.Mul, exp.Neg,
    exp.Lower, exp.Upper, exp.Coalesce, exp.Abs,
)  # fmt: skip


def parse_predicate(text: str, columns: set[str]) -> exp.Expression:
    """Parse a filter and check that it uses known columns and portable constructs only.

    Raises ValueError, in words, for anything else.
    """
    try:
        statements = sqlglot.parse(text, dialect="postgres")
    except SqlglotError as error:
        raise ValueError(f"'{text}' is not a SQL expression: {str(error).splitlines()[0]}") from error
    if len(statements) != 1 or statements[0] is None:
        raise ValueError(f"'{text}' must be one SQL expression")
    expression = cast(exp.Expression, statements[0])
    for node in expression.walk():
        if not isinstance(node, _ALLOWED) or (isinstance(node, exp.In) and not node.expressions):
            raise ValueError(f"'{node.sql('postgres')}' is not allowed: its meaning may differ between source and sink")
    for column in expression.find_all(exp.Column):
        if column.table:
            raise ValueError(f"write '{column.name}' without the table's name")
    unknown = predicate_columns(expression) - columns
    if unknown:
        raise ValueError(f"unknown column {', '.join(sorted(unknown))}; the pipeline has {', '.join(sorted(columns))}")
    if isinstance(expression, exp.Literal | exp.Null | exp.Add | exp.Sub | exp.Mul | exp.Neg | exp.Tuple):
        raise ValueError(f"'{text}' is not true or false")
    return expression


def predicate_columns(expression: exp.Expression) -> set[str]:
    """The names of the columns that a filter reads."""
    return {column.name for column in expression.find_all(exp.Column)}


def render_predicate(expression: exp.Expression, dialect: str) -> str:
    """The filter as SQL of a dialect (`postgres`, `duckdb`, `tsql`), every identifier quoted."""
    return expression.sql(dialect=dialect, identify=True)
