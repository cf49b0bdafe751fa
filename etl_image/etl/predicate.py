"""A pipeline's filter: one boolean expression with one meaning in Postgres, DuckDB and SQL Server.

The rules of what may be written, the same with and without pushdown. A filter is read into `Term`s, each value with its
type; what is not let through here reaches no database. Renderers: predicate_sql.py, and source_filter.py for Postgres.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from etl.column_types import ColumnType
from etl.errors import shown
from etl.predicate_literals import FAMILIES, family, is_bigint, literal, number

_OPERATORS: dict[type[exp.Expr], str] = {
    exp.EQ: "=", exp.NEQ: "<>", exp.GT: ">", exp.GTE: ">=", exp.LT: "<", exp.LTE: "<=",
    exp.Like: "LIKE", exp.Between: "BETWEEN", exp.In: "IN",
}  # fmt: skip
_ARITHMETIC: dict[type[exp.Expr], str] = {exp.Add: "+", exp.Sub: "-", exp.Mul: "*"}
_FUNCTIONS: dict[type[exp.Expr], str] = {exp.Abs: "abs", exp.Lower: "lower", exp.Upper: "upper"}
_ARGUMENTS = {"this", "expression", "expressions", "low", "high", "is_string", "quoted", "negate"}
_MOST_DIGITS = 38
_DEEPEST, _LONGEST = 40, 1000
_LONGEST_PATTERN = 4000  # 8,000 bytes, as LIKE takes them in SQL Server
_NO_CONDITION = (
    "is not a condition that means the same in Postgres and SQL Server; compare columns by =, <>, <, <=, >, >=, IN,"
    " BETWEEN, LIKE or IS NULL, and join conditions by AND, OR and NOT"
)
_NO_VALUE = (
    "is not a value that means the same in Postgres and SQL Server; write a column, a number, a text in '…', or + - *,"
    " abs, coalesce, lower or upper of them"
)
_ADVICE: dict[type[exp.Expr], str] = {
    exp.Null: "NULL equals nothing, not even NULL; write … IS NULL or … IS NOT NULL",
    exp.Cast: "a conversion is not the same everywhere; write the value as a plain text such as '2026-01-31'",
    exp.ILike: "upper and lower case are not the same everywhere; write lower(…) LIKE '…'",
    exp.Div: "a division is rounded differently; multiply the other side instead",
    exp.NullSafeEQ: "write … = …, and … IS NULL where null is meant too",
    exp.NullSafeNEQ: "write … <> …, and … IS NULL where null is meant too",
}


@dataclass(frozen=True)
class Term:
    """A condition or a value of a filter.

    `operator` says what it is, such as AND, IN, +, column or literal; `type` is that of a value, None of a condition;
    `text` is the name of a column, or a literal in its plainest form. Types of operands that are compared are alike.
    """

    operator: str
    operands: tuple["Term", ...] = ()
    type: ColumnType | None = None
    text: str = ""

    def walk(self) -> Iterator["Term"]:
        """The term and every term in it."""
        yield self
        for operand in self.operands:
            yield from operand.walk()


def parse_predicate(text: str, columns: Mapping[str, ColumnType]) -> Term:
    """Read a filter over columns of these types.

    Raises ValueError with what to write instead where Postgres, DuckDB and SQL Server might decide differently.
    """
    try:
        statements = sqlglot.parse(text, dialect="postgres")
        if len(statements) != 1 or statements[0] is None:
            raise ValueError(f"'{shown(text)}' must be one SQL expression")
        return _Rules(columns).condition(statements[0], 0)
    except SqlglotError as error:
        raise ValueError(f"'{shown(text)}' is not a SQL expression: {shown(str(error).splitlines()[0])}") from error
    except RecursionError:
        raise _too_deep(text) from None


def predicate_columns(predicate: Term) -> set[str]:
    """The names of the columns that a filter reads."""
    return {term.text for term in predicate.walk() if term.operator == "column"}


def compared_columns(predicate: Term) -> set[str]:
    """The names of the columns whose values matter to a filter, not only whether they are null."""
    conditions = (term for term in predicate.walk() if term.operator != "IS NULL")
    values = (value for term in conditions for value in term.operands)
    return {value.text for value in values if value.operator == "column"}


class _Rules:
    """Reads the parts of one filter."""

    def __init__(self, columns: Mapping[str, ColumnType]) -> None:
        self._columns = columns

    def condition(self, node: exp.Expr, depth: int) -> Term:
        if depth > _DEEPEST:
            raise _too_deep(node.sql("postgres"))
        match node:
            case exp.And() | exp.Or():
                parts = list(node.flatten(unnest=False))
                if len(parts) > _LONGEST:
                    raise _too_deep(f"{parts[0].sql('postgres')} {node.key.upper()} …")
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
        raise _refusal(node, _ADVICE.get(type(node), _NO_CONDITION))

    def _is(self, node: exp.Is, depth: int) -> Term:
        if isinstance(node.expression, exp.Boolean):
            term = Term(f"IS {str(node.expression.this).upper()}", (self._boolean(node.this, depth),))
        elif isinstance(node.expression, exp.Null):
            term = Term("IS NULL", (self._value(node.this, depth),))
            if term.operands[0].operator != "column":
                raise _refusal(node, "ask of a column alone whether it is null")
        else:
            raise _refusal(node, _NO_CONDITION)
        return _negated(node, term)

    def _boolean(self, node: exp.Expr, depth: int) -> Term:
        value = self._value(node, depth)
        if family(value.type) != "boolean":
            raise _refusal(node, f"is {value.type or 'a text'}, not true or false; compare it, as in … = … or IS NULL")
        return value

    def _comparison(self, node: exp.Expr, depth: int) -> Term:
        _check_arguments(node)
        operator = _OPERATORS[type(node)]
        values = [self._value(each, depth) for each in node.iter_expressions()]
        if len(values) < 2:
            raise _refusal(node, "has an empty list, so it is never true; write false")
        values = self._alike(node, values)
        kind = family(next(value.type for value in values if value.operator != "literal"))
        if operator not in FAMILIES[kind].operators:
            raise _refusal(node, FAMILIES[kind].advice)
        if operator == "IN" and any(value.type and value.type.name == "real" for value in values):
            raise _refusal(node, "Postgres rounds the numbers of a list to real; compare by <, > or BETWEEN")
        if operator == "LIKE":
            _check_pattern(node, *values)
        _check_case(node, values)
        return _negated(node, Term(operator, tuple(values)))

    def _alike(self, node: exp.Expr, values: Sequence[Term]) -> list[Term]:
        """Values that are compared, in one type: literals in that of the columns beside them."""
        types = [value.type for value in values if value.operator != "literal" and value.type]
        kinds = {family(each) for each in types}
        if not types:
            raise _refusal(node, "names no column; write true or false")
        if len(kinds) > 1:
            told = " and ".join(sorted(str(each) for each in types))
            raise _refusal(node, f"compares {told}; compare columns of one kind with each other or with plain values")
        (kind,) = kinds
        names = {each.name for each in types}
        if "char" in names and len(names) > 1:
            raise _refusal(
                node, "Postgres ignores spaces at the end beside a char, or does not; declare both as one type"
            )
        if not FAMILIES[kind].operators:
            raise _refusal(node, FAMILIES[kind].advice)
        read = [
            Term("literal", (), *self._literal(node, kind, value)) if value.operator == "literal" else value
            for value in values
        ]
        if kind != "number":
            return read
        if all(_is_integer(value) for value in read):
            bigint = ColumnType("bigint")
            return [replace(value, type=bigint) if value.operator == "literal" else value for value in read]
        decimals = [_decimal(value) for value in read]
        if _common(decimals) is None:
            raise _refusal(node, f"has {_MOST_DIGITS} digits at most: those before and those behind the point together")
        return decimals

    def _literal(self, node: exp.Expr, kind: str, value: Term) -> tuple[ColumnType, str]:
        try:
            return literal(kind, value.type, value.text)
        except ValueError as error:
            raise _refusal(node, str(error)) from None

    def _value(self, node: exp.Expr, depth: int) -> Term:
        if depth > _DEEPEST:
            raise _too_deep(node.sql("postgres"))
        _check_arguments(node)
        match node:
            case exp.Paren():
                return self._value(node.this, depth + 1)
            case exp.Column():
                return self._column(node)
            case exp.Boolean():
                return Term("literal", (), ColumnType("boolean"), "true" if node.this else "false")
            case exp.Literal() if node.is_string:
                return Term("literal", (), None, node.this)
            case exp.Literal():
                return self._number(node, node.this)
            case exp.Neg() if _is_number(node.this):
                value = self._value(node.this, depth + 1)
                return self._number(node, value.text[1:] if value.text.startswith("-") else f"-{value.text}")
            case exp.Coalesce():
                return self._coalesce(node, depth)
            case exp.Lower() | exp.Upper():
                (value,) = self._alike(node, [self._value(node.this, depth + 1)])
                if family(value.type) != "text":
                    raise _refusal(node, "lower and upper are for text, varchar and char")
                return Term(_FUNCTIONS[type(node)], (value,), ColumnType("text"))
            case exp.Neg() | exp.Abs() | exp.Add() | exp.Sub() | exp.Mul():
                return self._arithmetic(node, [self._value(each, depth + 1) for each in node.iter_expressions()])
        raise _refusal(node, _ADVICE.get(type(node), _NO_VALUE))

    def _column(self, node: exp.Column) -> Term:
        if node.table:
            raise _refusal(node, "names a table; write the column alone")
        if node.name not in self._columns:
            raise ValueError(f"unknown column {shown(node.name)}; the pipeline has {', '.join(self._columns)}")
        if node.name == "user" and not node.this.quoted:
            raise _refusal(node, 'is the name of the role in Postgres; write the column as "user"')
        return Term("column", (), self._columns[node.name], node.name)

    def _number(self, node: exp.Expr, text: str) -> Term:
        try:
            return Term("literal", (), *number(text))
        except ValueError as error:
            raise _refusal(node, str(error)) from None

    def _coalesce(self, node: exp.Coalesce, depth: int) -> Term:
        if not node.expressions:
            raise _refusal(node, "coalesce needs two values in SQL Server")
        values = self._alike(node, [self._value(each, depth + 1) for each in node.iter_expressions()])
        columns = [value.type for value in values if value.type and value.operator != "literal"]
        if family(columns[0]) == "document" or any(each.name == "real" for each in columns):
            raise _refusal(node, "coalesce of these is not the same everywhere; write … = … OR … IS NULL")
        common = columns[0]
        if family(common) == "number":
            decimals = [_decimal(value) for value in values]
            common = _common(decimals) or common
            values = [_cast(value, common) for value in decimals]
        return Term("coalesce", tuple(values), common)

    def _arithmetic(self, node: exp.Expr, values: list[Term]) -> Term:
        """In decimals that no step rounds: their digits follow SQL Server's rules, and are 38 at most."""
        for value in values:
            if value.type is None or family(value.type) != "number":
                raise _refusal(
                    node, f"computes with {value.type or 'a text'}; only numbers that are exact compute alike"
                )
        if all(value.operator == "literal" for value in values):
            raise _refusal(node, "names no column; write the result")
        values = [_decimal(value) for value in values]
        if len(values) == 1:
            return Term(_FUNCTIONS.get(type(node), "neg"), tuple(values), values[0].type)
        operator = _ARITHMETIC[type(node)]
        (p1, s1), (p2, s2) = ((each.type.precision or 0, each.type.scale or 0) for each in values if each.type)
        scale = s1 + s2 if operator == "*" else max(s1, s2)
        precision = p1 + p2 + 1 if operator == "*" else max(p1 - s1, p2 - s2) + scale + 1
        if precision > _MOST_DIGITS:
            raise _refusal(
                node,
                f"can have {precision} digits, more than the {_MOST_DIGITS} that SQL Server computes exactly; compare"
                " the columns themselves, or declare fewer digits",
            )
        return Term(operator, tuple(values), ColumnType("numeric", precision=precision, scale=scale))


