"""What stands in FROM: tables, subqueries, and how they are joined."""

from abc import abstractmethod
from dataclasses import dataclass

from dev.sandbox.sqlserver.engine.catalogue import COUNTERS, SCHEMA, Table, TableColumn
from dev.sandbox.sqlserver.engine.database import AZURE
from dev.sandbox.sqlserver.engine.views import is_system_schema, system_table
from dev.sandbox.sqlserver.errors import SqlError, unknown_object
from dev.sandbox.sqlserver.sql.conditions import Conditions
from dev.sandbox.sqlserver.sql.expressions import RESERVED
from dev.sandbox.sqlserver.sql.scope import Scope, Source
from dev.sandbox.sqlserver.wire.tokens import Column

_HINTS = {
    "HOLDLOCK", "NOLOCK", "PAGLOCK", "READCOMMITTED", "ROWLOCK", "SERIALIZABLE", "TABLOCK", "TABLOCKX", "UPDLOCK",
    "XLOCK",
}  # fmt: skip


@dataclass(frozen=True)
class Query:
    """A query for DuckDB, and what its columns are in SQL Server."""

    sql: str
    columns: list[Column]


@dataclass(frozen=True)
class Join:
    """A source of FROM, and how it is joined to those before; `how` is empty for the first."""

    how: str
    source: Source
    condition: str


class Sources(Conditions):
    """Reads the names of tables, and FROM."""

    @abstractmethod
    def query(self, outer: Scope | None = None) -> Query:
        """Read a query."""

    def table(self) -> Table:
        """Read the name of a table. Raises SqlError 208 where there is none of that name."""
        return self.table_named(self.dotted_name())

    def table_named(self, parts: list[str]) -> Table:
        """The table of a name. Raises SqlError 208 where there is none."""
        schema = parts[-2] if len(parts) > 1 else "dbo"
        if is_system_schema(schema):
            found = system_table(schema, parts[-1], self.context.catalogue.in_master)
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

    def require(self, permission: str, table: Table) -> None:
        """Raise SqlError unless the session has a permission on a table; most of the system's views all may read."""
        if table.schema != SCHEMA:
            self.context.principals.require(permission, table, self.context.catalogue.database)
        elif permission != "SELECT":
            raise SqlError(259, "Ad hoc updates to system catalogs are not allowed.")
        elif table.name == COUNTERS:
            self._require_counters()

    def _require_counters(self) -> None:
        """Raise SqlError 300 unless the session may see the server's counters; 262 in an Azure SQL Database."""
        principals, permission = self.context.principals, "VIEW SERVER PERFORMANCE STATE"
        if self.context.edition == AZURE:
            principals.require_on_database("VIEW DATABASE STATE", self.context.catalogue.database)
        elif not principals.allows_on_server(permission):
            raise SqlError(300, f"{permission} permission was denied on object 'server', database 'master'.", 14)

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
        self.require("SELECT", table)
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
