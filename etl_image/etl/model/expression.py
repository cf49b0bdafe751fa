"""Expressions of columns: a part of Postgres' SQL that has one value for a row, and reads nothing but the row.

Rendered by postgres/expression.py, and evaluated by the source alone. What may be written is listed here, and
everything else refused: subqueries, functions of the session, the clock or other tables, functions and types of users.
"""

import re

from sqlglot import exp
from sqlglot.dialects.postgres import Postgres
from sqlglot.errors import SqlglotError
from sqlglot.parsers.postgres import PostgresParser
from sqlglot.tokenizer_core import TokenType

from etl.errors import printable
from etl.model.column_types import ColumnType, parse_column_type, plain_name
from etl.model.predicate_values import Term, check_depth, too_deep
from etl.model.type_table import TYPES

_FUNCTIONS = {
    "lower": (1, 1), "upper": (1, 1), "trim": (1, 2), "ltrim": (1, 2), "rtrim": (1, 2), "left": (2, 2),
    "right": (2, 2), "substring": (2, 3), "length": (1, 1), "concat": (1, 99), "replace": (3, 3), "abs": (1, 1),
    "round": (1, 2), "floor": (1, 1), "ceil": (1, 1), "date_trunc": (2, 3), "encode": (2, 2), "md5": (1, 1),
    "coalesce": (1, 99), "nullif": (2, 2), "greatest": (1, 99), "least": (1, 99),
}  # fmt: skip
"""Functions, with the fewest and the most arguments."""
_OPERATORS: dict[type[exp.Expr], str] = {
    exp.Add: "+", exp.Sub: "-", exp.Mul: "*", exp.DPipe: "||", exp.Like: "~~",
    exp.EQ: "=", exp.NEQ: "<>", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">=",
}  # fmt: skip
_CONDITIONS = (exp.Predicate, exp.Not, exp.Connector)
_SEPARATE = (exp.Paren, exp.Connector, exp.Not, exp.Case, exp.Cast, exp.Extract, exp.Anonymous)
"""Nodes whose operands may be conditions without parentheses."""
_MOST_PARTS = 5000
_NUMBER = re.compile(r"\d+(\.\d+)?", re.ASCII)
_CLOCK = re.compile(r"\b(now|today|tomorrow|yesterday)\b", re.IGNORECASE)
_FIELD = re.compile(r"[a-z]+", re.ASCII | re.IGNORECASE)
_ALLOWED = (
    "an expression may have columns, texts, numbers, + - * ||, comparisons, AND, OR, NOT, IS NULL, IN, BETWEEN, LIKE,"
    f" CASE, casts to types that may be declared, ->>, AT TIME ZONE, EXTRACT and {', '.join(_FUNCTIONS)}; for anything"
    " else make a view at the source"
)
_NULL = Term("word", text="NULL")


class _Parser(PostgresParser):
    """Postgres' grammar, with functions by the names that are written."""

    FUNCTIONS = {}  # noqa: RUF012
    FUNCTION_PARSERS = {name: PostgresParser.FUNCTION_PARSERS[name] for name in ("CAST", "EXTRACT")}  # noqa: RUF012
    JSON_OPERATORS = {  # noqa: RUF012
        TokenType.DARROW: lambda _self, this, path: exp.Anonymous(this="->>", expressions=[this, path])
    }


def parse_expression(text: str) -> Term:
    """Parse an expression. Raises ValueError with what may be written instead of what is refused."""
    try:
        statements = _Parser(dialect=Postgres()).parse_into(exp.Condition, Postgres().tokenize(text), text)
        if len(statements) != 1 or statements[0] is None:
            raise ValueError(f"'{printable(text)}' must be one SQL expression")
        term = _value(statements[0], 0)
    except SqlglotError as error:
        first = printable(str(error).splitlines()[0])
        raise ValueError(f"'{printable(text)}' is not a SQL expression: {first}") from error
    except RecursionError:
        raise too_deep(text) from None
    if not any(each.operator == "column" for each in term.walk()):
        raise ValueError(f"'{printable(text)}' reads no column; a value that all rows have is a constant")
    return term


def _value(node: exp.Expr, depth: int) -> Term:
    check_depth(node, depth)
    operands = _operands(node)
    # The parser binds IS NULL and NOT otherwise than Postgres where an operator follows.
    if not isinstance(node, _SEPARATE) and any(isinstance(each, _CONDITIONS) for each in operands):
        raise ValueError(f"'{printable(node.sql('postgres'))}': put the condition in it in parentheses")
    parts = [_value(each, depth + 1) for each in operands]
    term = _leaf(node) or _compound(node, parts)
    if term is None:
        raise _refusal(node)
    if sum(1 for _ in term.walk()) > _MOST_PARTS:  # NULLIF, BETWEEN and CASE write a value twice
        raise too_deep(node.sql("postgres"))
    return Term("NOT", (term,)) if node.args.get("negate") else term


