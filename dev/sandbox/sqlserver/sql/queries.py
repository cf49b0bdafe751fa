"""SELECT: T-SQL in, DuckDB's SQL and the types of its columns out."""

from dataclasses import dataclass

from dev.sandbox.sqlserver.engine.catalogue import quote
from dev.sandbox.sqlserver.errors import SqlError
from dev.sandbox.sqlserver.sql.conditions import Conditions
from dev.sandbox.sqlserver.sql.conversions import Expr, common_type, convert
from dev.sandbox.sqlserver.sql.expressions import Expressions
from dev.sandbox.sqlserver.sql.functions import FUNCTIONS
from dev.sandbox.sqlserver.sql.names import Names
from dev.sandbox.sqlserver.sql.scope import Scope, Source
from dev.sandbox.sqlserver.sql.sources import Join, Query, Sources
from dev.sandbox.sqlserver.types import INT
from dev.sandbox.sqlserver.wire.tokens import Column

_STATEMENT_WORDS = {"SELECT", "UNION", "WHERE", "GROUP", "ORDER", "INSERT", "UPDATE", "DELETE", "SET", "EXEC"}


@dataclass(frozen=True)
class _Item:
    """A column of the select list; `name` is empty where it has none."""

    value: Expr
    name: str


class Queries:
    """Reads queries, with the readers of their parts."""

    def __init__(self, names: Names) -> None:
        self.batch = names.batch
        self.expressions = Expressions(self.batch, FUNCTIONS, lambda: self.conditions.condition())
        self.conditions = Conditions(self.batch, self.expressions, self.subquery)
        self.sources = Sources(names, self.conditions.condition, self.query)

    def subquery(self) -> str:
        """Read a query inside of parentheses, the first of which has been taken."""
        outer = self.batch.scope
        found = self.query(outer)
        self.batch.scope = outer
        self.batch.expect(")")
        return found.sql

    def query(self, outer: Scope | None = None) -> Query:
        """Read a query, with UNION ALL and ORDER BY."""
        selects = [self._select(outer)]
        while self.batch.accept("UNION", "ALL"):
            selects.append(self._select(outer))
        if len(selects) > 1:
            return self._union(selects)
        sql, items, limit = selects[0]
        return Query(sql + self._order(items) + limit, _described(items))

    def _union(self, selects: list[tuple[str, list[_Item], str]]) -> Query:
        first = selects[0][1]
        if any(len(items) != len(first) for _, items, _ in selects):
            raise SqlError(
                205,
                "All queries combined using a UNION, INTERSECT or EXCEPT operator must have an equal number of"
                " expressions in their target lists.",
            )
        types = [common_type([items[at].value for _, items, _ in selects]) or INT for at in range(len(first))]
        items = [_Item(Expr("", each), item.name) for each, item in zip(types, first, strict=True)]
        names = [item.name or f"c{at}" for at, item in enumerate(first)]
        parts = []
        for sql, found, limit in selects:
            inner = ", ".join(f"c{at}" for at in range(len(found)))
            casts = [
                f"{convert(Expr(f'q.c{at}', item.value.type), types[at])} AS {quote(names[at])}"
                for at, item in enumerate(found)
            ]
            parts.append(f"SELECT {', '.join(casts)} FROM ({sql}{limit}) AS q({inner})")
        united = " UNION ALL ".join(parts)
        return Query(f"SELECT * FROM ({united})" + self._order(items), _described(items))

    def _select(self, outer: Scope | None) -> tuple[str, list[_Item], str]:
        """Read one SELECT without its ORDER BY: its SQL, its columns, and its LIMIT."""
        self.batch.expect("SELECT")
        distinct = "DISTINCT " if self.batch.accept("DISTINCT") else ""
        limit = f" LIMIT {self.top()}" if self.batch.accept("TOP") else ""
        # FROM is read first: it has the sources of the selected columns.
        self.batch.scope = Scope(outer=outer)
        items_at, from_at = self.batch.position, self.find_from()
        sources = ""
        after = from_at
        if from_at:
            self.batch.position = from_at
            self.batch.expect("FROM")
            sources = " FROM " + "".join(map(_joined, self.sources.from_clause()))
            after, self.batch.position = self.batch.position, items_at
        items = self._items()
        if from_at:
            if self.batch.position != from_at:
                raise self.batch.unknown()
            self.batch.position = after
        selected = ", ".join(_selected(item) for item in items)
        return f"SELECT {distinct}{selected}{sources}{self._filters()}", items, limit

    def _filters(self) -> str:
        sql = ""
        if self.batch.accept("WHERE"):
            sql += f" WHERE {self.conditions.condition()}"
        if self.batch.accept("GROUP", "BY"):
            sql += f" GROUP BY {', '.join(value.sql for value in self.expressions.values_list())}"
        if self.batch.accept("HAVING"):
            sql += f" HAVING {self.conditions.condition()}"
        return sql

    def find_from(self) -> int:
        """Position of this statement's FROM; 0 if it has none."""
        depth = 0
        for at in range(self.batch.position, len(self.batch.tokens)):
            token = self.batch.tokens[at]
            if token.kind == "mark":
                depth += {"(": 1, ")": -1}.get(token.value, 0)
                if depth < 0 or token.value == ";":
                    return 0
            elif token.kind == "word" and depth == 0:
                word = token.value.upper()
                if word == "FROM":
                    return at
                if word in _STATEMENT_WORDS:
                    return 0
        return 0

    def top(self) -> str:
        """Read the number of rows after TOP."""
        if self.batch.accept("("):
            count = self.expressions.value()
            self.batch.expect(")")
        else:
            count = Expr(self.batch.of_kind("number"), INT)
        if count.type is None or not count.type.is_integer:
            raise self.batch.unknown()
        return count.sql

    def _items(self) -> list[_Item]:
        found: list[_Item] = []
        while True:
            if self.batch.accept("*"):
                found += [item for source in self.batch.scope.sources for item in _star(source)]
            elif self.batch.sees(".", "*", after=1):
                alias = self.batch.name()
                self.batch.expect(".", "*")
                found += _star(self.batch.scope.source(alias))
            else:
                found.append(self._item())
            if not self.batch.accept(","):
                break
        if not found:
            raise self.batch.unknown()
        return found

    def _item(self) -> _Item:
        value = self.expressions.value()
        # A column keeps its name as written.
        own = self.batch.tokens[self.batch.position - 1].value if value.column else ""
        return _Item(value, self.sources.alias() or own)

    def _order(self, items: list[_Item]) -> str:
        if not self.batch.accept("ORDER", "BY"):
            return ""
        terms = [self._order_term(items)]
        while self.batch.accept(","):
            terms.append(self._order_term(items))
        return f" ORDER BY {', '.join(terms)}"

    def _order_term(self, items: list[_Item]) -> str:
        names = [item.name.lower() for item in items]
        token, is_more = self.batch.token, self.batch.sees(".", after=1) or self.batch.sees("(", after=1)
        if token.kind == "number":
            sql = str(int(self.batch.take().value))
        elif token.kind in ("word", "quoted") and not is_more and token.value.lower() in names:
            sql = str(names.index(self.batch.name().lower()) + 1)
        else:
            sql = self.expressions.value().sql
        # NULL sorts first in SQL Server.
        if self.batch.accept("DESC"):
            return f"{sql} DESC NULLS LAST"
        self.batch.accept("ASC")
        return f"{sql} ASC NULLS FIRST"


def _joined(join: Join) -> str:
    return f" {join.how} {join.source.sql} ON {join.condition}" if join.how else join.source.sql


def _star(source: Source) -> list[_Item]:
    return [
        _Item(Expr(f"{quote(source.alias)}.{quote(column.name)}", column.type, column=True), column.name)
        for column in source.columns
    ]


def _selected(item: _Item) -> str:
    value = item.value
    sql = value.sql if value.column else f"CAST({value.sql} AS {(value.type or INT).duckdb})"
    return f"{sql} AS {quote(item.name)}" if item.name else sql


def _described(items: list[_Item]) -> list[Column]:
    return [Column(item.name, item.value.type or INT) for item in items]
