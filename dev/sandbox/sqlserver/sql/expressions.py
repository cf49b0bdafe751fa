"""Values: T-SQL in, DuckDB's SQL out."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from dev.sandbox.sqlserver.sql.batch import Batch
from dev.sandbox.sqlserver.sql.conversions import Expr, arithmetic, common_type, convert
from dev.sandbox.sqlserver.types import (
    BIGINT,
    DATETIME2,
    FLOAT,
    INT,
    SqlType,
    binary_type,
    text_type,
    utf16_length,
)

RESERVED = frozenset({
    "SELECT", "FROM", "WHERE", "GROUP", "HAVING", "ORDER", "UNION", "JOIN", "INNER", "LEFT", "RIGHT", "FULL", "CROSS",
    "ON", "AND", "OR", "NOT", "IN", "IS", "LIKE", "BETWEEN", "COLLATE", "EXISTS", "CASE", "WHEN", "THEN", "ELSE",
    "END", "AS", "SET", "VALUES", "INTO", "WITH", "TOP", "DISTINCT", "ALL", "ASC", "DESC", "BY", "INSERT", "UPDATE",
    "DELETE", "EXEC", "EXECUTE", "DECLARE", "BEGIN", "COMMIT", "ROLLBACK", "CREATE", "DROP", "TRUNCATE", "USE", "IF",
    "ALTER", "GRANT", "REVOKE", "EXCEPT",
})  # fmt: skip
_LONG_LITERAL = 1000


class Expressions:
    """Reads values. `condition` reads a condition, for CASE; `functions` read the arguments of a call."""

    def __init__(
        self,
        batch: Batch,
        functions: Mapping[str, Callable[["Expressions"], Expr | None]],
        condition: Callable[[], str],
    ) -> None:
        self.batch = batch
        self._functions, self._condition = functions, condition

    def value(self) -> Expr:
        """Read a value."""
        left = self._product()
        while operator := self.batch.accept_any("+", "-"):
            left = self._operation(operator, left, self._product())
        return left

    def values_list(self) -> list[Expr]:
        """Read values separated by commas."""
        found = [self.value()]
        while self.batch.accept(","):
            found.append(self.value())
        return found

    def literal(self, value: Any, declared: SqlType) -> Expr:
        """A constant as an expression."""
        known = value if isinstance(value, str) else None
        if value is None:
            return Expr(f"CAST(NULL AS {declared.duckdb})", declared)
        short = known is not None and len(known) < _LONG_LITERAL and "\0" not in known
        if short or not (declared.is_text or declared.is_binary or declared in (FLOAT,) or declared.name == "real"):
            text = (f"{value:f}" if isinstance(value, Decimal) else str(value)).replace("'", "''")
            sql = f"'{text}'" if declared.is_text else f"CAST('{text}' AS {declared.duckdb})"
            return Expr(sql, declared, known=known)
        name = f"v{len(self.batch.values)}"
        self.batch.values[name] = value
        return Expr(f"CAST(${name} AS {declared.duckdb})", declared, known=known)

    def _product(self) -> Expr:
        left = self._factor()
        while operator := self.batch.accept_any("*", "/", "%"):
            left = self._operation(operator, left, self._factor())
        return left

    def _operation(self, operator: str, left: Expr, right: Expr) -> Expr:
        result = arithmetic(operator, left, right)
        if result is None:
            raise self.batch.unknown()
        return result

    def _factor(self) -> Expr:
        if self.batch.accept("-"):
            operand = self._factor()
            return Expr(f"(-{operand.sql})", operand.type)
        if self.batch.accept("+"):
            return self._factor()
        if self.batch.accept("("):
            if self.batch.sees("SELECT"):
                raise self.batch.unknown()
            inner = self.value()
            self.batch.expect(")")
            return Expr(f"({inner.sql})", inner.type, known=inner.known)
        value = self._primary()
        return self._collated(value) if self.batch.accept("COLLATE") else value

    def _collated(self, value: Expr) -> Expr:
        if value.type is None or not value.type.is_text:
            raise self.batch.unknown()
        declared = value.type.collated(self.batch.name())
        return Expr(f"({value.sql} COLLATE {'NOCASE' if declared.ignores_case else 'C'})", declared)

    def _primary(self) -> Expr:
        token = self.batch.token
        if token.kind == "text":
            return self.literal(self.batch.take().value, text_type(utf16_length(token.value)))
        if token.kind == "number":
            return _number(self.batch.take().value)
        if token.kind == "blob":
            data = bytes.fromhex(self.batch.take().value.rjust(len(token.value) + len(token.value) % 2, "0"))
            return self.literal(data, binary_type(len(data)))
        if token.kind == "variable":
            return self._variable()
        if self.batch.accept("NULL"):
            return Expr("NULL", None)
        if self.batch.accept("CASE"):
            return self._case()
        if token.kind == "word" and self.batch.sees("(", after=1):
            return self._call()
        if token.kind == "word" and token.value.upper() in RESERVED:
            raise self.batch.unknown()
        return self._column()

    def _column(self) -> Expr:
        first = self.batch.name()
        return (
            self.batch.scope.qualified(first, self.batch.name())
            if self.batch.accept(".")
            else self.batch.scope.column(first)
        )

    def _variable(self) -> Expr:
        name = self.batch.take().value.upper()
        if name == "@@VERSION":
            return self.literal(self.batch.context.version, text_type(300))
        if name == "@@TRANCOUNT":
            return Expr(str(self.batch.context.trancount), INT)
        if name == "@@ROWCOUNT":
            return Expr(str(self.batch.context.row_count), INT)
        if name not in self.batch.context.variables:
            raise self.batch.unknown()
        variable = self.batch.context.variables[name]
        return self.literal(variable.value, variable.type)

    def _call(self) -> Expr:
        function = self._functions.get(self.batch.take().value.upper())
        self.batch.expect("(")
        result = function(self) if function else None
        if result is None:
            raise self.batch.unknown()
        self.batch.expect(")")
        return result

    def _case(self) -> Expr:
        conditions, results = [], []
        while self.batch.accept("WHEN"):
            conditions.append(self._condition())
            self.batch.expect("THEN")
            results.append(self.value())
        if not conditions:
            raise self.batch.unknown()
        otherwise = self.value() if self.batch.accept("ELSE") else Expr("NULL", None)
        self.batch.expect("END")
        declared = common_type([*results, otherwise])
        if declared is None:
            raise self.batch.unknown()
        whens = (f"WHEN {c} THEN {convert(r, declared)}" for c, r in zip(conditions, results, strict=True))
        return Expr(f"(CASE {' '.join(whens)} ELSE {convert(otherwise, declared)} END)", declared)


def utc_now() -> Expr:
    """SYSUTCDATETIME(): time of the statement, in microseconds."""
    return Expr(f"CAST('{datetime.now(UTC).replace(tzinfo=None)}' AS TIMESTAMP)", DATETIME2)


def _number(text: str) -> Expr:
    if "e" in text.lower():
        return Expr(f"CAST({text} AS DOUBLE)", FLOAT)
    whole, _, fraction = text.partition(".")
    if fraction or "." in text:
        whole = whole.lstrip("0")
        declared = SqlType("decimal", precision=max(len(whole) + len(fraction), 1), scale=len(fraction))
        return Expr(f"CAST('{text}' AS {declared.duckdb})", declared)
    number = int(text)
    if number < 2**31:
        return Expr(text, INT)
    # A decimal in SQL Server; a bigint compares and adds up the same.
    return Expr(text, BIGINT if number < 2**63 else SqlType("decimal", precision=len(text)))
