"""The values of a filter: columns, literals, and expressions of them, each with its type.

Literals take the type of the columns beside them; exact numbers of several types become decimals that hold them all.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlglot import exp

from etl.errors import printable
from etl.model.column_types import ColumnType
from etl.model.predicate_literals import FAMILIES, MOST_DIGITS, family, is_bigint, literal, number

_ARITHMETIC: dict[type[exp.Expr], str] = {exp.Add: "+", exp.Sub: "-", exp.Mul: "*"}
_FUNCTIONS: dict[type[exp.Expr], str] = {exp.Abs: "abs", exp.Lower: "lower", exp.Upper: "upper"}
_ARGUMENTS = {"this", "expression", "expressions", "low", "high", "is_string", "quoted", "negate"}
_DEEPEST = 40
_UNKNOWN = (
    "is not known to mean the same in Postgres and SQL Server; compare columns with each other or with plain values"
    " by =, <>, <, <=, >, >=, IN, BETWEEN, LIKE or IS NULL, join conditions by AND, OR and NOT, and compute with + - *,"
    " abs, coalesce, lower and upper only"
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

    `operator` is its kind, such as AND, IN, +, column or literal; `type` that of a value, None for a condition; `text`
    the name of a column, or a literal in its canonical form. Operands that are compared have the same type.
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


class Values:
    """Parses the values of one filter, over columns of these types. Every method raises ValueError for a refusal."""

    def __init__(self, columns: Mapping[str, ColumnType]) -> None:
        self._columns = columns

    def alike(self, node: exp.Expr, values: Sequence[Term]) -> list[Term]:
        """Values that are compared, in one type: a literal takes that of the columns beside it."""
        types = [value.type for value in values if value.operator != "literal" and value.type]
        kinds = {family(each) for each in types}
        if not types:
            raise refusal(node, "names no column; write true or false")
        if len(kinds) > 1:
            types_found = " and ".join(sorted(str(each) for each in types))
            raise refusal(
                node, f"compares {types_found}; compare columns of one kind with each other or with plain values"
            )
        (kind,) = kinds
        names = {each.name for each in types}
        if "char" in names and len(names) > 1:
            raise refusal(
                node, "Postgres ignores spaces at the end beside a char, or does not; declare both as one type"
            )
        if not FAMILIES[kind].operators:
            raise refusal(node, FAMILIES[kind].advice)
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
            raise refusal(node, f"has {MOST_DIGITS} digits at most: those before and those behind the point together")
        return decimals

    def _literal(self, node: exp.Expr, kind: str, value: Term) -> tuple[ColumnType, str]:
        try:
            return literal(kind, value.type, value.text)
        except ValueError as error:
            raise refusal(node, str(error)) from None

    def value(self, node: exp.Expr, depth: int) -> Term:
        """A value; a text in quotes has no type yet."""
        check_depth(node, depth)
        check_arguments(node)
        match node:
            case exp.Paren():
                return self.value(node.this, depth + 1)
            case exp.Column():
                return self._column(node)
            case exp.Boolean():
                return Term("literal", (), ColumnType("boolean"), "true" if node.this else "false")
            case exp.Literal() if node.is_string:
                return Term("literal", (), None, node.this)
            case exp.Literal():
                return self._number(node, node.this)
            case exp.Neg() if _is_number(node.this):
                value = self.value(node.this, depth + 1)
                return self._number(node, value.text[1:] if value.text.startswith("-") else f"-{value.text}")
            case exp.Coalesce():
                return self._coalesce(node, depth)
            case exp.Lower() | exp.Upper():
                (value,) = self.alike(node, [self.value(node.this, depth + 1)])
                if family(value.type) != "text":
                    raise refusal(node, "lower and upper are for text, varchar and char")
                return Term(_FUNCTIONS[type(node)], (value,), ColumnType("text"))
            case exp.Neg() | exp.Abs() | exp.Add() | exp.Sub() | exp.Mul():
                return self._arithmetic(node, [self.value(each, depth + 1) for each in node.iter_expressions()])
        raise refusal(node)

    def _column(self, node: exp.Column) -> Term:
        if node.table:
            raise refusal(node, "names a table; write the column alone")
        if node.name not in self._columns:
            raise ValueError(f"unknown column {printable(node.name)}; the pipeline has {', '.join(self._columns)}")
        if node.name == "user" and not node.this.quoted:
            raise refusal(node, 'is the name of the role in Postgres; write the column as "user"')
        return Term("column", (), self._columns[node.name], node.name)

    def _number(self, node: exp.Expr, text: str) -> Term:
        try:
            return Term("literal", (), *number(text))
        except ValueError as error:
            raise refusal(node, str(error)) from None

    def _coalesce(self, node: exp.Coalesce, depth: int) -> Term:
        if not node.expressions:
            raise refusal(node, "coalesce needs two values in SQL Server")
        values = self.alike(node, [self.value(each, depth + 1) for each in node.iter_expressions()])
        columns = [value.type for value in values if value.type and value.operator != "literal"]
        if family(columns[0]) == "document" or any(each.name == "real" for each in columns):
            raise refusal(node, "coalesce of these is not the same everywhere; write … = … OR … IS NULL")
        common = columns[0]
        if family(common) == "number":
            decimals = [_decimal(value) for value in values]
            common = _common(decimals) or common
            values = [_cast(value, common) for value in decimals]
        return Term("coalesce", tuple(values), common)

    def _arithmetic(self, node: exp.Expr, values: list[Term]) -> Term:
        """Arithmetic in decimals that no step rounds: their digits follow SQL Server's rules, and are 38 at most."""
        for value in values:
            if value.type is None or family(value.type) != "number":
                raise refusal(
                    node, f"computes with {value.type or 'a text'}; only numbers that are exact compute alike"
                )
        if all(value.operator == "literal" for value in values):
            raise refusal(node, "names no column; write the result")
        values = [_decimal(value) for value in values]
        if len(values) == 1:
            return Term(_FUNCTIONS.get(type(node), "neg"), tuple(values), values[0].type)
        operator = _ARITHMETIC[type(node)]
        (p1, s1), (p2, s2) = ((each.type.precision or 0, each.type.scale or 0) for each in values if each.type)
        scale = s1 + s2 if operator == "*" else max(s1, s2)
        precision = p1 + p2 + 1 if operator == "*" else max(p1 - s1, p2 - s2) + scale + 1
        if precision > MOST_DIGITS:
            raise refusal(
                node,
                f"can have {precision} digits, more than the {MOST_DIGITS} that SQL Server computes exactly; compare"
                " the columns themselves, or declare fewer digits",
            )
        return Term(operator, tuple(values), ColumnType("numeric", precision=precision, scale=scale))


