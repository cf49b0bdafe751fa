"""Parses and evaluates a condition of T-SQL by Microsoft's documented rules: the oracle for the renderer.

A recursive-descent parser that knows nothing of the renderer. Each value has a type before a row is seen, as in
SQL Server; there are no values that are true or false, and no conditions that are values.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from tests.doubles.tsql.types import (
    TsqlError,
    Type,
    arithmetic,
    compared,
    computed,
    convert,
    fitted,
    higher,
    like,
    parse_type,
    stored,
    units,
)

Row = Mapping[str, Any]
Condition = Callable[[Row], bool | None]
_TOKEN = re.compile(
    r"""\s*(?:(?P<text>[Nn]?'(?:[^']|'')*')|\[(?P<name>(?:[^\]]|\]\])*)\]
    |(?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)|(?P<word>[A-Za-z_]\w*)|(?P<mark><>|<=|>=|[-=<>+*/(),]))""",
    re.VERBOSE,
)
_COMPARISONS: dict[str, Callable[[int], bool]] = {
    "=": lambda sign: sign == 0, "<>": lambda sign: sign != 0, "<": lambda sign: sign < 0,
    "<=": lambda sign: sign <= 0, ">": lambda sign: sign > 0, ">=": lambda sign: sign >= 0,
}  # fmt: skip


@dataclass(frozen=True)
class Value:
    """An expression: its type, and its value for a row."""

    type: Type
    of: Callable[[Row], Any]


def read_condition(text: str, columns: Mapping[str, str]) -> Condition:
    """A WHERE condition over columns of these T-SQL types: true, false or None (unknown) for a row.

    Raises TsqlError here or for a row, as SQL Server would end the statement in an error.
    """
    parser = _Parser(text, {name: parse_type(declared) for name, declared in columns.items()})
    condition = parser.condition()
    parser.end()
    return condition


class _Parser:
    def __init__(self, text: str, columns: Mapping[str, Type]) -> None:
        self._columns = columns
        self._tokens: list[tuple[str, str]] = []
        self._at = at = 0
        text = re.sub(r"\\\r?\n", "", text.rstrip())  # the backslash that continues a line, in literals too
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None or text[at:].lstrip().startswith("--"):
                raise TsqlError(102, f"Incorrect syntax near '{text[at : at + 20]}'")
            self._tokens.append((str(match.lastgroup), match[str(match.lastgroup)]))
            at = match.end()

    def condition(self) -> Condition:
        terms = [self._conjunction()]
        while self._accept("OR"):
            terms.append(self._conjunction())
        return terms[0] if len(terms) == 1 else lambda row: _any([term(row) for term in terms])

    def end(self) -> None:
        if self._at < len(self._tokens):
            raise self._wrong()

    def _conjunction(self) -> Condition:
        terms = [self._negation()]
        while self._accept("AND"):
            terms.append(self._negation())
        return terms[0] if len(terms) == 1 else lambda row: _not(_any([_not(term(row)) for term in terms]))

    def _negation(self) -> Condition:
        if self._accept("NOT"):
            inner = self._negation()
            return lambda row: _not(inner(row))
        before = self._at
        if self._accept("("):
            try:
                inner = self.condition()
                self._expect(")")
                if self._sees() not in (*_COMPARISONS, "+", "-", "*", "/", "IS", "IN", "LIKE", "BETWEEN", "COLLATE"):
                    return inner
            except TsqlError as error:
                if error.number not in (102, 4145):
                    raise
            self._at = before  # a value in parentheses
        return self._predicate()

    def _predicate(self) -> Condition:
        left = self._value()
        negated = False
        if self._accept("IS"):
            negated = self._accept("NOT")
            self._expect("NULL")
            return lambda row: (left.of(row) is None) != negated
        for operator in _COMPARISONS:
            if self._accept(operator):
                return _comparison(operator, left, self._value())
        negated = self._accept("NOT")
        if self._accept("IN"):
            self._expect("(")
            found = [_comparison("=", left, value) for value in self._values()]
            condition: Condition = lambda row: _any([each(row) for each in found])  # noqa: E731
        elif self._accept("BETWEEN"):
            low = _comparison(">=", left, self._value())
            self._expect("AND")
            high = _comparison("<=", left, self._value())
            condition = lambda row: _not(_any([_not(low(row)), _not(high(row))]))  # noqa: E731
        elif self._accept("LIKE"):
            condition = _like(left, self._value())
        else:
            raise TsqlError(4145, "An expression of non-boolean type where a condition is expected")
        return (lambda row: _not(condition(row))) if negated else condition

    def _value(self) -> Value:
        left = self._product()
        while self._sees() in ("+", "-"):
            left = _operation(self._take(), left, self._product())
        return left

    def _product(self) -> Value:
        left = self._unary()
        while self._sees() in ("*", "/"):
            left = _operation(self._take(), left, self._unary())
        return left

    def _unary(self) -> Value:
        if self._accept("-"):
            value = self._unary()
            return Value(value.type, lambda row: _negative(value.of(row), value.type))
        value = self._primary()
        while self._accept("COLLATE"):
            if not value.type.is_text:
                raise TsqlError(447, "Expression type is invalid for COLLATE clause")
            value = Value(replace(value.type, collation=self._take()), value.of)
        return value

    def _primary(self) -> Value:
        kind, text = self._tokens[self._at] if self._at < len(self._tokens) else ("end", "")
        self._at += 1
        if kind == "text":
            return _text(text)
        if kind == "number":
            return _number(text)
        if kind == "name":
            name = text.replace("]]", "]")
            if name not in self._columns:
                raise TsqlError(207, f"Invalid column name '{name}'")
            column = self._columns[name]
            return Value(column, lambda row: stored(row[name], column))
        if text == "(":
            value = self._value()
            self._expect(")")
            return value
        if kind == "word" and self._accept("("):
            return self._function(text.upper())
        self._at -= 1
        raise self._wrong()

    def _function(self, name: str) -> Value:
        if name == "CAST":
            value = self._value()
            self._expect("AS")
            return _cast(value, self._type())
        values = self._values()
        match name, values:
            case "COALESCE", [_, _, *_]:
                return _coalesce(values)
            case "ABS", [value] if value.type.name == "decimal":
                type_ = Type("decimal", 38, value.type.scale)
                return Value(type_, lambda row: _absolute(value.of(row), type_))
            case "RTRIM", [value] if value.type.is_text:
                type_ = replace(value.type, name=value.type.name.replace("nchar", "nvarchar"))
                return Value(type_, lambda row: _on(value.of(row), lambda text: text.rstrip(" ")))
            case "TRANSLATE", [value, signs, others] if value.type.is_text:
                return _translate(value, signs, others)
        raise TsqlError(0, f"{name} is not known here")

    def _values(self) -> list[Value]:
        values = [self._value()]
        while self._accept(","):
            values.append(self._value())
        self._expect(")")
        return values

    def _type(self) -> Type:
        text = ""
        depth = 0
        while depth or self._sees() != ")":
            token = self._take()
            depth += (token == "(") - (token == ")")
            text += token
        self._expect(")")
        return parse_type(text)

    def _sees(self) -> str:
        kind, text = self._tokens[self._at] if self._at < len(self._tokens) else ("end", "")
        return text.upper() if kind in ("word", "mark") else ""

    def _take(self) -> str:
        if self._at >= len(self._tokens):
            raise self._wrong()
        self._at += 1
        return self._tokens[self._at - 1][1]

    def _accept(self, word: str) -> bool:
        found = self._sees() == word
        self._at += found
        return found

    def _expect(self, word: str) -> None:
        if not self._accept(word):
            raise self._wrong()

    def _wrong(self) -> TsqlError:
        return TsqlError(102, f"Incorrect syntax near {self._tokens[self._at : self._at + 3]}")


def _not(value: bool | None) -> bool | None:
    return None if value is None else not value


def _any(values: list[bool | None]) -> bool | None:
    return True if True in values else None if None in values else False


def _on(value: Any, function: Callable[[Any], Any]) -> Any:
    return None if value is None else function(value)


def _comparison(operator: str, left: Value, right: Value) -> Condition:
    type_, decide = higher(left.type, right.type), _COMPARISONS[operator]

    def condition(row: Row) -> bool | None:
        a, b = (convert(each.of(row), each.type, type_) for each in (left, right))
        return None if a is None or b is None else decide(compared(a, b, type_))

    return condition


def _like(left: Value, right: Value) -> Condition:
    type_ = higher(left.type, right.type)

    def condition(row: Row) -> bool | None:
        value, pattern = left.of(row), right.of(row)
        return None if value is None or pattern is None else like(value, pattern, type_)

    return condition


def _operation(operator: str, left: Value, right: Value) -> Value:
    type_ = arithmetic(operator, left.type, right.type)
    operand = None if type_.is_text or type_.name == "decimal" else type_

    def of(row: Row) -> Any:
        a, b = (convert(each.of(row), each.type, operand or each.type) for each in (left, right))
        return None if a is None or b is None else computed(operator, a, b, type_)

    return Value(type_, of)


def _cast(value: Value, type_: Type) -> Value:
    if type_.is_text and value.type.is_text:  # the collation goes along
        type_ = replace(type_, collation=value.type.collation)
    return Value(type_, lambda row: convert(value.of(row), value.type, type_))


def _coalesce(values: list[Value]) -> Value:
    type_ = values[0].type
    for value in values[1:]:
        type_ = higher(type_, value.type)
        if type_.name == "decimal" and len({each.type for each in values}) > 1:
            raise TsqlError(0, "COALESCE of decimals of other digits")

    def of(row: Row) -> Any:
        found = ((value.of(row), value.type) for value in values)
        return next((convert(each, given, type_) for each, given in found if each is not None), None)

    return Value(type_, of)


def _translate(value: Value, signs: Value, others: Value) -> Value:
    if value.type.collation is None:
        raise TsqlError(0, "TRANSLATE in a collation that is not known")
    before, after = signs.of({}), others.of({})
    if len(before) != len(after):
        raise TsqlError(9828, "The second and third arguments of TRANSLATE must contain an equal number of characters")
    table = str.maketrans(before, after)
    return Value(value.type, lambda row: _on(value.of(row), lambda text: text.translate(table)))


def _negative(value: Any, type_: Type) -> Any:
    inexact = type_.name in ("float", "real")
    return _on(value, lambda number: -number if inexact else fitted(Decimal(number).copy_negate(), type_))


def _absolute(value: Any, type_: Type) -> Any:
    return _on(value, lambda number: fitted(Decimal(number).copy_abs(), type_))


def _text(token: str) -> Value:
    text = token[token.index("'") + 1 : -1].replace("''", "'")
    if token[0] in "Nn":
        known = units(text)
        return Value(Type("nvarchar", length=max(len(known), 1) if len(known) <= 4000 else None), lambda row: known)
    lossy = text.encode("cp1252", "replace").decode("cp1252")  # the code page of the database
    return Value(Type("varchar", length=max(len(lossy), 1) if len(lossy) <= 8000 else None), lambda row: lossy)


def _number(token: str) -> Value:
    if "e" in token.lower():
        if Decimal(float(token)) != Decimal(token):
            raise TsqlError(0, "how a decimal is rounded to a floating-point number is not documented")
        return Value(Type("float"), lambda row: float(token))
    whole, _, fraction = token.partition(".")
    if "." not in token and int(token) < 2**31:
        return Value(Type("int"), lambda row: int(token))
    precision = max(len(whole.lstrip("0")) + len(fraction), 1)
    if precision > 38:
        raise TsqlError(1007, f"The number '{token}' is out of the range for numeric representation")
    return Value(Type("decimal", precision, len(fraction)), lambda row: Decimal(token))
