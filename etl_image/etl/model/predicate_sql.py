"""A filter as SQL of DuckDB, which classifies the rows, and of SQL Server, which counts rows that should not be there.

Each renderer writes a filter that predicate.py accepted so that the database decides as Postgres does.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from etl.model.column_types import KEY_COLLATION, ColumnType
from etl.model.predicate_values import Term

_END = "N'|'"
"""Appended to both sides of a comparison, in which SQL Server would otherwise ignore trailing spaces."""
_LOWER, _UPPER = "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_MOST_IN_64_BITS = 18  # digits of DuckDB's decimals
_LONGEST = 4000  # of nvarchar(n); concatenation truncates a longer one


def render_duckdb(predicate: Term, names: Mapping[str, str] | None = None) -> str:
    """The filter as a condition of DuckDB over the columns in the sink's types.

    `names` maps columns to their names there; without it they keep their own.
    """
    return DuckDB(names or {}).condition(predicate)


def render_tsql(predicate: Term) -> str:
    """The filter as a condition of T-SQL, whatever the collation of the sink's columns."""
    return TSql().condition(predicate)


class Renderer(ABC):
    """Common to the SQL of all three databases; the defaults are DuckDB's."""

    def condition(self, term: Term) -> str:
        """A term that is a condition."""
        match term.operator, term.operands:
            case (("AND" | "OR"), parts):
                return f" {term.operator} ".join(self._part(part) for part in parts)
            case "NOT", (inner,):
                return f"NOT ({self.condition(inner)})"
            case (("TRUE" | "FALSE"), ()):
                return self.constant(term.operator == "TRUE")
            case "IS NULL", (column,):
                return f"{self.name(column.text)} IS NULL"
            case "HOLDS", (value,):
                return self.holds(value)
            case (("IS TRUE" | "IS FALSE"), (value,)):
                return self.is_constant(value, term.operator == "IS TRUE")
            case operator, values:
                left, *others = (self.compared(value, operator) for value in values)
                between = {"IN": f"({', '.join(others)})", "BETWEEN": " AND ".join(others)}
                return f"{left} {operator} {between.get(operator, others[0])}"

    def value(self, term: Term) -> str:
        """A term that is a value."""
        type_ = term.type or ColumnType("text")
        match term.operator, [self.value(operand) for operand in term.operands]:
            case "column", _:
                return self.column(term.text, type_)
            case "literal", _:
                return self.literal(term.text, type_)
            case "cast", (inner,):
                return self.cast(inner, type_)
            case "neg", (inner,):
                return f"(- {inner})"
            case "abs", (inner,):
                return self.cast(f"ABS({inner})", type_)
            case (("lower" | "upper"), (inner,)):
                return self.cased(inner, term.operator)
            case "coalesce", values:
                return f"COALESCE({', '.join(values)})"
            case operator, (left, right):
                return f"({self.operand(left, term.operands[0].type)} {operator} {right})"
        raise AssertionError(term)

    def operand(self, value: str, type_: ColumnType | None) -> str:  # noqa: ARG002  # used by DuckDB
        """The first of two numbers that are added, subtracted or multiplied."""
        return value

    def compared(self, term: Term, operator: str) -> str:  # noqa: ARG002  # used by T-SQL
        """A value as a side of a comparison."""
        return self.value(term)

    def constant(self, value: bool) -> str:
        """A condition that is always true or always false."""
        return str(value).lower()

    def holds(self, value: Term) -> str:
        """A condition: a boolean value is true."""
        return self.value(value)

    def is_constant(self, value: Term, constant: bool) -> str:
        """A condition that is never null: a boolean value is true, or it is false."""
        return f"{self.value(value)} IS {self.constant(constant).upper()}"

    def name(self, name: str) -> str:
        """An identifier, quoted."""
        return '"' + name.replace('"', '""') + '"'

    def column(self, name: str, type_: ColumnType) -> str:  # noqa: ARG002  # others cast text
        """A column as it is compared."""
        return self.name(name)

    @abstractmethod
    def literal(self, text: str, type_: ColumnType) -> str:
        """A literal of a type."""

    def cast(self, value: str, type_: ColumnType) -> str:
        """A number as a decimal that holds it exactly."""
        return f"CAST({value} AS DECIMAL({type_.precision},{type_.scale}))"

    @abstractmethod
    def cased(self, value: str, case: str) -> str:
        """A text with a to z in lower or upper case, and every other letter as it is."""

    def _part(self, term: Term) -> str:
        inner = self.condition(term)
        return f"({inner})" if term.operator in ("AND", "OR") else inner


