"""Metadata query of the drivers' bulk copy: the columns of the table."""

import re

from dev.sandbox.sqlserver.sql.batch import Batch, Context
from dev.sandbox.sqlserver.sql.names import Names
from dev.sandbox.sqlserver.types import INT, binary_type, text_type
from dev.sandbox.sqlserver.wire.tokens import Column, Reply
from dev.sandbox.sqlserver.wire.typeinfo import COLLATION
from dev.sandbox.sqlserver.wire.values import encoder

# One batch of dynamic SQL, which only bulk copy sends.
_BULK_METADATA = re.compile(r"FMTONLY.*sp_tablecollations_100\s+N'((?:[^']|'')*)'", re.DOTALL | re.IGNORECASE)
_COLLATION_COLUMNS = [
    Column("colid", INT),
    Column("name", text_type(128)),
    Column("tds_collation", binary_type(5)),
    Column("collation", text_type(128)),
]


def table_asked_for(batch: str) -> str | None:
    """Name of the table in a metadata query of bulk copy; None for any other batch."""
    match = _BULK_METADATA.search(batch)
    return match[1].replace("''", "'") if match else None


def describe_table(name: str, context: Context, reply: Reply) -> None:
    """Answer with three results: @@TRANCOUNT, one of the table's columns without rows, and their collations.

    Raises SqlError 208 if there is no such table.
    """
    asked = Names(Batch(name, context))
    table = asked.table()
    asked.require("SELECT", table)
    reply.columns([Column("", INT)])
    reply.write(b"\xd1" + encoder(INT)(context.trancount))
    reply.done(count=1)
    reply.columns([Column(column.name, column.type, column.nullable) for column in table.columns])
    reply.done(count=0)
    reply.columns(_COLLATION_COLUMNS)
    for at, column in enumerate(table.columns, 1):
        values = (at, column.name, COLLATION if column.type.is_text else None, column.type.collation or None)
        row = (encoder(each.type)(value) for each, value in zip(_COLLATION_COLUMNS, values, strict=True))
        reply.write(b"\xd1" + b"".join(row))
    reply.done(count=len(table.columns))
