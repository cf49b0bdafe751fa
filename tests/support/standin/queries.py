"""SELECT: T-SQL in, DuckDB's SQL and the types of its columns out."""

from dataclasses import dataclass

from .catalogue import Table, TableColumn, quote, system_table
from .conversions import Expr, common_type, convert
from .errors import SqlError, unknown_object
from .expressions import RESERVED, Expressions
from .functions import FUNCTIONS
from .scope import Scope, Source
from .sqltypes import INT
from .tokens import Column

_HINTS = {
    "HOLDLOCK", "NOLOCK", "PAGLOCK", "READCOMMITTED", "ROWLOCK", "SERIALIZABLE", "TABLOCK", "TABLOCKX", "UPDLOCK",
    "XLOCK",
}  # fmt: skip
_STATEMENT_WORDS = {"SELECT", "UNION", "WHERE", "GROUP", "ORDER", "INSERT", "UPDATE", "DELETE", "SET", "EXEC"}


@dataclass(frozen=True)
class Query:
    """A query for DuckDB, and what its columns are in SQL Server."""

    sql: str
    columns: list[Column]


@dataclass(frozen=True)
class _Item:
    """A column of the select list; `name` is empty where it has none."""

    value: Expr
    name: str


@dataclass(frozen=True)
class Join:
    """A source of FROM, and how it is joined to those before; `how` is empty for the first."""

    how: str
    source: Source
    condition: str


class Queries(Expressions):
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

    def table(self) -> Table:
        """Read the name of a table. Raises SqlError 208 where there is none of that name."""
        return self.table_named(self.dotted_name())

    def table_named(self, parts: list[str]) -> Table:
        """The table of a name. Raises SqlError 208 where there is none."""
        schema = parts[-2] if len(parts) > 1 else "dbo"
        if schema.upper() == "INFORMATION_SCHEMA":
            found = system_table(parts[-1])
        else:
            found = self.context.catalogue.table(schema, parts[-1])
        if found is None:
            raise unknown_object(".".join(parts))
        return found

    def dotted_name(self) -> list[str]:
        """Read a name of up to three parts: database, schema, table. Raises SqlError 208 for another database."""
        parts = [self.name()]
        while self.accept("."):
            parts.append(self.name())
        if len(parts) > 3:
            raise self.unknown()
        if len(parts) == 3 and parts[0].lower() != self.context.catalogue.database.lower():
            raise unknown_object(".".join(parts))
        return parts

    def from_clause(self) -> list[Join]:
        """Read the sources that follow FROM, into the scope."""
        found = [Join("", self._source(), "")]
        while how := self._join():
            source = self._source()
            self.expect("ON")
            found.append(Join(how, source, self.condition()))
        return found

    def hints(self) -> None:
        """Read table hints. DuckDB has no locks to apply them to."""
        if self.accept("WITH"):
            self.expect("(")
            while not self.accept(")"):
                if self.name().upper() not in _HINTS:
                    raise self.unknown()
                self.accept(",")

    def alias(self) -> str:
        """Read an alias, if there is one."""
        is_free = self.token.kind == "word" and self.token.value.upper() not in RESERVED
        return self.name() if self.accept("AS") or self.token.kind == "quoted" or is_free else ""

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
        limit = f" LIMIT {self._top()}" if self.accept("TOP") else ""
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

    def _top(self) -> str:
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
            elif self.tokens[self.at + 1].value == "." and self.tokens[self.at + 2].value == "*":
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
        token, following = self.token, self.tokens[self.at + 1].value
        if token.kind == "number":
            sql = str(int(self.take().value))
        elif token.kind in ("word", "quoted") and following not in (".", "(") and token.value.lower() in names:
            sql = str(names.index(self.name().lower()) + 1)
        else:
            sql = self.value().sql
        # NULL is the least of values in SQL Server.
        if self.accept("DESC"):
            return f"{sql} DESC NULLS LAST"
        self.accept("ASC")
        return f"{sql} ASC NULLS FIRST"

    def _join(self) -> str:
        if self.accept("LEFT"):
            self.accept("OUTER")
            self.expect("JOIN")
            return "LEFT JOIN"
        if self.accept("INNER"):
            self.expect("JOIN")
            return "JOIN"
        return self.accept_any("JOIN")

    def _source(self) -> Source:
        source = self._derived() if self.accept("(") else self._named()
        self.scope.sources.append(source)
        return source

    def _named(self) -> Source:
        table = self.table()
        alias = self.alias() or table.name
        self.hints()
        return Source(alias, table.columns, table)

    def _derived(self) -> Source:
        outer = self.scope
        found = self.query()
        self.scope = outer
        self.expect(")")
        alias = self.alias()
        if not alias or any(not column.name for column in found.columns):
            raise self.unknown()
        return Source(alias, [TableColumn(c.name, c.type) for c in found.columns], query=found.sql)


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