class DuckDB(Renderer):
    """SQL of DuckDB. `names` maps columns to their names there."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names

    def name(self, name: str) -> str:
        """An identifier, quoted."""
        return super().name(self._names.get(name, name))

    def literal(self, text: str, type_: ColumnType) -> str:
        """A literal of a type, cast if its text alone would have another."""
        if type_.name in ("bigint", "boolean"):
            return text
        quoted = "'" + text.replace("'", "''") + "'"
        match type_.name:
            case "text":
                return quoted
            case "numeric":
                return self.cast(quoted, type_)
            case "double precision":
                return f"CAST({quoted} AS DOUBLE)"
            case "timestamptz":  # the sink's type: UTC without a zone
                return f"CAST({quoted} AS TIMESTAMP)"
        return f"CAST({quoted} AS {type_.name.upper()})"

    def operand(self, value: str, type_: ColumnType | None) -> str:
        """A decimal of 128 bits: those of up to 18 digits are computed in 64, and a longer result overflows."""
        precision, scale = (type_.precision or 0, type_.scale or 0) if type_ else (0, 0)
        wide = ColumnType("numeric", precision=_MOST_IN_64_BITS + 1, scale=scale)
        return value if precision > _MOST_IN_64_BITS else self.cast(value, wide)

    def cased(self, value: str, case: str) -> str:
        """By `translate`: lower and upper change the letters of all alphabets."""
        return f"translate({value}, {_table(case)})"


class TSql(Renderer):
    """T-SQL: conditions are no values, and text is compared by its collation, padded with spaces."""

    def compared(self, term: Term, operator: str) -> str:
        """A value as a side of a comparison; a text so that spaces at its end count."""
        if operator == "LIKE" or not _is_text(term):
            return self.value(term)
        if term.operator == "literal":
            return self.literal(f"{term.text}|", ColumnType("text"))
        value = self.value(term)
        return f"{f'CAST({value} AS nvarchar(max))' if _may_be_cut(term) else value} + {_END}"

    def constant(self, value: bool) -> str:
        """A condition that is always true or always false."""
        return "1 = 1" if value else "1 = 0"

    def holds(self, value: Term) -> str:
        """A condition: a bit is 1."""
        return f"{self.value(value)} = 1"

    def is_constant(self, value: Term, constant: bool) -> str:
        """A condition that is never null: a bit is 1, or is 0."""
        bit = self.value(value)
        return f"({bit} = {int(constant)} AND {bit} IS NOT NULL)"

    def name(self, name: str) -> str:
        """An identifier, quoted."""
        return "[" + name.replace("]", "]]") + "]"

    def column(self, name: str, type_: ColumnType) -> str:
        """A column; text in a collation that distinguishes all characters."""
        if not type_.is_text:
            return self.name(name)
        # The spaces that pad nchar are no part of the value, but LIKE compares them.
        inner = f"RTRIM({self.name(name)})" if type_.name == "char" else self.name(name)
        return f"{inner} COLLATE {KEY_COLLATION}"

    def literal(self, text: str, type_: ColumnType) -> str:
        """A literal of a type."""
        # Without N the text would be converted to the database's code page, and lose characters.
        quoted = "N'" + text.replace("'", "''") + "'"
        match type_.name:
            case "text":
                return quoted
            case "boolean":
                return str(int(text == "true"))
            case "bigint":
                return text if abs(int(text)) < 2**31 else f"CAST({text} AS bigint)"
            case "numeric":
                return self.cast(text, type_)
            case "double precision":
                return _float(float(text))
        return f"CAST({quoted} AS {type_.tsql})"

    def cast(self, value: str, type_: ColumnType) -> str:
        """A number as a decimal that holds it exactly."""
        return f"CAST({value} AS {type_.tsql})"

    def cased(self, value: str, case: str) -> str:
        """By TRANSLATE: what LOWER and UPPER change depends on the collation."""
        return f"TRANSLATE({value}, {_table(case, 'N')})"


def _is_text(term: Term) -> bool:
    return term.type is not None and term.type.is_text


def _may_be_cut(term: Term) -> bool:
    """Whether a value can have 4000 characters, so that an appended character would be lost."""
    leaves = [each for each in term.walk() if not each.operands and each.type]
    lengths = (each.type.length if each.operator == "column" else len(each.text) * 2 for each in leaves if each.type)
    return any((length or 0) >= _LONGEST for length in lengths)


def _float(value: float) -> str:
    """A floating-point number, exactly, as a quotient: how the server rounds a decimal fraction is not documented."""
    numerator, denominator = value.as_integer_ratio()
    parts = [numerator]
    while denominator > 1:  # a power of two, and so is each part
        parts.append(min(denominator, 2**62))
        denominator //= parts[-1]
    return "(" + " / ".join(f"CAST(CAST({part} AS bigint) AS float(53))" for part in parts) + ")"


def _table(case: str, prefix: str = "") -> str:
    sides = (_UPPER, _LOWER) if case == "lower" else (_LOWER, _UPPER)
    return ", ".join(f"{prefix}'{side}'" for side in sides)
