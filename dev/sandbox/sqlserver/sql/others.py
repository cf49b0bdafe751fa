"""Statements that only other loaders send, which this project is measured against."""

from dev.sandbox.sqlserver.engine.statements import DropTable
from dev.sandbox.sqlserver.sql.names import Names


def drop_if_there(names: Names) -> DropTable:
    """Read what follows IF, as sling writes it: OBJECT_ID(N'…', N'U') IS NOT NULL DROP TABLE …."""
    batch = names.batch
    batch.expect("OBJECT_ID", "(")
    batch.of_kind("text")
    batch.expect(",")
    batch.of_kind("text")
    batch.expect(")", "IS", "NOT", "NULL", "DROP", "TABLE")
    schema, name = names.dotted_name()
    return DropTable(schema, name, if_exists=True)