def _negated(node: exp.Expr, term: Term) -> Term:
    return Term("NOT", (term,)) if node.args.get("negate") else term


def _check_arguments(node: exp.Expr) -> None:
    """Refuse what a node has beside its operands (BETWEEN SYMMETRIC, IN of a query): renderers would leave it out."""
    if any(value and name not in _ARGUMENTS for name, value in node.args.items() if name != "table"):
        raise _refusal(node, _ADVICE.get(type(node), _NO_CONDITION))


def _check_pattern(node: exp.Expr, value: Term, pattern: Term) -> None:
    # What _ stands for is a character, half of one (UTF-16) or one of its bytes (SQL_ASCII).
    if pattern.operator != "literal" or any(sign in pattern.text for sign in "\\[_"):
        raise _refusal(
            node, "a pattern is a text without \\, [ and _, which not all read alike; write % there, or compare by IN"
        )
    if len(pattern.text.encode("utf-16-le")) // 2 > _LONGEST_PATTERN:
        raise _refusal(node, f"a pattern has {_LONGEST_PATTERN} characters at most in SQL Server")
    last = pattern.text.rstrip("%")
    if any(term.type and term.type.name == "char" for term in value.walk()) and (
        last == pattern.text or last.endswith(" ")
    ):
        raise _refusal(
            node, "Postgres reads the spaces that pad a char; end the pattern with %, without a space before"
        )


