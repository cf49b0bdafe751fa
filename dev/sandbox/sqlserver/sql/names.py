"""Names of tables and columns, and what the session may do with a table."""

from dev.sandbox.sqlserver.engine.catalogue import COUNTERS, SCHEMA, Table
from dev.sandbox.sqlserver.engine.database import AZURE
from dev.sandbox.sqlserver.engine.table_locks import Mode
from dev.sandbox.sqlserver.engine.views import is_system_schema, system_table
from dev.sandbox.sqlserver.errors import SqlError, unknown_object
from dev.sandbox.sqlserver.sql.batch import Batch

_HINTS = {
    "HOLDLOCK", "NOLOCK", "PAGLOCK", "READCOMMITTED", "ROWLOCK", "SERIALIZABLE", "TABLOCK", "TABLOCKX", "UPDLOCK",
    "XLOCK",
}  # fmt: skip


class Names:
    """Reads names, and resolves those of tables."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def dotted_name(self) -> list[str]:
        """Read a name of up to three parts: database, schema, table. Raises SqlError 208 for another database."""
        parts = [self.batch.name()]
        while self.batch.accept("."):
            parts.append(self.batch.name())
        if len(parts) > 3:
            raise self.batch.unknown()
        if len(parts) == 3 and parts[0].lower() != self.batch.context.catalogue.database.lower():
            raise unknown_object(".".join(parts))
        return parts

    def table(self) -> Table:
        """Read the name of a table. Raises SqlError 208 if there is none."""
        return self.table_named(self.dotted_name())

    def table_named(self, parts: list[str]) -> Table:
        """The table of a name. Raises SqlError 208 if there is none."""
        schema = parts[-2] if len(parts) > 1 else "dbo"
        if is_system_schema(schema):
            found = system_table(schema, parts[-1], self.batch.context.catalogue.in_master)
        else:
            found = self.batch.context.catalogue.table(schema, parts[-1])
        if found is None:
            raise unknown_object(".".join(parts))
        return found

    def require(self, permission: str, table: Table) -> None:
        """Raise SqlError unless the session has a permission on a table; most of the system's views all may read."""
        if table.schema != SCHEMA:
            self.lock(table, Mode.INTENT_SHARED if permission == "SELECT" else Mode.INTENT_EXCLUSIVE)
            self.batch.context.principals.require(permission, table, self.batch.context.catalogue.database)
        elif permission != "SELECT":
            raise SqlError(259, "Ad hoc updates to system catalogs are not allowed.")
        elif table.name == COUNTERS:
            self._require_counters()

    def column_names(self) -> list[str]:
        """Read names in parentheses, if any follow."""
        if not self.batch.sees("(") or self.batch.sees("(", "SELECT"):
            return []
        self.batch.expect("(")
        names = [self.batch.name()]
        while self.batch.accept(","):
            names.append(self.batch.name())
        self.batch.expect(")")
        return names

    def hints(self) -> set[str]:
        """Read table hints."""
        found = set()
        if self.batch.accept("WITH"):
            self.batch.expect("(")
            while not self.batch.accept(")"):
                found.add(self.batch.name().upper())
                self.batch.accept(",")
        if not found <= _HINTS:
            raise self.batch.unknown()
        return found

    def apply(self, hints: set[str], table: Table) -> None:
        """Lock a table as hints say; those about rows and pages have no effect."""
        place = table.full_name.lower()
        mode = self.batch.locks.get(place)
        if mode is None:
            return  # a system view
        if "TABLOCKX" in hints:
            self.lock(table, Mode.EXCLUSIVE)
        elif "TABLOCK" in hints:
            self.lock(table, Mode.SHARED if mode < Mode.INTENT_EXCLUSIVE else Mode.EXCLUSIVE)
        elif "NOLOCK" in hints and mode == Mode.INTENT_SHARED:
            self.batch.locks[place] = Mode.SCHEMA_STABILITY

    def lock(self, table: Table, mode: Mode) -> None:
        """Have the statement lock a table in a mode, unless it already locks it in a stronger one."""
        place = table.full_name.lower()
        self.batch.locks[place] = max(mode, self.batch.locks.get(place, mode))

    def _require_counters(self) -> None:
        """Raise SqlError 300 unless the session may see the server's counters; 262 in an Azure SQL Database."""
        principals, permission = self.batch.context.principals, "VIEW SERVER PERFORMANCE STATE"
        if self.batch.context.edition == AZURE:
            principals.require_on_database("VIEW DATABASE STATE", self.batch.context.catalogue.database)
        elif not principals.allows_on_server(permission):
            raise SqlError(300, f"{permission} permission was denied on object 'server', database 'master'.", 14)
