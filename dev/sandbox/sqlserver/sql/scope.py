"""Scope of an expression: the columns of its query's tables, then those of the queries around it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from dev.sandbox.sqlserver.engine.catalogue import Table, TableColumn, quote
from dev.sandbox.sqlserver.errors import SqlError, unknown_column
from dev.sandbox.sqlserver.sql.conversions import Expr


@dataclass(frozen=True)
class Source:
    """A table, or a subquery in DuckDB's SQL, under its alias in FROM."""

    alias: str
    columns: Sequence[TableColumn]
    table: Table | None = None
    query: str = ""

    @property
    def sql(self) -> str:
        """The source in DuckDB's FROM."""
        return f"{self.table.sql if self.table else f'({self.query})'} AS {quote(self.alias)}"

    def find(self, name: str) -> Expr | None:
        """The column of that name, as an expression."""
        for column in self.columns:
            if column.name.lower() == name.lower():
                return Expr(f"{quote(self.alias)}.{quote(column.name)}", column.type, column=True)
        return None


@dataclass
class Scope:
    """The sources of a query, and the query around it."""

    sources: list[Source] = field(default_factory=list)
    outer: "Scope | None" = None

    def column(self, name: str) -> Expr:
        """A column by its bare name. Raises SqlError 207 for none, 209 for more than one."""
        found = [expr for source in self.sources if (expr := source.find(name))]
        if len(found) > 1:
            raise SqlError(209, f"Ambiguous column name '{name}'.")
        if found:
            return found[0]
        if self.outer is None:
            raise unknown_column(name)
        return self.outer.column(name)

    def qualified(self, alias: str, name: str) -> Expr:
        """A column of one source. Raises SqlError 4104 without the source, 207 without the column."""
        for source in self.sources:
            if source.alias.lower() == alias.lower():
                found = source.find(name)
                if found is None:
                    raise unknown_column(name)
                return found
        if self.outer is None:
            raise SqlError(4104, f'The multi-part identifier "{alias}.{name}" could not be bound.')
        return self.outer.qualified(alias, name)

    def source(self, alias: str) -> Source:
        """A source by its alias. Raises SqlError 4104 if there is none."""
        for source in self.sources:
            if source.alias.lower() == alias.lower():
                return source
        raise SqlError(4104, f'The multi-part identifier "{alias}.*" could not be bound.')