def _check_case(node: exp.Expr, values: Sequence[Term]) -> None:
    """Other letters than a to z change their case by the locale; these do everywhere, as the renderers write it."""
    terms = [term for value in values for term in value.walk()]
    if any(term.operator in ("lower", "upper") for term in terms) and (
        sum(term.operator == "column" for term in terms) > 1
        or not all(term.text.isascii() for term in terms if term.operator == "literal")
    ):
        raise _refusal(
            node, "lower and upper change a to z alike everywhere, not other letters; compare one column with plain"
            " texts of ASCII letters, or list the forms by IN",
        )  # fmt: skip


def _is_number(node: exp.Expr) -> bool:
    while isinstance(node, exp.Neg | exp.Paren):
        node = node.this
    return isinstance(node, exp.Literal) and not node.is_string


def _is_integer(value: Term) -> bool:
    return value.type is not None and (
        value.type.name != "numeric" or (value.operator == "literal" and is_bigint(value.text))
    )


def _decimal(value: Term) -> Term:
    """A number as a decimal of the digits that its type can have."""
    if value.operator == "literal":
        return _cast(value, number(value.text)[0])
    digits = {"smallint": 5, "integer": 10, "bigint": 19}.get(value.type.name if value.type else "")
    return value if digits is None else _cast(value, ColumnType("numeric", precision=digits, scale=0))


def _cast(value: Term, decimal: ColumnType) -> Term:
    if value.operator == "literal":
        return replace(value, type=decimal)
    if value.type and (value.type.precision, value.type.scale) == (decimal.precision, decimal.scale):
        return value
    return Term("cast", value.operands if value.operator == "cast" else (value,), decimal)


def _common(values: Sequence[Term]) -> ColumnType | None:
    """The decimal that holds all values exactly; None where there is none."""
    types = [value.type for value in values if value.type]
    scale = max(each.scale or 0 for each in types)
    precision = max((each.precision or 0) - (each.scale or 0) for each in types) + scale
    return ColumnType("numeric", precision=max(precision, 1), scale=scale) if precision <= _MOST_DIGITS else None


def _too_deep(text: str) -> ValueError:
    return ValueError(f"'{shown(text)}' is nested too deeply, or too long a chain; write it with IN (…)")


def _refusal(node: exp.Expr, words: str) -> ValueError:
    return ValueError(f"'{shown(node.sql('postgres'))}': {words}")
