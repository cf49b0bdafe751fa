"""Parser of whole statements, composed of readers of their parts."""

import re
from collections.abc import Callable
from typing import Any

from dev.sandbox.sqlserver.engine.statements import (
    ClearFaults,
    Declare,
    DropSchema,
    DropTable,
    GetAppLock,
    InjectFault,
    InsertBulk,
    Nothing,
    Select,
    SetLanguage,
    SetLockTimeout,
    SetOption,
    Statement,
    Throw,
    Transaction,
    TruncateTable,
    Use,
)
from dev.sandbox.sqlserver.errors import unknown_statement
from dev.sandbox.sqlserver.sql.administration import Administration
from dev.sandbox.sqlserver.sql.alter import AlterTable
from dev.sandbox.sqlserver.sql.batch import Batch, Context
from dev.sandbox.sqlserver.sql.changes import Changes
from dev.sandbox.sqlserver.sql.languages import check_language
from dev.sandbox.sqlserver.sql.lexer import Token
from dev.sandbox.sqlserver.sql.names import Names
from dev.sandbox.sqlserver.sql.others import drop_if_there
from dev.sandbox.sqlserver.sql.queries import Queries
from dev.sandbox.sqlserver.sql.tables import Tables

# Options that drivers set at connect: SQL Server's defaults, which the double cannot change.
_ALWAYS_ON = {
    "ANSI_NULL_DFLT_ON", "ANSI_NULLS", "ANSI_PADDING", "ANSI_WARNINGS", "ARITHABORT", "CONCAT_NULL_YIELDS_NULL",
    "CURSOR_CLOSE_ON_COMMIT", "QUOTED_IDENTIFIER",
}  # fmt: skip
_WHOLE_TEXTS = "2147483647"
_BULK_WITH = {"TABLOCK", "CHECK_CONSTRAINTS", "FIRE_TRIGGERS", "KEEP_NULLS"}