def _operands(node: exp.Expr) -> list[exp.Expr]:
    """The parts of a node that are expressions themselves."""
    match node:
        case exp.Column() | exp.Literal():
            return []
        case exp.Cast():
            return [node.this]
        case exp.Extract():
            return [node.expression]
        case exp.Case():
            subject = [node.this] if node.this is not None else []
            branches = [each for branch in node.args["ifs"] for each in (branch.this, branch.args["true"])]
            return [*subject, *branches, *filter(None, [node.args.get("default")])]
    return [each for each in node.iter_expressions() if isinstance(each, exp.Expr)]


def _leaf(node: exp.Expr) -> Term | None:
    match node:
        case exp.Column() if isinstance(node.this, exp.Identifier) and not node.table:
            # Without quotes that is the name of the role in Postgres.
            return Term("column", text=node.name) if node.name != "user" or node.this.quoted else None
        case exp.Literal() if node.is_string:
            if _CLOCK.search(node.this):
                raise ValueError(f"'{printable(node.this)}': Postgres may take it for the time of reading")
            return Term("text", text=node.this) if "\0" not in node.this else None
        case exp.Literal() if _NUMBER.fullmatch(node.this):
            return Term("number", text=node.this)
        case exp.Null():
            return _NULL
        case exp.Boolean():
            return Term("word", text="TRUE" if node.this else "FALSE")
    return None


def _compound(node: exp.Expr, parts: list[Term]) -> Term | None:
    match node:
        case exp.Paren():
            return parts[0]
        case exp.And() | exp.Or():
            return Term(node.key.upper(), tuple(parts))
        case exp.Not():
            return Term("NOT", tuple(parts))
        case exp.Neg():
            return Term("-", tuple(parts))
        case exp.Is() if parts[1] == _NULL:
            return Term("IS NULL", (parts[0],))
        case exp.Between() if not node.args.get("symmetric"):
            value, low, high = parts
            return Term("AND", (Term(">=", (value, low)), Term("<=", (value, high))))
        case exp.In() if len(parts) > 1 and node.expressions and not node.args.get("query"):
            return Term("OR", tuple(Term("=", (parts[0], each)) for each in parts[1:]))
        case exp.Case():
            return _case(node, parts)
        case exp.Cast() if type(node) is exp.Cast and not node.args.get("default"):
            return Term("cast", tuple(parts), _cast_type(node))
        case exp.Extract() if _FIELD.fullmatch(node.name):
            return Term("extract", tuple(parts), text=node.name.lower())
        case exp.AtTimeZone() if parts[1].operator == "text":
            return Term("AT TIME ZONE", tuple(parts))
        case exp.Anonymous() if isinstance(node.this, str):
            return _function(node, parts)
        case _ if type(node) in _OPERATORS and len(parts) == 2:
            return Term(_OPERATORS[type(node)], tuple(parts))
    return None


def _case(node: exp.Case, parts: list[Term]) -> Term:
    """Pairs of a condition and a value, and the value otherwise."""
    branches = 2 * len(node.args["ifs"])
    if node.this is not None:
        subject, *parts = parts
        parts = [Term("=", (subject, each)) if place < branches and place % 2 == 0 else each
                 for place, each in enumerate(parts)]  # fmt: skip
    return Term("case", tuple([*parts, _NULL][: branches + 1]))


def _cast_type(node: exp.Cast) -> ColumnType:
    written = node.to.sql("postgres").lower()
    name, _, arguments = written.partition("(")
    if plain_name(name.strip()) not in TYPES:
        raise _refusal(node)
    type_ = parse_column_type(written)
    if arguments and not (type_.length or type_.precision):
        raise ValueError(f"'{printable(node.sql('postgres'))}': write the type without ({arguments}")
    return type_


def _function(node: exp.Anonymous, parts: list[Term]) -> Term | None:
    name = str(node.this).lower()
    if name == "->>":
        return Term(name, tuple(parts)) if parts[1].operator in ("text", "number") else None
    fewest, most = _FUNCTIONS.get(name, (1, 0))
    if not fewest <= len(parts) <= most:
        return None
    if name == "nullif":
        return Term("case", (Term("=", tuple(parts)), _NULL, parts[0]))
    return Term("btrim" if name == "trim" else name, tuple(parts))


def _refusal(node: exp.Expr) -> ValueError:
    return ValueError(f"'{printable(node.sql('postgres'))}': {_ALLOWED}")
