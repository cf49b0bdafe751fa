"""ALTER TABLE: T-SQL in, a statement out."""

from dev.sandbox.sqlserver.engine.catalogue import quote
from dev.sandbox.sqlserver.engine.statements import AddColumns, AddForeignKey, AlterColumn, DropConstraint, Statement
from dev.sandbox.sqlserver.sql.conversions import Expr, assign
from dev.sandbox.sqlserver.sql.defaults import default_value
from dev.sandbox.sqlserver.sql.names import Names
from dev.sandbox.sqlserver.sql.tables import Tables


class AlterTable:
    """Reads what follows ALTER TABLE."""

    def __init__(self, names: Names, tables: Tables) -> None:
        self.batch, self.names, self.tables = names.batch, names, tables

    def read(self) -> Statement:
        """Read the table, and what is altered in it."""
        table = self.names.dotted_name()
        if self.batch.accept("ALTER", "COLUMN"):
            return self._alter_column(table)
        if self.batch.accept("DROP", "CONSTRAINT"):
            return DropConstraint(table, self.batch.name())
        self.batch.expect("ADD")
        if self.batch.sees("CONSTRAINT") or self.batch.sees("FOREIGN", "KEY"):
            name = self.batch.name() if self.batch.accept("CONSTRAINT") else ""
            return AddForeignKey(self.tables.foreign_key(table, name))
        columns = [self.tables.column_definition([])]
        while self.batch.accept(","):
            columns.append(self.tables.column_definition(columns))
        # Rows that are there get the default of a column that is NOT NULL, and NULL in one that is not.
        filled = {
            column.name: default_value(column).sql for column in columns if column.default and not column.nullable
        }
        return AddColumns(table, tuple(columns), filled)

    def _alter_column(self, table: list[str]) -> AlterColumn:
        new = self.tables.column_definition([])
        catalogue = self.batch.context.catalogue
        found = catalogue.table(table[-2] if len(table) > 1 else "dbo", table[-1])
        old = found.column(new.name) if found else None
        if found is None or old is None:
            return AlterColumn(table, new)
        whole_name = f"{catalogue.database}.{found.full_name}"
        return AlterColumn(table, new, assign(Expr(quote(old.name), old.type), new, whole_name))