class Parser:
    """Reads a batch or a prepared call. Each statement is read after the one before has run."""

    def __init__(self, text: str, context: Context) -> None:
        self.batch = Batch(text, context)
        self._names = names = Names(self.batch)
        self._queries = Queries(names)
        self._changes = changes = Changes(names, self._queries)
        self._tables = Tables(names, self._queries.expressions)
        alter_table = AlterTable(names, self._tables)
        self._administration = administration = Administration(self.batch)
        self._statements: dict[str, Callable[[], Statement]] = {
            "SELECT": self._select_statement,
            "INSERT": self._insert_statement,
            "UPDATE": changes.update,
            "DELETE": changes.delete,
            "SET": self._set,
            "USE": lambda: Use(self.batch.name()),
            "DECLARE": self._declare,
            "EXEC": self._execute,
            "EXECUTE": self._execute,
            "BEGIN": lambda: self._transaction("BEGIN"),
            "COMMIT": lambda: self._transaction("COMMIT"),
            "ROLLBACK": lambda: self._transaction("ROLLBACK"),
            "CREATE": self._create,
            "DROP": self._drop,
            "TRUNCATE": self._truncate,
            "ALTER": lambda: alter_table.read() if self.batch.accept("TABLE") else administration.alter(),
            "GRANT": lambda: administration.grant(revoke=False),
            "REVOKE": lambda: administration.grant(revoke=True),
            "BACKUP": administration.backup,
            "RESTORE": administration.restore,
            "IF": lambda: drop_if_there(names),
            "THROW": self._throw,
        }
        self._check_verbs()

    def next_statement(self) -> Statement | None:
        """Read the next statement; None at the end of the batch. Raises SqlError."""
        while self.batch.accept(";"):
            pass
        if self.batch.sees_end():
            return None
        self.batch.statement_start = self.batch.token.start
        self.batch.values, self.batch.locks = {}, {}
        statement = self._statements[self.batch.take().value.upper()]()
        if not (self.batch.sees(";") or self.batch.sees_end() or self._is_verb(self.batch.token)):
            raise self.batch.unknown()
        return statement

    def _check_verbs(self) -> None:
        """Refuse a batch with an unknown verb before any of it runs."""
        begins = True
        for token in self.batch.tokens:
            is_semicolon = token.kind == "mark" and token.value == ";"
            if begins and not (is_semicolon or token.kind == "end" or self._is_verb(token)):
                raise unknown_statement(self.batch.text[token.start :])
            begins = is_semicolon

    def _is_verb(self, token: Token) -> bool:
        return token.kind == "word" and token.value.upper() in self._statements

    def _select_statement(self) -> Select:
        self.batch.position -= 1
        query = self._queries.query()
        return Select(query.sql, query.columns, self.batch.values)

    def _insert_statement(self) -> Statement:
        return self._insert_bulk() if self.batch.accept("BULK") else self._changes.insert()

    def _insert_bulk(self) -> InsertBulk:
        table = self._names.table()
        self._names.require("INSERT", table)
        self.batch.expect("(")
        names = []
        while True:
            names.append(self.batch.name())
            self.batch.type_name()
            if self.batch.accept("COLLATE"):
                self.batch.name()
            if not self.batch.accept(","):
                break
        self.batch.expect(")")
        if self.batch.accept("WITH"):
            self.batch.expect("(")
            while not self.batch.accept(")"):
                if self.batch.name().upper() not in _BULK_WITH:
                    raise self.batch.unknown()
                self.batch.accept(",")
        return InsertBulk(table, tuple(names))

    def _set(self) -> Statement:
        if self.batch.accept("TRANSACTION", "ISOLATION", "LEVEL"):
            if not any(self.batch.accept(*level.split()) for level in ("READ COMMITTED", "READ UNCOMMITTED")):
                raise self.batch.unknown()
            return Nothing()
        option = self.batch.name().upper()
        if option == "LANGUAGE":
            return SetLanguage(check_language(self.batch.name()))
        if option == "LOCK_TIMEOUT":
            sign = -1 if self.batch.accept("-") else 1
            return SetLockTimeout(sign * int(self.batch.of_kind("number")))
        if option in ("NOCOUNT", "XACT_ABORT"):
            return SetOption(option, on=self._on_or_off())  # type: ignore[arg-type]
        if option in _ALWAYS_ON:
            self.batch.expect("ON")
        elif option == "IMPLICIT_TRANSACTIONS":
            self.batch.expect("OFF")
        elif option != "TEXTSIZE" or self.batch.of_kind("number") != _WHOLE_TEXTS:
            raise self.batch.unknown()
        return Nothing()

    def _on_or_off(self) -> bool:
        if self.batch.accept("ON"):
            return True
        self.batch.expect("OFF")
        return False

    def _declare(self) -> Declare:
        return Declare(self.batch.of_kind("variable").upper(), self.batch.type_name())

    def _transaction(self, verb: str) -> Transaction:
        if not self.batch.accept_any("TRANSACTION", "TRAN") and verb == "BEGIN":
            raise self.batch.unknown()
        self.batch.accept("WORK")
        return Transaction(verb)  # type: ignore[arg-type]

    def _execute(self) -> Statement:
        variable = ""
        if self.batch.token.kind == "variable":
            variable = self.batch.take().value.upper()
            self.batch.expect("=")
        procedure = self.batch.name().lower()
        given = self._named_arguments()
        if procedure == "sp_getapplock" and not given.keys() - {"RESOURCE", "LOCKMODE", "LOCKOWNER", "LOCKTIMEOUT"}:
            mode, owner = str(given.get("LOCKMODE")).lower(), str(given.get("LOCKOWNER", "Transaction")).lower()
            if given.get("RESOURCE") and mode == "exclusive" and owner in ("transaction", "session"):
                timeout = int(given.get("LOCKTIMEOUT", -1))
                return GetAppLock(variable, str(given["RESOURCE"]), timeout, for_session=owner == "session")
        if procedure == "standin_inject" and "FAULT" in given and not given.keys() - {"FAULT", "VALUE", "TIMES"}:
            return InjectFault(str(given["FAULT"]), int(given.get("VALUE", 0)), int(given.get("TIMES", 1)))
        if procedure == "standin_clear_faults" and not given:
            return ClearFaults()
        raise self.batch.unknown()

    def _named_arguments(self) -> dict[str, Any]:
        given: dict[str, Any] = {}
        while self.batch.token.kind == "variable":
            name = self.batch.take().value.upper().lstrip("@")
            self.batch.expect("=")
            given[name] = self._argument()
            if not self.batch.accept(","):
                break
        return given

    def _argument(self) -> Any:
        if self.batch.token.kind == "variable" and self.batch.token.value.upper() in self.batch.context.variables:
            return self.batch.context.variables[self.batch.take().value.upper()].value
        if self.batch.token.kind == "text":
            return self.batch.take().value
        sign = -1 if self.batch.accept("-") else 1
        digits = self.batch.of_kind("number")
        if not re.fullmatch(r"\d+", digits):
            raise self.batch.unknown()
        return sign * int(digits)

    def _create(self) -> Statement:
        if what := self.batch.accept_any("DATABASE", "SCHEMA", "LOGIN", "USER", "ROLE"):
            return self._administration.create(what)
        if self.batch.accept("INDEX"):
            return self._tables.create_index()
        return self._tables.create_trigger() if self.batch.accept("TRIGGER") else self._tables.create_table()

    def _throw(self) -> Throw:
        number = int(self.batch.of_kind("number"))
        self.batch.expect(",")
        message = self.batch.of_kind("text")
        self.batch.expect(",")
        self.batch.of_kind("number")
        return Throw(number, message)

    def _drop(self) -> Statement:
        if self.batch.accept("LOGIN"):
            return self._administration.drop_login()
        what = self.batch.accept_any("TABLE", "SCHEMA")
        if_exists = self.batch.accept("IF", "EXISTS")
        if what == "SCHEMA":
            return DropSchema(self.batch.name(), if_exists)
        if what != "TABLE":
            raise self.batch.unknown()
        parts = self._names.dotted_name()
        return DropTable(parts[-2] if len(parts) > 1 else "dbo", parts[-1], if_exists)

    def _truncate(self) -> TruncateTable:
        self.batch.expect("TABLE")
        return TruncateTable(self._names.table())
