"""CREATE TABLE and CREATE TRIGGER: T-SQL in, statements out."""

from dataclasses import replace

from dev.sandbox.sqlserver.engine.catalogue import Index, Table, TableColumn, Trigger
from dev.sandbox.sqlserver.engine.statements import CreateIndex, CreateTable, CreateTrigger
from dev.sandbox.sqlserver.errors import SqlError
from dev.sandbox.sqlserver.sql.others import OtherLoaders
from dev.sandbox.sqlserver.sql.scope import Scope, Source
from dev.sandbox.sqlserver.types import DEFAULT_COLLATION, INT


class Tables(OtherLoaders):
    """Reads what defines tables."""

    def create_table(self) -> CreateTable:
        """Read what follows CREATE."""
        self.expect("TABLE")
        parts = self.dotted_name()
        self.expect("(")
        columns: list[TableColumn] = []
        indexes: list[Index] = []
        key_name = ""
        key: tuple[str, ...] = ()
        while True:
            if self.sees("CONSTRAINT") or self.sees("PRIMARY", "KEY"):
                key_name, key = self._primary_key(parts[-1])
            elif self.accept("INDEX"):
                indexes.append(Index(self.name(), self._indexed()))
            else:
                columns.append(self._column_definition(columns))
            if not self.accept(","):
                break
        self.expect(")")
        # The columns of a primary key are never NULL.
        in_key = {name.lower() for name in key}
        settled = (replace(column, nullable=False) if column.name.lower() in in_key else column for column in columns)
        schema = parts[-2] if len(parts) > 1 else "dbo"
        return CreateTable(Table(schema, parts[-1], tuple(settled), key_name, key, indexes=tuple(indexes)))

    def create_index(self) -> CreateIndex:
        """Read what follows CREATE INDEX."""
        name = self.name()
        self.expect("ON")
        parts = self.dotted_name()
        return CreateIndex(parts[-2] if len(parts) > 1 else "dbo", parts[-1], Index(name, self._indexed()))

    def create_trigger(self) -> CreateTrigger:
        """Read a trigger, which takes the whole rest of the batch."""
        if any(token.kind != "mark" for token in self.tokens[: self.at - 2]):
            raise SqlError(111, "'CREATE TRIGGER' must be the first statement in a query batch.", 15)
        name = self.dotted_name()[-1]
        self.expect("ON")
        table = self.dotted_name()
        self.expect("AFTER")
        verbs = [self.accept_any("INSERT", "UPDATE", "DELETE")]
        while self.accept(","):
            verbs.append(self.accept_any("INSERT", "UPDATE", "DELETE"))
        self.expect("AS")
        if not all(verbs):
            raise self.unknown()
        body, self.at = self.text[self.token.start :], len(self.tokens) - 1
        return CreateTrigger(name, table, Trigger(tuple(verbs), body))

    def _indexed(self) -> tuple[str, ...]:
        names = tuple(self.column_names())
        if not names:
            raise self.unknown()
        return names

    def _primary_key(self, table: str) -> tuple[str, tuple[str, ...]]:
        name = self.name() if self.accept("CONSTRAINT") else f"PK__{table}"
        self.expect("PRIMARY", "KEY")
        self.accept_any("CLUSTERED", "NONCLUSTERED")
        return name, tuple(self.column_names())

    def _column_definition(self, columns: list[TableColumn]) -> TableColumn:
        name = self.name()
        if self.accept("AS"):
            self.expect("(")
            self.scope = Scope([Source("", columns)])
            value = self.value()
            self.expect(")")
            return TableColumn(name, value.type or INT, computed=value.sql.replace('"".', ""))
        declared = self.type_name()
        if declared.is_text:
            collation = self.name() if self.accept("COLLATE") else DEFAULT_COLLATION
            declared = declared.collated(collation)
        nullable, default, identity = True, "", False
        while True:
            if self.accept("IDENTITY"):
                nullable, identity = False, True
            elif self.accept("NOT", "NULL"):
                nullable = False
            elif self.accept("DEFAULT"):
                self.expect("SYSUTCDATETIME", "(", ")")
                default = "(sysutcdatetime())"
            elif not self.accept("NULL"):
                return TableColumn(name, declared, nullable, default, identity)
