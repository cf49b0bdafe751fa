"""Conditions: T-SQL in, DuckDB's SQL out. In T-SQL conditions are not values."""

import re
from collections.abc import Callable

from dev.sandbox.sqlserver.errors import SqlError
from dev.sandbox.sqlserver.sql.batch import Batch
from dev.sandbox.sqlserver.sql.conversions import Expr, comparable
from dev.sandbox.sqlserver.sql.expressions import Expressions
from dev.sandbox.sqlserver.types import text_type

_COMPARISONS = {
    "=": "equal to", "<>": "not equal to", "!=": "not equal to", "<=": "less than or equal to",
    ">=": "greater than or equal to", "<": "less than", ">": "greater than",
}  # fmt: skip
_UNKNOWN = 102


class Conditions:
    """Reads conditions. `subquery` reads a query in parentheses, the first of which has been taken."""

    def __init__(self, batch: Batch, expressions: Expressions, subquery: Callable[[], str]) -> None:
        self.batch, self.expressions, self._subquery = batch, expressions, subquery

    def condition(self) -> str:
        """Read a condition."""
        terms = [self._conjunction()]
        while self.batch.accept("OR"):
            terms.append(self._conjunction())
        return " OR ".join(terms) if len(terms) == 1 else f"({' OR '.join(terms)})"

    def _conjunction(self) -> str:
        terms = [self._negation()]
        while self.batch.accept("AND"):
            terms.append(self._negation())
        return " AND ".join(terms)

    def _negation(self) -> str:
        if self.batch.accept("NOT"):
            return f"NOT ({self._negation()})"
        if self.batch.accept("EXISTS"):
            self.batch.expect("(")
            return self._difference() if self._sees_except() else f"EXISTS ({self._subquery()})"
        if self.batch.sees("(") and not self.batch.sees("(", "SELECT"):
            # Parentheses may hold a condition or begin a value.
            before = self.batch.position
            try:
                self.batch.expect("(")
                inner = self.condition()
                self.batch.expect(")")
                return f"({inner})"
            except SqlError as error:
                if error.number != _UNKNOWN:
                    raise
                self.batch.position = before
        return self._predicate()

    def _sees_except(self) -> bool:
        """Whether a query without FROM and EXCEPT follow in the parentheses."""
        depth = 0
        for token in self.batch.tokens[self.batch.position :]:
            if token.kind == "mark":
                depth += {"(": 1, ")": -1}.get(token.value, 0)
            if depth < 0 or (depth == 0 and token.kind == "word" and token.value.upper() in ("FROM", "EXCEPT")):
                return token.value.upper() == "EXCEPT"
        return False

    def _difference(self) -> str:
        """Read two rows of values with EXCEPT between: whether they differ, with NULL equal to NULL.

        DuckDB's own EXCEPT, inside of EXISTS, takes texts for one that a collation takes for one.
        """
        self.batch.expect("SELECT")
        left = self.expressions.values_list()
        self.batch.expect("EXCEPT", "SELECT")
        right = self.expressions.values_list()
        self.batch.expect(")")
        if len(left) != len(right):
            raise SqlError(
                205,
                "All queries combined using a UNION, INTERSECT or EXCEPT operator must have an equal number of"
                " expressions in their target lists.",
            )
        if any(value.type is not None and value.type.is_text for value in (*left, *right)):
            raise self.batch.unknown()
        pairs = map(comparable, left, right)
        return "(" + " OR ".join(f"{a} IS DISTINCT FROM {b}" for a, b in pairs) + ")"

    def _predicate(self) -> str:
        left = self.expressions.value()
        if operator := self.batch.accept_any(*_COMPARISONS):
            a, b = comparable(left, self.expressions.value(), _COMPARISONS[operator])
            return f"({a} {operator} {b})"
        if self.batch.accept("IS"):
            negated = self.batch.accept("NOT")
            self.batch.expect("NULL")
            return f"({left.sql} IS {'NOT ' if negated else ''}NULL)"
        prefix = "NOT " if self.batch.accept("NOT") else ""
        if self.batch.accept("IN"):
            return f"({prefix}{self._membership(left)})"
        if self.batch.accept("BETWEEN"):
            low = self.expressions.value()
            self.batch.expect("AND")
            high = self.expressions.value()
            (a, b), (c, d) = comparable(left, low), comparable(left, high)
            return f"({prefix}({a} >= {b} AND {c} <= {d}))"
        self.batch.expect("LIKE")
        return f"({prefix}{self._like(left)})"

    def _membership(self, left: Expr) -> str:
        self.batch.expect("(")
        if self.batch.sees("SELECT"):
            return f"{left.sql} IN ({self._subquery()})"
        options = self.expressions.values_list()
        self.batch.expect(")")
        pairs = (comparable(left, option) for option in options)
        return "(" + " OR ".join(f"{a} = {b}" for a, b in pairs) + ")"

    def _like(self, left: Expr) -> str:
        pattern = self.expressions.value()
        if pattern.known is None or left.type is None or not left.type.is_text:
            raise self.batch.unknown()
        options = "si" if left.type.ignores_case else "s"
        expression = self.expressions.literal(_pattern(pattern.known), text_type(4000)).sql
        return f"regexp_full_match({left.sql}, {expression}, '{options}')"


def _pattern(like: str) -> str:
    """A LIKE pattern as a regular expression."""
    parts = []
    for match in re.finditer(r"\[(\^?)([^\]]+)\]|(.)", like, re.DOTALL):
        negation, members, character = match.groups()
        if members:
            escaped = re.sub(r"([\\^\[])", r"\\\1", members)
            parts.append(f"[{negation}{escaped}]")
        else:
            parts.append({"%": ".*", "_": "."}.get(character, re.escape(character)))
    return "".join(parts)
