"""A pipeline's filter: one boolean expression with one meaning in Postgres, DuckDB and SQL Server.

The rules of what may be written, the same with and without pushdown: conditions here, values in predicate_values.py,
literals in predicate_literals.py. A refused filter reaches no database. Renderers: predicate_sql.py, and
postgres/filter.py for Postgres.
"""

from collections.abc import Mapping, Sequence

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from etl.errors import printable
from etl.model.column_types import ColumnType
from etl.model.predicate_literals import FAMILIES, family
from etl.model.predicate_values import Term, Values, check_arguments, check_depth, refusal, too_deep

_OPERATORS: dict[type[exp.Expr], str] = {
    exp.EQ: "=", exp.NEQ: "<>", exp.GT: ">", exp.GTE: ">=", exp.LT: "<", exp.LTE: "<=",
    exp.Like: "LIKE", exp.Between: "BETWEEN", exp.In: "IN",
}  # fmt: skip
_MOST_CONDITIONS = 1000
_LONGEST_PATTERN = 4000  # 8,000 bytes, as LIKE takes them in SQL Server


def parse_predicate(text: str, columns: Mapping[str, ColumnType]) -> Term:
    """Parse a filter over columns of these types.

    Raises ValueError with what to write instead where Postgres, DuckDB and SQL Server might decide differently.
    """
    try:
        statements = sqlglot.parse(text, dialect="postgres")
        if len(statements) != 1 or statements[0] is None:
            raise ValueError(f"'{printable(text)}' must be one SQL expression")
        return _Conditions(columns).condition(statements[0], 0)
    except SqlglotError as error:
        first = printable(str(error).splitlines()[0])
        raise ValueError(f"'{printable(text)}' is not a SQL expression: {first}") from error
    except RecursionError:
        raise too_deep(text) from None


def predicate_columns(predicate: Term) -> set[str]:
    """The names of the columns that a filter reads."""
    return {term.text for term in predicate.walk() if term.operator == "column"}


def compared_columns(predicate: Term) -> set[str]:
    """The names of the columns whose values a filter uses, not only whether they are null."""
    conditions = (term for term in predicate.walk() if term.operator != "IS NULL")
    values = (value for term in conditions for value in term.operands)
    return {value.text for value in values if value.operator == "column"}


class _Conditions:
    """Parses the conditions of one filter."""

    def __init__(self, columns: Mapping[str, ColumnType]) -> None:
        self._values = Values(columns)

    def condition(self, node: exp.Expr, depth: int) -> Term:
        check_depth(node, depth)
        match node:
            case exp.And() | exp.Or():
                parts = list(node.flatten(unnest=False))
                if len(parts) > _MOST_CONDITIONS:
                    raise too_deep(f"{parts[0].sql('postgres')} {node.key.upper()} …")
                return Term(node.key.upper(), tuple(self.condition(part, depth + 1) for part in parts))
            case exp.Not():
                return Term("NOT", (self.condition(node.this, depth + 1),))
            case exp.Paren():
                return self.condition(node.this, depth + 1)
            case exp.Boolean():
                return Term("TRUE" if node.this else "FALSE")
            case exp.Column() | exp.Coalesce():
                return Term("HOLDS", (self._boolean(node, depth),))
            case exp.Is():
                return self._is(node, depth)
            case _ if type(node) in _OPERATORS:
                return self._comparison(node, depth)
        raise refusal(node)

    def _is(self, node: exp.Is, depth: int) -> Term:
        if isinstance(node.expression, exp.Boolean):
            term = Term(f"IS {str(node.expression.this).upper()}", (self._boolean(node.this, depth),))
        elif isinstance(node.expression, exp.Null):
            term = Term("IS NULL", (self._values.value(node.this, depth),))
            if term.operands[0].operator != "column":
                raise refusal(node, "ask of a column alone whether it is null")
        else:
            raise refusal(node)
        return _negated(node, term)

    def _boolean(self, node: exp.Expr, depth: int) -> Term:
        value = self._values.value(node, depth)
        if family(value.type) != "boolean":
            raise refusal(node, f"is {value.type or 'a text'}, not true or false; compare it, as in … = … or IS NULL")
        return value

    def _comparison(self, node: exp.Expr, depth: int) -> Term:
        check_arguments(node)
        operator = _OPERATORS[type(node)]
        values = [self._values.value(each, depth) for each in node.iter_expressions()]
        if len(values) < 2:
            raise refusal(node, "has an empty list, so it is never true; write false")
        values = self._values.alike(node, values)
        kind = family(next(value.type for value in values if value.operator != "literal"))
        if operator not in FAMILIES[kind].operators:
            raise refusal(node, FAMILIES[kind].advice)
        if operator == "IN" and any(value.type and value.type.name == "real" for value in values):
            raise refusal(node, "Postgres rounds the numbers of a list to real; compare by <, > or BETWEEN")
        if operator == "LIKE":
            _check_pattern(node, *values)
        _check_case(node, values)
        return _negated(node, Term(operator, tuple(values)))


def _negated(node: exp.Expr, term: Term) -> Term:
    return Term("NOT", (term,)) if node.args.get("negate") else term


def _check_pattern(node: exp.Expr, value: Term, pattern: Term) -> None:
    # _ stands for a character, for half of one (UTF-16), or for one of its bytes (SQL_ASCII).
    if pattern.operator != "literal" or any(sign in pattern.text for sign in "\\[_"):
        raise refusal(
            node, "a pattern is a text without \\, [ and _, which not all read alike; write % there, or compare by IN"
        )
    if len(pattern.text.encode("utf-16-le")) // 2 > _LONGEST_PATTERN:
        raise refusal(node, f"a pattern has {_LONGEST_PATTERN} characters at most in SQL Server")
    last = pattern.text.rstrip("%")
    if any(term.type and term.type.name == "char" for term in value.walk()) and (
        last == pattern.text or last.endswith(" ")
    ):
        raise refusal(node, "Postgres reads the spaces that pad a char; end the pattern with %, without a space before")


def _check_case(node: exp.Expr, values: Sequence[Term]) -> None:
    """Refuse letters other than a to z: their case depends on the locale."""
    terms = [term for value in values for term in value.walk()]
    if any(term.operator in ("lower", "upper") for term in terms) and (
        sum(term.operator == "column" for term in terms) > 1
        or not all(term.text.isascii() for term in terms if term.operator == "literal")
    ):
        raise refusal(
            node, "lower and upper change a to z alike everywhere, not other letters; compare one column with plain"
            " texts of ASCII letters, or list the forms by IN",
        )  # fmt: skip
