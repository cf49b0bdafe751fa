"""SELECT: T-SQL in, DuckDB's SQL and the types of its columns out."""

from dataclasses import dataclass

from dev.sandbox.sqlserver.engine.catalogue import quote
from dev.sandbox.sqlserver.errors import SqlError
from dev.sandbox.sqlserver.sql.conversions import Expr, common_type, convert
from dev.sandbox.sqlserver.sql.functions import FUNCTIONS
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


class Queries(Sources):
    """Reads queries."""

    functions = FUNCTIONS

    def subquery(self) -> str:
        """Read a query inside of parentheses, the first of which has been taken."""
        outer = self.scope
        found = self.query(outer)
        self.scope = outer
        self.expect(")")
        return found.sql

    def query(self, outer: Scope | None = None) -> Query:
        """Read a query, with UNION ALL and ORDER BY."""
        selects = [self._select(outer)]
        while self.accept("UNION", "ALL"):
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
        self.expect("SELECT")
        distinct = "DISTINCT " if self.accept("DISTINCT") else ""
        limit = f" LIMIT {self.top()}" if self.accept("TOP") else ""
        # What the columns mean is known only after FROM, so that is read first.
        self.scope = Scope(outer=outer)
        items_at, from_at = self.at, self._find_from()
        sources = ""
        after = from_at
        if from_at:
            self.at = from_at
            self.expect("FROM")
            sources = " FROM " + "".join(map(_joined, self.from_clause()))
            after, self.at = self.at, items_at
        items = self._items()
        if from_at:
            if self.at != from_at:
                raise self.unknown()
            self.at = after
        selected = ", ".join(_selected(item) for item in items)
        return f"SELECT {distinct}{selected}{sources}{self._filters()}", items, limit

    def _filters(self) -> str:
        sql = ""
        if self.accept("WHERE"):
            sql += f" WHERE {self.condition()}"
        if self.accept("GROUP", "BY"):
            sql += f" GROUP BY {', '.join(value.sql for value in self.values_list())}"
        if self.accept("HAVING"):
            sql += f" HAVING {self.condition()}"
        return sql

    def _find_from(self) -> int:
        """The place of this SELECT's own FROM; 0 where it has none."""
        depth = 0
        for at in range(self.at, len(self.tokens)):
            token = self.tokens[at]
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
        """Read how many rows, as it follows TOP."""
        if self.accept("("):
            count = self.value()
            self.expect(")")
        else:
            count = Expr(self.of_kind("number"), INT)
        if count.type is None or not count.type.is_integer:
            raise self.unknown()
        return count.sql

    def _items(self) -> list[_Item]:
        found: list[_Item] = []
        while True:
            if self.accept("*"):
                found += [item for source in self.scope.sources for item in _star(source)]
            elif self.sees(".", "*", after=1):
                alias = self.name()
                self.expect(".", "*")
                found += _star(self.scope.source(alias))
            else:
                found.append(self._item())
            if not self.accept(","):
                break
        if not found:
            raise self.unknown()
        return found

    def _item(self) -> _Item:
        value = self.value()
        # An unquoted column keeps the name that it was written with.
        own = self.tokens[self.at - 1].value if value.column else ""
        return _Item(value, self.alias() or own)

    def _order(self, items: list[_Item]) -> str:
        if not self.accept("ORDER", "BY"):
            return ""
        terms = [self._order_term(items)]
        while self.accept(","):
            terms.append(self._order_term(items))
        return f" ORDER BY {', '.join(terms)}"

    def _order_term(self, items: list[_Item]) -> str:
        names = [item.name.lower() for item in items]
        token, is_more = self.token, self.sees(".", after=1) or self.sees("(", after=1)
        if token.kind == "number":
            sql = str(int(self.take().value))
        elif token.kind in ("word", "quoted") and not is_more and token.value.lower() in names:
            sql = str(names.index(self.name().lower()) + 1)
        else:
            sql = self.value().sql
        # NULL is the least of values in SQL Server.
        if self.accept("DESC"):
            return f"{sql} DESC NULLS LAST"
        self.accept("ASC")
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
