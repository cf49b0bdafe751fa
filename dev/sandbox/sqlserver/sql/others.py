"""Statements that only other loaders send, which this project is measured against."""

from dev.sandbox.sqlserver.engine.statements import DropTable
from dev.sandbox.sqlserver.sql.administration import Administration


class OtherLoaders(Administration):
    """Reads what nobody else writes."""

    def drop_what_is_there(self) -> DropTable:
        """Read what follows IF, as sling writes it: OBJECT_ID(N'…', N'U') IS NOT NULL DROP TABLE …."""
        self.expect("OBJECT_ID", "(")
        self.of_kind("text")
        self.expect(",")
        self.of_kind("text")
        self.expect(")", "IS", "NOT", "NULL", "DROP", "TABLE")
        schema, name = self.dotted_name()
        return DropTable(schema, name, if_exists=True)
