"""FROM: tables, subqueries and joins."""

from collections.abc import Callable
from dataclasses import dataclass

from dev.sandbox.sqlserver.engine.catalogue import TableColumn
from dev.sandbox.sqlserver.sql.expressions import RESERVED
from dev.sandbox.sqlserver.sql.names import Names
from dev.sandbox.sqlserver.sql.scope import Source
from dev.sandbox.sqlserver.wire.tokens import Column


@dataclass(frozen=True)
class Query:
    """A query in DuckDB's SQL, and its columns in SQL Server's types."""

    sql: str
    columns: list[Column]


@dataclass(frozen=True)
class Join:
    """A source of FROM with its kind of join; `how` is empty for the first."""

    how: str
    source: Source
    condition: str


class Sources:
    """Reads FROM. `condition` reads a condition, `query` a query."""

    def __init__(self, names: Names, condition: Callable[[], str], query: Callable[[], Query]) -> None:
        self.batch, self.names = names.batch, names
        self._condition, self._query = condition, query

    def from_clause(self) -> list[Join]:
        """Read the sources that follow FROM, into the scope."""
        found = [Join("", self._source(), "")]
        while how := self._join():
            source = self._source()
            self.batch.expect("ON")
            found.append(Join(how, source, self._condition()))
        return found

    def alias(self) -> str:
        """Read an alias, if there is one."""
        is_free = self.batch.token.kind == "word" and self.batch.token.value.upper() not in RESERVED
        return self.batch.name() if self.batch.accept("AS") or self.batch.token.kind == "quoted" or is_free else ""

    def _join(self) -> str:
        if self.batch.accept("LEFT"):
            self.batch.accept("OUTER")
            self.batch.expect("JOIN")
            return "LEFT JOIN"
        if self.batch.accept("INNER"):
            self.batch.expect("JOIN")
            return "JOIN"
        return self.batch.accept_any("JOIN")

    def _source(self) -> Source:
        source = self._derived() if self.batch.accept("(") else self._named()
        self.batch.scope.sources.append(source)
        return source

    def _named(self) -> Source:
        table = self.names.table()
        self.names.require("SELECT", table)
        alias = self.alias() or table.name
        self.names.apply(self.names.hints(), table)
        return Source(alias, table.columns, table)

    def _derived(self) -> Source:
        outer = self.batch.scope
        found = self._query()
        self.batch.scope = outer
        self.batch.expect(")")
        alias = self.alias()
        if not alias or any(not column.name for column in found.columns):
            raise self.batch.unknown()
        return Source(alias, [TableColumn(c.name, c.type) for c in found.columns], query=found.sql)
