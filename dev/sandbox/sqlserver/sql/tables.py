"""CREATE TABLE, CREATE INDEX and CREATE TRIGGER: T-SQL in, statements out."""

from dataclasses import replace

from dev.sandbox.sqlserver.engine.catalogue import ForeignKey, Index, Table, TableColumn, Trigger
from dev.sandbox.sqlserver.engine.statements import CreateIndex, CreateTable, CreateTrigger
from dev.sandbox.sqlserver.errors import SqlError
from dev.sandbox.sqlserver.sql.defaults import read_default
from dev.sandbox.sqlserver.sql.expressions import Expressions
from dev.sandbox.sqlserver.sql.names import Names
from dev.sandbox.sqlserver.sql.scope import Scope, Source
from dev.sandbox.sqlserver.types import DEFAULT_COLLATION, INT


class Tables:
    """Reads definitions of tables, their indexes and triggers."""

    def __init__(self, names: Names, expressions: Expressions) -> None:
        self.batch, self.names, self.expressions = names.batch, names, expressions

    def create_table(self) -> CreateTable:
        """Read what follows CREATE."""
        self.batch.expect("TABLE")
        parts = self.names.dotted_name()
        self.batch.expect("(")
        columns: list[TableColumn] = []
        indexes: list[Index] = []
        key_name = ""
        key: tuple[str, ...] = ()
        foreign_keys: list[ForeignKey] = []
        while True:
            name = self.batch.name() if self.batch.accept("CONSTRAINT") else ""
            if self.batch.sees("FOREIGN", "KEY"):
                foreign_keys.append(self.foreign_key(parts, name))
            elif name or self.batch.sees("PRIMARY", "KEY"):
                key_name, key = name or f"PK__{parts[-1]}", self._primary_key()
            elif self.batch.accept("INDEX"):
                indexes.append(Index(self.batch.name(), self._indexed()))
            else:
                columns.append(self.column_definition(columns))
            if not self.batch.accept(","):
                break
        self.batch.expect(")")
        # The columns of a primary key are never NULL.
        in_key = {name.lower() for name in key}
        settled = (replace(column, nullable=False) if column.name.lower() in in_key else column for column in columns)
        schema = parts[-2] if len(parts) > 1 else "dbo"
        table = Table(schema, parts[-1], tuple(settled), key_name, key, indexes=tuple(indexes))
        return CreateTable(table, tuple(foreign_keys))

    def foreign_key(self, table: list[str], name: str) -> ForeignKey:
        """Read FOREIGN KEY (columns) REFERENCES table (columns)."""
        self.batch.expect("FOREIGN", "KEY")
        columns = tuple(self.names.column_names())
        self.batch.expect("REFERENCES")
        to = self.names.dotted_name()
        places = [part[-2] if len(part) > 1 else "dbo" for part in (table, to)]
        to_columns = tuple(self.names.column_names())
        if not columns or len(columns) != len(to_columns):
            raise self.batch.unknown()
        name = name or f"FK__{table[-1]}__{columns[0]}"
        return ForeignKey(name, places[0], table[-1], columns, places[1], to[-1], to_columns)

    def create_index(self) -> CreateIndex:
        """Read what follows CREATE INDEX."""
        name = self.batch.name()
        self.batch.expect("ON")
        parts = self.names.dotted_name()
        return CreateIndex(parts[-2] if len(parts) > 1 else "dbo", parts[-1], Index(name, self._indexed()))

    def create_trigger(self) -> CreateTrigger:
        """Read a trigger: the whole rest of the batch."""
        if any(token.kind != "mark" for token in self.batch.tokens[: self.batch.position - 2]):
            raise SqlError(111, "'CREATE TRIGGER' must be the first statement in a query batch.", 15)
        name = self.names.dotted_name()[-1]
        self.batch.expect("ON")
        table = self.names.dotted_name()
        self.batch.expect("AFTER")
        verbs = [self.batch.accept_any("INSERT", "UPDATE", "DELETE")]
        while self.batch.accept(","):
            verbs.append(self.batch.accept_any("INSERT", "UPDATE", "DELETE"))
        self.batch.expect("AS")
        if not all(verbs):
            raise self.batch.unknown()
        body, self.batch.position = self.batch.text[self.batch.token.start :], len(self.batch.tokens) - 1
        return CreateTrigger(name, table, Trigger(tuple(verbs), body))

    def _indexed(self) -> tuple[str, ...]:
        names = tuple(self.names.column_names())
        if not names:
            raise self.batch.unknown()
        return names

    def _primary_key(self) -> tuple[str, ...]:
        self.batch.expect("PRIMARY", "KEY")
        self.batch.accept_any("CLUSTERED", "NONCLUSTERED")
        return tuple(self.names.column_names())

    def column_definition(self, columns: list[TableColumn]) -> TableColumn:
        """Read a column; `columns`: those before it, which a computed one may name."""
        name = self.batch.name()
        if self.batch.accept("AS"):
            self.batch.expect("(")
            self.batch.scope = Scope([Source("", columns)])
            value = self.expressions.value()
            self.batch.expect(")")
            return TableColumn(name, value.type or INT, computed=value.sql.replace('"".', ""))
        declared = self.batch.type_name()
        if declared.is_text:
            collation = self.batch.name() if self.batch.accept("COLLATE") else DEFAULT_COLLATION
            declared = declared.collated(collation)
        nullable, default, identity = True, "", False
        while True:
            if self.batch.accept("IDENTITY"):
                nullable, identity = False, True
            elif self.batch.accept("NOT", "NULL"):
                nullable = False
            elif self.batch.accept("DEFAULT"):
                default = read_default(self.batch)
            elif not self.batch.accept("NULL"):
                return TableColumn(name, declared, nullable, default, identity)
