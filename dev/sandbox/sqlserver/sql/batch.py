"""A batch that is being parsed: its tokens, and the names and values that its statements may refer to."""

from dataclasses import dataclass, field
from typing import Any

from dev.sandbox.sqlserver.engine.catalogue import Catalogue
from dev.sandbox.sqlserver.engine.principals import Principals
from dev.sandbox.sqlserver.engine.table_locks import Mode
from dev.sandbox.sqlserver.sql.lexer import Cursor
from dev.sandbox.sqlserver.sql.scope import Scope
from dev.sandbox.sqlserver.types import SqlType, parse_type
from dev.sandbox.sqlserver.wire.rpc import Parameter


@dataclass
class Context:
    """Session state that a statement can refer to: tables, permissions, parameters, variables."""

    catalogue: Catalogue
    principals: Principals
    version: str
    trancount: int = 0
    row_count: int = 0
    edition: int = 4
    variables: dict[str, Parameter] = field(default_factory=dict)


class Batch(Cursor):
    """The tokens of a batch, which all readers share.

    Of the current statement, `values` are the named parameters for DuckDB, and `locks` those of the tables in it.
    """

    def __init__(self, text: str, context: Context) -> None:
        super().__init__(text)
        self.context = context
        self.scope = Scope()
        self.values: dict[str, Any] = {}
        self.locks: dict[str, Mode] = {}

    def type_name(self) -> SqlType:
        """Read a type."""
        name = self.name()
        if self.accept("("):
            name += "(" + self.take().value
            while not self.accept(")"):
                name += self.take().value
            name += ")"
        found = parse_type(name)
        if found is None:
            raise self.unknown()
        return found
