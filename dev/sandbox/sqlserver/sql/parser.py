"""Whole statements: reads a batch one statement after the other."""

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
    SetOption,
    Statement,
    Throw,
    Transaction,
    TruncateTable,
    Use,
)
from dev.sandbox.sqlserver.errors import unknown_statement
from dev.sandbox.sqlserver.sql.expressions import Context
from dev.sandbox.sqlserver.sql.languages import check_language
from dev.sandbox.sqlserver.sql.lexer import Token
from dev.sandbox.sqlserver.sql.tables import Tables

# What the drivers set at connect: SQL Server's usual ways, which are the only ones that the stand-in has.
_ALWAYS_ON = {
    "ANSI_NULL_DFLT_ON", "ANSI_NULLS", "ANSI_PADDING", "ANSI_WARNINGS", "ARITHABORT", "CONCAT_NULL_YIELDS_NULL",
    "CURSOR_CLOSE_ON_COMMIT", "QUOTED_IDENTIFIER",
}  # fmt: skip
_WHOLE_TEXTS = "2147483647"
_BULK_WITH = {"TABLOCK", "CHECK_CONSTRAINTS", "FIRE_TRIGGERS", "KEEP_NULLS"}


class Parser(Tables):
    """Reads a batch, or the statement of a prepared call. Each statement is read after the one before has run."""

    def __init__(self, text: str, context: Context) -> None:
        super().__init__(text, context)
        self._statements: dict[str, Callable[[], Statement]] = {
            "SELECT": self._select_statement,
            "INSERT": self._insert_statement,
            "UPDATE": self.update,
            "DELETE": self.delete,
            "SET": self._set,
            "USE": lambda: Use(self.name()),
            "DECLARE": self._declare,
            "EXEC": self._execute,
            "EXECUTE": self._execute,
            "BEGIN": lambda: self._transaction("BEGIN"),
            "COMMIT": lambda: self._transaction("COMMIT"),
            "ROLLBACK": lambda: self._transaction("ROLLBACK"),
            "CREATE": self._create,
            "DROP": self._drop,
            "TRUNCATE": self._truncate,
            "ALTER": self.alter,
            "GRANT": lambda: self.grant(revoke=False),
            "REVOKE": lambda: self.grant(revoke=True),
            "BACKUP": self.backup,
            "RESTORE": self.restore,
            "IF": self.drop_what_is_there,
            "THROW": self._throw,
        }
        self._check_verbs()

    def next_statement(self) -> Statement | None:
        """Read the next statement; None at the end of the batch. Raises SqlError."""
        while self.accept(";"):
            pass
        if self.sees_end():
            return None
        self.statement_start = self.token.start
        self.values = {}
        statement = self._statements[self.take().value.upper()]()
        if not (self.sees(";") or self.sees_end() or self._is_verb(self.token)):
            raise self.unknown()
        return statement

    def _check_verbs(self) -> None:
        """Refuse a batch with an unknown statement before any of it runs, as far as its first words tell."""
        begins = True
        for token in self.tokens:
            is_semicolon = token.kind == "mark" and token.value == ";"
            if begins and not (is_semicolon or token.kind == "end" or self._is_verb(token)):
                raise unknown_statement(self.text[token.start :])
            begins = is_semicolon

    def _is_verb(self, token: Token) -> bool:
        return token.kind == "word" and token.value.upper() in self._statements

    def _select_statement(self) -> Select:
        self.at -= 1
        query = self.query()
        return Select(query.sql, query.columns, self.values)

    def _insert_statement(self) -> Statement:
        return self._insert_bulk() if self.accept("BULK") else self.insert()

    def _insert_bulk(self) -> InsertBulk:
        table = self.table()
        self.require("INSERT", table)
        self.expect("(")
        names = []
        while True:
            names.append(self.name())
            self.type_name()
            if self.accept("COLLATE"):
                self.name()
            if not self.accept(","):
                break
        self.expect(")")
        if self.accept("WITH"):
            self.expect("(")
            while not self.accept(")"):
                if self.name().upper() not in _BULK_WITH:
                    raise self.unknown()
                self.accept(",")
        return InsertBulk(table, tuple(names))

    def _set(self) -> Statement:
        if self.accept("TRANSACTION", "ISOLATION", "LEVEL"):
            if not any(self.accept(*level.split()) for level in ("READ COMMITTED", "READ UNCOMMITTED")):
                raise self.unknown()
            return Nothing()
        option = self.name().upper()
        if option == "LANGUAGE":
            return SetLanguage(check_language(self.name()))
        if option in ("NOCOUNT", "XACT_ABORT"):
            return SetOption(option, on=self._on_or_off())  # type: ignore[arg-type]
        if option in _ALWAYS_ON:
            self.expect("ON")
        elif option == "IMPLICIT_TRANSACTIONS":
            self.expect("OFF")
        elif option != "TEXTSIZE" or self.of_kind("number") != _WHOLE_TEXTS:
            raise self.unknown()
        return Nothing()

    def _on_or_off(self) -> bool:
        if self.accept("ON"):
            return True
        self.expect("OFF")
        return False

    def _declare(self) -> Declare:
        return Declare(self.of_kind("variable").upper(), self.type_name())

    def _transaction(self, verb: str) -> Transaction:
        if not self.accept_any("TRANSACTION", "TRAN") and verb == "BEGIN":
            raise self.unknown()
        self.accept("WORK")
        return Transaction(verb)  # type: ignore[arg-type]

    def _execute(self) -> Statement:
        variable = ""
        if self.token.kind == "variable":
            variable = self.take().value.upper()
            self.expect("=")
        procedure = self.name().lower()
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
        raise self.unknown()

    def _named_arguments(self) -> dict[str, Any]:
        given: dict[str, Any] = {}
        while self.token.kind == "variable":
            name = self.take().value.upper().lstrip("@")
            self.expect("=")
            given[name] = self._argument()
            if not self.accept(","):
                break
        return given

    def _argument(self) -> Any:
        if self.token.kind == "variable" and self.token.value.upper() in self.context.variables:
            return self.context.variables[self.take().value.upper()].value
        if self.token.kind == "text":
            return self.take().value
        sign = -1 if self.accept("-") else 1
        digits = self.of_kind("number")
        if not re.fullmatch(r"\d+", digits):
            raise self.unknown()
        return sign * int(digits)

    def _create(self) -> Statement:
        if what := self.accept_any("DATABASE", "SCHEMA", "LOGIN", "USER", "ROLE"):
            return self.create(what)
        if self.accept("INDEX"):
            return self.create_index()
        return self.create_trigger() if self.accept("TRIGGER") else self.create_table()

    def _throw(self) -> Throw:
        number = int(self.of_kind("number"))
        self.expect(",")
        message = self.of_kind("text")
        self.expect(",")
        self.of_kind("number")
        return Throw(number, message)

    def _drop(self) -> Statement:
        if self.accept("LOGIN"):
            return self.drop_login()
        what = self.accept_any("TABLE", "SCHEMA")
        if_exists = self.accept("IF", "EXISTS")
        if what == "SCHEMA":
            return DropSchema(self.name(), if_exists)
        if what != "TABLE":
            raise self.unknown()
        parts = self.dotted_name()
        return DropTable(parts[-2] if len(parts) > 1 else "dbo", parts[-1], if_exists)

    def _truncate(self) -> TruncateTable:
        self.expect("TABLE")
        return TruncateTable(self.table())