def check_arguments(node: exp.Expr) -> None:
    """Refuse arguments of a node beside its operands (BETWEEN SYMMETRIC, IN of a query): renderers would omit them."""
    # A column of another table is refused by name.
    if any(value and name not in _ARGUMENTS for name, value in node.args.items() if name != "table"):
        raise refusal(node)


def check_depth(node: exp.Expr, depth: int) -> None:
    """Refuse nesting so deep that a database might not parse it."""
    if depth > _DEEPEST:
        raise too_deep(node.sql("postgres"))


def refusal(node: exp.Expr, words: str = "") -> ValueError:
    """The refusal of a part of a filter: the part, and what to write instead."""
    return ValueError(f"'{printable(node.sql('postgres'))}': {words or _ADVICE.get(type(node), _UNKNOWN)}")


def too_deep(text: str) -> ValueError:
    """The refusal of a filter that nests too deeply, or is too long."""
    return ValueError(f"'{printable(text)}' is nested too deeply, or too long a chain; write it with IN (…)")


def _is_number(node: exp.Expr) -> bool:
    while isinstance(node, exp.Neg | exp.Paren):
        node = node.this
    return isinstance(node, exp.Literal) and not node.is_string


def _is_integer(value: Term) -> bool:
    return value.type is not None and (
        value.type.name != "numeric" or (value.operator == "literal" and is_bigint(value.text))
    )


def _decimal(value: Term) -> Term:
    """A number as a decimal with the digits of its type."""
    if value.operator == "literal":
        return _cast(value, number(value.text)[0])
    if value.type is None or not value.type.is_integer:
        return value
    return _cast(value, ColumnType("numeric", precision=value.type.row.digits, scale=0))


def _cast(value: Term, decimal: ColumnType) -> Term:
    if value.operator == "literal":
        return replace(value, type=decimal)
    if value.type and (value.type.precision, value.type.scale) == (decimal.precision, decimal.scale):
        return value
    return Term("cast", value.operands if value.operator == "cast" else (value,), decimal)


def _common(values: Sequence[Term]) -> ColumnType | None:
    """The decimal that holds all values exactly; None if none does."""
    types = [value.type for value in values if value.type]
    scale = max(each.scale or 0 for each in types)
    precision = max((each.precision or 0) - (each.scale or 0) for each in types) + scale
    return ColumnType("numeric", precision=max(precision, 1), scale=scale) if precision <= MOST_DIGITS else None
