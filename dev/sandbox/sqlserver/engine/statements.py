"""The statements that the double knows: a closed list, everything else is error 102."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from dev.sandbox.sqlserver.engine.catalogue import ForeignKey, Index, Table, TableColumn, Trigger
from dev.sandbox.sqlserver.types import SqlType
from dev.sandbox.sqlserver.wire.tokens import Column


@dataclass(frozen=True)
class Select:
    """A query; `values`: its parameters for DuckDB."""

    sql: str
    columns: Sequence[Column]
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Change:
    """INSERT, UPDATE or DELETE on a table."""

    verb: Literal["INSERT", "UPDATE", "DELETE"]
    sql: str
    table: Table
    values: Mapping[str, Any]


@dataclass(frozen=True)
class CreateTable:
    """CREATE TABLE; `foreign_keys` are added after it."""

    table: Table
    foreign_keys: tuple[ForeignKey, ...] = ()


@dataclass(frozen=True)
class AddColumns:
    """ALTER TABLE … ADD; `filled`: the values that rows get which are there, in DuckDB's SQL."""

    table: list[str]
    columns: tuple[TableColumn, ...]
    filled: Mapping[str, str]


@dataclass(frozen=True)
class AlterColumn:
    """ALTER TABLE … ALTER COLUMN; `value`: the converted value in DuckDB's SQL, empty if there is no such column."""

    table: list[str]
    column: TableColumn
    value: str = ""


@dataclass(frozen=True)
class AddForeignKey:
    """ALTER TABLE … ADD CONSTRAINT … FOREIGN KEY."""

    key: ForeignKey


@dataclass(frozen=True)
class DropConstraint:
    """ALTER TABLE … DROP CONSTRAINT, of a foreign key."""

    table: list[str]
    name: str


@dataclass(frozen=True)
class CreateIndex:
    """CREATE INDEX: nonclustered and not unique only."""

    schema: str
    table: str
    index: Index


@dataclass(frozen=True)
class CreateTrigger:
    """CREATE TRIGGER … AFTER …; the body is T-SQL."""

    name: str
    table: list[str]
    trigger: Trigger


@dataclass(frozen=True)
class Throw:
    """THROW: raise an error."""

    number: int
    message: str


@dataclass(frozen=True)
class SetLanguage:
    """SET LANGUAGE, of the session's messages."""

    name: str


@dataclass(frozen=True)
class DropTable:
    """DROP TABLE, with IF EXISTS or without."""

    schema: str
    name: str
    if_exists: bool


@dataclass(frozen=True)
class TruncateTable:
    """TRUNCATE TABLE."""

    table: Table


@dataclass(frozen=True)
class CreateSchema:
    """CREATE SCHEMA, with the owner that AUTHORIZATION names."""

    name: str
    owner: str = "dbo"


@dataclass(frozen=True)
class DropSchema:
    """DROP SCHEMA, with IF EXISTS or without."""

    name: str
    if_exists: bool


@dataclass(frozen=True)
class ChangeOwner:
    """ALTER AUTHORIZATION of a schema."""

    schema: str
    owner: str


@dataclass(frozen=True)
class CreateDatabase:
    """CREATE DATABASE."""

    name: str


@dataclass(frozen=True)
class SetDatabaseOption:
    """ALTER DATABASE … SET of an option: the column of sys.databases that shows it, and its value there."""

    database: str
    column: str
    value: str


@dataclass(frozen=True)
class TakeOffline:
    """ALTER DATABASE … SET OFFLINE."""

    database: str


@dataclass(frozen=True)
class BackupDatabase:
    """BACKUP DATABASE to a file of the server."""

    database: str
    path: str


@dataclass(frozen=True)
class VerifyBackup:
    """RESTORE VERIFYONLY."""

    path: str


@dataclass(frozen=True)
class RestoreDatabase:
    """RESTORE DATABASE … WITH REPLACE."""

    database: str
    path: str


@dataclass(frozen=True)
class SetLogin:
    """CREATE LOGIN, or ALTER LOGIN with another password; without a `sid` the server makes one."""

    name: str
    password: str = field(repr=False)
    is_new: bool
    sid: bytes = b""


@dataclass(frozen=True)
class DisableLogin:
    """ALTER LOGIN … DISABLE."""

    name: str


@dataclass(frozen=True)
class DropLogin:
    """DROP LOGIN."""

    name: str


@dataclass(frozen=True)
class SetUser:
    """CREATE USER for a login, or ALTER USER with another login."""

    name: str
    login: str
    is_new: bool


@dataclass(frozen=True)
class CreateRole:
    """CREATE ROLE."""

    name: str


@dataclass(frozen=True)
class AddMember:
    """ALTER ROLE … ADD MEMBER."""

    role: str
    member: str


@dataclass(frozen=True)
class Grant:
    """GRANT or REVOKE on a table; on a schema if `table` is empty; on the database if both are.

    `on_server`: on the server, to a login.
    """

    permissions: tuple[str, ...]
    schema: str
    table: str
    grantee: str
    revoke: bool
    on_server: bool = False


@dataclass(frozen=True)
class SetOption:
    """SET of an option that has an effect."""

    option: Literal["NOCOUNT", "XACT_ABORT"]
    on: bool


@dataclass(frozen=True)
class SetLockTimeout:
    """SET LOCK_TIMEOUT: how long a statement waits for a lock, -1 without limit."""

    milliseconds: int


@dataclass(frozen=True)
class Nothing:
    """A known statement without effect."""


@dataclass(frozen=True)
class Use:
    """USE of a database."""

    database: str


@dataclass(frozen=True)
class Declare:
    """DECLARE of a variable."""

    name: str
    type: SqlType


@dataclass(frozen=True)
class Transaction:
    """BEGIN, COMMIT or ROLLBACK of a transaction."""

    verb: Literal["BEGIN", "COMMIT", "ROLLBACK"]


@dataclass(frozen=True)
class GetAppLock:
    """sp_getapplock of an exclusive lock; the result goes into a variable, if one is named."""

    variable: str
    resource: str
    timeout_ms: int
    for_session: bool


@dataclass(frozen=True)
class InjectFault:
    """standin_inject: a fault that happens `times` times."""

    fault: str
    value: int
    times: int


@dataclass(frozen=True)
class ClearFaults:
    """standin_clear_faults: remove all faults."""


@dataclass(frozen=True)
class InsertBulk:
    """INSERT BULK: announces a message with rows, in the order of these columns."""

    table: Table
    columns: tuple[str, ...] = field(default=())


Statement = (
    Select | Change | CreateTable | DropTable | TruncateTable | CreateSchema | DropSchema | SetOption | Nothing | Use
    | Declare | Transaction | GetAppLock | InjectFault | ClearFaults | InsertBulk | ChangeOwner | CreateDatabase
    | SetDatabaseOption | TakeOffline | BackupDatabase | VerifyBackup | RestoreDatabase | SetLogin | DisableLogin
    | CreateIndex | CreateTrigger | Throw | SetLanguage | DropLogin | SetUser | CreateRole | AddMember | Grant
    | SetLockTimeout | AddColumns | AlterColumn | AddForeignKey | DropConstraint
)  # fmt: skip
