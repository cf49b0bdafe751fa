"""Execution of a batch or a prepared call: runs its statements and writes the reply."""

from collections.abc import Callable, Iterable
from functools import partial

from dev.sandbox.sqlserver.engine import alter, backups, definitions, indexes, security
from dev.sandbox.sqlserver.engine.catalogue import Trigger
from dev.sandbox.sqlserver.engine.database import AZURE
from dev.sandbox.sqlserver.engine.statements import (
    AddColumns,
    AddForeignKey,
    AddMember,
    AlterColumn,
    BackupDatabase,
    Change,
    ChangeOwner,
    ClearFaults,
    CreateDatabase,
    CreateIndex,
    CreateRole,
    CreateSchema,
    CreateTable,
    CreateTrigger,
    Declare,
    DisableLogin,
    DropConstraint,
    DropLogin,
    DropSchema,
    DropTable,
    GetAppLock,
    Grant,
    InjectFault,
    InsertBulk,
    Nothing,
    RestoreDatabase,
    Select,
    SetDatabaseOption,
    SetLanguage,
    SetLockTimeout,
    SetLogin,
    SetOption,
    SetUser,
    Statement,
    TakeOffline,
    Throw,
    Transaction,
    TruncateTable,
    Use,
    VerifyBackup,
)
from dev.sandbox.sqlserver.engine.store import Store
from dev.sandbox.sqlserver.engine.table_locks import NO_LIMIT
from dev.sandbox.sqlserver.errors import SqlError
from dev.sandbox.sqlserver.faults import Faults
from dev.sandbox.sqlserver.sql.batch import Context
from dev.sandbox.sqlserver.sql.languages import DEFAULT, in_language
from dev.sandbox.sqlserver.sql.parser import Parser
from dev.sandbox.sqlserver.types import INT
from dev.sandbox.sqlserver.wire.rpc import Parameter
from dev.sandbox.sqlserver.wire.tokens import DELETE, DONE, DONE_IN_PROC, ENV_ROLLBACK, INSERT, SELECT, UPDATE, Reply
from dev.sandbox.sqlserver.wire.values import encoder

VERSION = "Double of Microsoft SQL Server: a test double over DuckDB, not SQL Server (TDS 7.4)"
_COMMANDS = {"INSERT": INSERT, "UPDATE": UPDATE, "DELETE": DELETE}


