"""Values: T-SQL in, DuckDB's SQL out."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from dev.sandbox.sqlserver.engine.catalogue import Catalogue
from dev.sandbox.sqlserver.engine.principals import Principals
from dev.sandbox.sqlserver.sql.conversions import Expr, arithmetic, common_type, convert
from dev.sandbox.sqlserver.sql.lexer import Cursor
from dev.sandbox.sqlserver.sql.scope import Scope
from dev.sandbox.sqlserver.types import (
    BIGINT,
    DATETIME2,
    FLOAT,
    INT,
    SqlType,
    binary_type,
    parse_type,
    text_type,
    utf16_length,
)
from dev.sandbox.sqlserver.wire.rpc import Parameter

RESERVED = frozenset({
    "SELECT", "FROM", "WHERE", "GROUP", "HAVING", "ORDER", "UNION", "JOIN", "INNER", "LEFT", "RIGHT", "FULL", "CROSS",
    "ON", "AND", "OR", "NOT", "IN", "IS", "LIKE", "BETWEEN", "COLLATE", "EXISTS", "CASE", "WHEN", "THEN", "ELSE",
    "END", "AS", "SET", "VALUES", "INTO", "WITH", "TOP", "DISTINCT", "ALL", "ASC", "DESC", "BY", "INSERT", "UPDATE",
    "DELETE", "EXEC", "EXECUTE", "DECLARE", "BEGIN", "COMMIT", "ROLLBACK", "CREATE", "DROP", "TRUNCATE", "USE", "IF",
    "ALTER", "GRANT", "REVOKE", "EXCEPT",
})  # fmt: skip
_LONG_LITERAL = 1000


@dataclass
class Context:
    """What a statement can refer to: the session's tables and rights, its parameters and variables, and its state."""

    catalogue: Catalogue
    principals: Principals
    version: str
    trancount: int = 0
    row_count: int = 0
    edition: int = 4
    variables: dict[str, Parameter] = field(default_factory=dict)


class Expressions(Cursor):
    """Reads values. `values` are those that DuckDB gets beside the SQL, by name."""

    functions: dict[str, Callable[["Expressions"], Expr | None]]

    def __init__(self, text: str, context: Context) -> None:
        super().__init__(text)
        self.context = context
        self.scope = Scope()
        self.values: dict[str, Any] = {}

    @abstractmethod
    def subquery(self) -> str:
        """Read a query inside of parentheses, the first of which has been taken."""

    @abstractmethod
    def condition(self) -> str:
        """Read a condition."""

    def value(self) -> Expr:
        """Read a value."""
        left = self._product()
        while operator := self.accept_any("+", "-"):
            left = self._operation(operator, left, self._product())
        return left

    def values_list(self) -> list[Expr]:
        """Read values separated by commas."""
        found = [self.value()]
        while self.accept(","):
            found.append(self.value())
        return found

    def type_name(self) -> SqlType:
        """Read a type."""
        name = self.name()
        if self.accept("("):
            name += "(" + self.take().value
            while not self.accept(")"):
                name += self.take().value
            name += ")"
        found = parse_type(name)
        if found is None:
            raise self.unknown()
        return found

    def literal(self, value: Any, declared: SqlType) -> Expr:
        """A value that is known, as an expression."""
        known = value if isinstance(value, str) else None
        if value is None:
            return Expr(f"CAST(NULL AS {declared.duckdb})", declared)
        short = known is not None and len(known) < _LONG_LITERAL and "\0" not in known
        if short or not (declared.is_text or declared.is_binary or declared in (FLOAT,) or declared.name == "real"):
            text = (f"{value:f}" if isinstance(value, Decimal) else str(value)).replace("'", "''")
            sql = f"'{text}'" if declared.is_text else f"CAST('{text}' AS {declared.duckdb})"
            return Expr(sql, declared, known=known)
        name = f"v{len(self.values)}"
        self.values[name] = value
        return Expr(f"CAST(${name} AS {declared.duckdb})", declared, known=known)

    def _product(self) -> Expr:
        left = self._factor()
        while operator := self.accept_any("*", "/", "%"):
            left = self._operation(operator, left, self._factor())
        return left

    def _operation(self, operator: str, left: Expr, right: Expr) -> Expr:
        result = arithmetic(operator, left, right)
        if result is None:
            raise self.unknown()
        return result

    def _factor(self) -> Expr:
        if self.accept("-"):
            operand = self._factor()
            return Expr(f"(-{operand.sql})", operand.type)
        if self.accept("+"):
            return self._factor()
        if self.accept("("):
            if self.sees("SELECT"):
                raise self.unknown()
            inner = self.value()
            self.expect(")")
            return Expr(f"({inner.sql})", inner.type, known=inner.known)
        value = self._primary()
        return self._collated(value) if self.accept("COLLATE") else value

    def _collated(self, value: Expr) -> Expr:
        if value.type is None or not value.type.is_text:
            raise self.unknown()
        declared = value.type.collated(self.name())
        return Expr(f"({value.sql} COLLATE {'NOCASE' if declared.ignores_case else 'C'})", declared)

    def _primary(self) -> Expr:
        token = self.token
        if token.kind == "text":
            return self.literal(self.take().value, text_type(utf16_length(token.value)))
        if token.kind == "number":
            return _number(self.take().value)
        if token.kind == "blob":
            data = bytes.fromhex(self.take().value.rjust(len(token.value) + len(token.value) % 2, "0"))
            return self.literal(data, binary_type(len(data)))
        if token.kind == "variable":
            return self._variable()
        if self.accept("NULL"):
            return Expr("NULL", None)
        if self.accept("CASE"):
            return self._case()
        if token.kind == "word" and self.sees("(", after=1):
            return self._call()
        if token.kind == "word" and token.value.upper() in RESERVED:
            raise self.unknown()
        return self._column()

    def _column(self) -> Expr:
        first = self.name()
        return self.scope.qualified(first, self.name()) if self.accept(".") else self.scope.column(first)

    def _variable(self) -> Expr:
        name = self.take().value.upper()
        if name == "@@VERSION":
            return self.literal(self.context.version, text_type(300))
        if name == "@@TRANCOUNT":
            return Expr(str(self.context.trancount), INT)
        if name == "@@ROWCOUNT":
            return Expr(str(self.context.row_count), INT)
        if name not in self.context.variables:
            raise self.unknown()
        variable = self.context.variables[name]
        return self.literal(variable.value, variable.type)

    def _call(self) -> Expr:
        function = self.functions.get(self.take().value.upper())
        self.expect("(")
        result = function(self) if function else None
        if result is None:
            raise self.unknown()
        self.expect(")")
        return result

    def _case(self) -> Expr:
        conditions, results = [], []
        while self.accept("WHEN"):
            conditions.append(self.condition())
            self.expect("THEN")
            results.append(self.value())
        if not conditions:
            raise self.unknown()
        otherwise = self.value() if self.accept("ELSE") else Expr("NULL", None)
        self.expect("END")
        declared = common_type([*results, otherwise])
        if declared is None:
            raise self.unknown()
        whens = (f"WHEN {c} THEN {convert(r, declared)}" for c, r in zip(conditions, results, strict=True))
        return Expr(f"(CASE {' '.join(whens)} ELSE {convert(otherwise, declared)} END)", declared)


def utc_now() -> Expr:
    """SYSUTCDATETIME(): the time of the statement, in microseconds."""
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
    # SQL Server would make it a decimal; as a bigint it compares and adds up the same.
    return Expr(text, BIGINT if number < 2**63 else SqlType("decimal", precision=len(text)))