class Executor:
    """A session's statements and its options.

    `bulk`: the INSERT BULK that waits for its rows. `injected`: the request has injected a fault, which must not hit
    its own reply. `transaction_descriptor`: of a transaction that a transaction manager request has begun.
    """

    def __init__(self, store: Store, faults: Faults) -> None:
        self.store = store
        self.faults = faults
        self.no_count = False
        self.bulk: InsertBulk | None = None
        self.transaction_descriptor = b""
        self.injected = False
        self._row_count = 0
        self._language = DEFAULT
        self._variables: dict[str, Parameter] = {}
        self._reply: Reply
        self._done = DONE
        self._actions: dict[type[Statement], Callable[..., None]] = {
            Select: self._select,
            Change: self._change,
            CreateTable: self._create_table,
            AddColumns: partial(alter.add_columns, store),
            AlterColumn: partial(alter.alter_column, store),
            AddForeignKey: partial(alter.add_foreign_key, store),
            DropConstraint: partial(alter.drop_constraint, store),
            CreateIndex: partial(indexes.create_index, store),
            CreateTrigger: partial(definitions.create_trigger, store),
            Throw: self._throw,
            SetLanguage: self._set_language,
            DropTable: partial(definitions.drop_table, store),
            TruncateTable: partial(definitions.truncate_table, store),
            CreateSchema: partial(definitions.create_schema, store),
            DropSchema: partial(definitions.drop_schema, store),
            SetOption: self._set_option,
            SetLockTimeout: self._set_lock_timeout,
            Nothing: lambda _: None,
            Use: self._use,
            Declare: self._declare,
            Transaction: self._transaction,
            GetAppLock: self._get_app_lock,
            InjectFault: self._inject_fault,
            ClearFaults: self._clear_faults,
            InsertBulk: self._announce_bulk,
            ChangeOwner: partial(security.change_owner, store),
            CreateDatabase: partial(security.create_database, store),
            SetDatabaseOption: partial(security.set_database_option, store),
            TakeOffline: partial(backups.take_offline, store),
            BackupDatabase: partial(backups.backup_database, store),
            VerifyBackup: partial(backups.verify_backup, store),
            RestoreDatabase: partial(backups.restore_database, store),
            SetLogin: partial(security.set_login, store),
            DisableLogin: partial(security.disable_login, store),
            DropLogin: partial(security.drop_login, store),
            SetUser: partial(security.set_user, store),
            CreateRole: partial(security.create_role, store),
            AddMember: partial(security.add_member, store),
            Grant: partial(security.grant, store),
        }

    def run(self, text: str, parameters: Iterable[Parameter], reply: Reply, done: int = DONE) -> None:
        """Run the statements of a text and reply to each with a DONE token. Raises SqlError; then call `fail`."""
        self._variables = {parameter.name.upper(): parameter for parameter in parameters}
        self._reply, self._done = reply, done
        parser = Parser(text, self.context())
        while (statement := parser.next_statement()) is not None:
            self._row_count = 0
            with self.store.locking(parser.batch.locks):
                self._actions[type(statement)](statement)
            parser.batch.context = self.context()

    def fail(self, error: SqlError, reply: Reply, done: int = DONE) -> None:
        """Apply an error to the transaction, and reply with it."""
        if self.store.fail(error) and self.transaction_descriptor:
            reply.transaction_ended(ENV_ROLLBACK, self.transaction_descriptor)
            self.transaction_descriptor = b""
        reply.error(in_language(error, self._language))
        reply.done(done, error=True)

    def reset(self) -> None:
        """Reset the session, as for another user of a connection pool."""
        self.store.reset()
        self.store.xact_abort = self.no_count = False
        self.store.lock_timeout_ms = NO_LIMIT
        self.transaction_descriptor = b""
        self.bulk = None

    def context(self) -> Context:
        """Names and state that the next statement can refer to."""
        store = self.store
        return Context(
            *(store.catalogue, store.principals, VERSION, store.trancount, self._row_count, store.edition),
            self._variables,
        )

    def _select(self, query: Select) -> None:
        encoders = [encoder(column.type) for column in query.columns]
        count = 0
        for batch, rows in enumerate(self.store.select(query)):
            if not batch:
                self._reply.columns(query.columns)
            count += len(rows)
            columns = [map(encode, values) for encode, values in zip(encoders, zip(*rows, strict=True), strict=False)]
            self._reply.write(b"".join(b"\xd1" + b"".join(row) for row in zip(*columns, strict=True)))
        self._row_count = count
        self._reply.done(self._done, SELECT, count)

    def _change(self, change: Change) -> None:
        triggers = [trigger for trigger in change.table.triggers if change.verb in trigger.verbs]
        count = self._with_triggers(change, triggers) if triggers else self.store.change(change)
        self._row_count = count
        if not self.no_count:
            self._reply.done(self._done, _COMMANDS[change.verb], count)

    def _with_triggers(self, change: Change, triggers: Iterable[Trigger]) -> int:
        """Change rows and run triggers, all or nothing; the row counts of triggers come first in the reply."""
        no_count, done = self.no_count, self._done
        self.store.begin()
        try:
            count = self.store.change(change)
            self._done = DONE_IN_PROC
            for trigger in triggers:
                self._run_trigger(trigger)
                self.no_count = no_count  # what it has set ends with it
        except SqlError as error:
            error.ends_transaction = True
            raise
        finally:
            self.no_count, self._done = no_count, done
        self.store.commit()
        return count

    def _run_trigger(self, trigger: Trigger) -> None:
        parser = Parser(trigger.body, self.context())
        while (statement := parser.next_statement()) is not None:
            if isinstance(statement, Transaction) and statement.verb == "ROLLBACK":
                raise SqlError(3609, "The transaction ended in the trigger. The batch has been aborted.")
            self.store.lock_tables(parser.batch.locks)
            self._actions[type(statement)](statement)
            parser.batch.context = self.context()

    def _throw(self, statement: Throw) -> None:
        raise SqlError(statement.number, statement.message)

    def _set_language(self, statement: SetLanguage) -> None:
        self._language = statement.name
        self._reply.language(statement.name)

    def _set_option(self, statement: SetOption) -> None:
        if statement.option == "NOCOUNT":
            self.no_count = statement.on
        else:
            self.store.xact_abort = statement.on

    def _set_lock_timeout(self, statement: SetLockTimeout) -> None:
        self.store.lock_timeout_ms = statement.milliseconds

    def _use(self, statement: Use) -> None:
        found = self.store.catalogue.database_named(statement.database)
        if self.store.edition == AZURE and found != self.store.catalogue.database:
            raise SqlError(
                40508,
                "USE statement is not supported to switch between databases. Use a new connection to connect to a"
                " different database.",
            )
        if found is None:
            raise SqlError(
                911, f"Database '{statement.database}' does not exist. Make sure that the name is entered correctly."
            )
        if not self.store.is_open(found):
            raise SqlError(942, f"Database '{found}' cannot be opened because it is offline.", 14)
        if not self.store.principals.may_enter(found):
            raise SqlError(916, f"The server principal is not able to access the database '{found}'.", 14)
        self.store.catalogue.database = found
        self._reply.database(found)

    def _declare(self, statement: Declare) -> None:
        self._variables[statement.name] = Parameter(statement.name, statement.type, None)

    def _transaction(self, statement: Transaction) -> None:
        if statement.verb == "BEGIN":
            self.store.begin()
        elif statement.verb == "COMMIT":
            self.store.commit()
        else:
            self.store.rollback()

    def _get_app_lock(self, statement: GetAppLock) -> None:
        result = self.store.lock(statement)
        if statement.variable:
            if statement.variable not in self._variables:
                raise SqlError(137, f'Must declare the scalar variable "{statement.variable.lower()}".')
            self._variables[statement.variable] = Parameter(statement.variable, INT, result)

    def _announce_bulk(self, statement: InsertBulk) -> None:
        self.bulk = statement

    def _inject_fault(self, statement: InjectFault) -> None:
        self.faults.inject(statement.fault, statement.value, statement.times)
        if statement.fault == "recovering":
            backups.set_state(self.store, "RECOVERING")
            self.store.offline.set()
        self.injected = True

    def _clear_faults(self, _: ClearFaults) -> None:
        if self.faults.take("recovering") is not None:
            backups.set_state(self.store, "ONLINE")
            self.store.offline.clear()
        self.faults.clear()

    def _create_table(self, statement: CreateTable) -> None:
        for number, warning in definitions.create_table(self.store, statement):
            self._reply.info(number, warning)
