"""T-SQL of the sink's administrator, for `etl prepare-sink` and backups, as text.

DDL takes no parameters, so the text of some statements contains a login's password.
"""

from collections.abc import Callable, Sequence

from etl.config.sink_logins import BACKUP, EXPORTER, LOADER, SinkLogin
from etl.model.pipeline import Pipeline
from etl.model.table_name import TableName
from etl.sqlserver import ledger
from etl.sqlserver.sql import quote_name, quote_table, quote_text

ROLE = LOADER
"""The database role of load, plan and reconcile. It owns the schema of the staging tables."""
METERED = (ledger.AUDIT, ledger.WATERMARK, ledger.LOG_POSITION)
"""The tables that the exporter reads."""
SINK_SCHEMA = "dbo"
"""The schema in which `etl load` may create sink tables, if no pipelines are named."""
_FURTHER: dict[str, Callable[[Pipeline], bool]] = {
    "DELETE": lambda pipeline: pipeline.deletes == "delete",
    "ALTER": lambda pipeline: pipeline.on_new_source_column == "add",
}
"""Rights on a sink table that only some pipelines need."""
OWNER = "dbo"
"""Owner of all else, so that no trigger on a staging table can reach it by ownership chaining."""

FIND_DATABASE = (
    "SELECT is_read_committed_snapshot_on, is_auto_close_on, recovery_model_desc FROM sys.databases WHERE name = ?"
)
FIND_STATE = "SELECT state_desc FROM sys.databases WHERE name = ?"
MATCH_LOGIN = "SELECT PWDCOMPARE(?, password_hash) FROM sys.sql_logins WHERE name = ?"
FIND_SID_OF_LOGIN = "SELECT sid FROM sys.sql_logins WHERE name = ?"
FIND_SID_OF_USER = "SELECT sid FROM sys.database_principals WHERE name = ?"
FIND_ROLE = "SELECT name FROM sys.database_principals WHERE name = ?"
EDITION = "SELECT CAST(SERVERPROPERTY(N'EngineEdition') AS int)"
MAJOR_VERSION = "SELECT CAST(SERVERPROPERTY(N'ProductMajorVersion') AS nvarchar(9))"
_VERSION_2022 = 16
AZURE_SQL_DATABASE = 5
"""The edition without USE, with logins in master only, and with backups by Azure."""
MANAGED = (AZURE_SQL_DATABASE, 8)
"""The editions that manage AUTO_CLOSE, the log and its backups themselves; 8 is Managed Instance."""
IS_MEMBER = "SELECT IS_ROLEMEMBER(?, ?)"
FIND_OWNER = "SELECT SCHEMA_OWNER FROM INFORMATION_SCHEMA.SCHEMATA WHERE SCHEMA_NAME = ?"


def create_database(name: str, *, is_managed: bool = False) -> list[str]:
    """Create a database with READ_COMMITTED_SNAPSHOT, so that readers do not wait for loads.

    AUTO_CLOSE is off and the recovery model is SIMPLE, unless Azure manages both.
    """
    quoted = quote_name(name)
    unmanaged = [] if is_managed else [stay_open(name), keep_short_log(name)]
    return [
        f"CREATE DATABASE {quoted}",
        # Without it, a reader that waited for a load has read some rows before it and others after it.
        f"ALTER DATABASE {quoted} SET READ_COMMITTED_SNAPSHOT ON WITH ROLLBACK IMMEDIATE",
        *unmanaged,
    ]


def stay_open(database: str) -> str:
    """Turn AUTO_CLOSE off: Express may close a database, with its caches, when its last connection ends."""
    return f"ALTER DATABASE {quote_name(database)} SET AUTO_CLOSE OFF"


def keep_short_log(database: str) -> str:
    """Recovery model SIMPLE: a sink is restored from a full backup, and loads what came after it from the source."""
    return f"ALTER DATABASE {quote_name(database)} SET RECOVERY SIMPLE"


def backup_database(database: str, path: str) -> str:
    """Write a database to a file of the server; COPY_ONLY does not affect other chains of backups."""
    return f"BACKUP DATABASE {quote_name(database)} TO DISK = {quote_text(path)} WITH COPY_ONLY, CHECKSUM"


def verify_backup(path: str) -> str:
    """Read a whole backup and compare its checksums."""
    return f"RESTORE VERIFYONLY FROM DISK = {quote_text(path)} WITH CHECKSUM"


def take_offline(database: str) -> str:
    """End all sessions in a database, and allow no others until it is restored."""
    return f"ALTER DATABASE {quote_name(database)} SET OFFLINE WITH ROLLBACK IMMEDIATE"


def restore_database(database: str, path: str) -> str:
    """Restore a backup over a database."""
    return f"RESTORE DATABASE {quote_name(database)} FROM DISK = {quote_text(path)} WITH CHECKSUM, REPLACE"


def find_login_of_sid(sid: bytes) -> str:
    """The login that has a security identifier."""
    return f"SELECT name FROM sys.sql_logins WHERE sid = 0x{sid.hex()}"


def create_login(login: SinkLogin, sid: bytes = b"", *, is_azure: bool = False) -> str:
    """Create a login, with a security identifier where one is given; the server's policy for passwords applies."""
    options = [f"PASSWORD = {quote_text(login.password.get_secret_value())}"]
    if sid:
        options.append(f"SID = 0x{sid.hex()}")
    if not is_azure:  # which has no DEFAULT_LANGUAGE
        options.append("DEFAULT_LANGUAGE = us_english")
    return f"CREATE LOGIN {quote_name(login.user)} WITH {', '.join(options)}"


def change_password(login: SinkLogin) -> str:
    """Change a login's password."""
    return f"ALTER LOGIN {quote_name(login.user)} WITH PASSWORD = {quote_text(login.password.get_secret_value())}"


def create_user(login: SinkLogin) -> str:
    """Create the user of a login, with the same name; an external one by the name that Entra ID has for it.

    Of external ones the administrator must be one, too (error 33159):
    https://learn.microsoft.com/azure/azure-sql/database/authentication-aad-configure
    """
    if login.is_external:
        return f"CREATE USER {quote_name(login.user)} FROM EXTERNAL PROVIDER"
    return f"CREATE USER {quote_name(login.user)} FOR LOGIN {quote_name(login.user)}"


def change_login(login: SinkLogin) -> str:
    """Map a user to its login again, as after a restore from another server."""
    return f"ALTER USER {quote_name(login.user)} WITH LOGIN = {quote_name(login.user)}"


def create_role(role: str) -> str:
    """Create a role."""
    return f"CREATE ROLE {quote_name(role)}"


def add_member(login: SinkLogin) -> str:
    """Add the user of a login to its role."""
    return f"ALTER ROLE {quote_name(login.role)} ADD MEMBER {quote_name(login.user)}"


def create_schema(name: str, owner: str) -> str:
    """Create a schema for its owner."""
    return f"CREATE SCHEMA {quote_name(name)} AUTHORIZATION {quote_name(owner)}"


def change_owner(schema: str, owner: str) -> str:
    """Change the owner of a schema and what is in it."""
    return f"ALTER AUTHORIZATION ON SCHEMA::{quote_name(schema)} TO {quote_name(owner)}"


def permissions(pipelines: Sequence[Pipeline] = ()) -> dict[str, tuple[str, ...]]:
    """The role's permissions by securable ('' is the database); only on the tables of `pipelines`, if any are named.

    Creating tables in a schema needs ALTER on it. That also allows dropping and truncating them and creating triggers,
    so it is not granted if pipelines are named; of a pipeline that adds columns ALTER on its table is, which allows
    all of these but dropping the table.
    """
    allowed: dict[str, tuple[str, ...]] = {
        "": ("CREATE TABLE",),
        _object(ledger.AUDIT): ("SELECT", "INSERT", "DELETE"),
        _object(ledger.WATERMARK): ("SELECT", "INSERT", "UPDATE"),
        _object(ledger.SETTLED): ("SELECT", "INSERT", "UPDATE"),
        _object(ledger.REPLACED): ("SELECT", "INSERT", "DELETE"),
        _object(ledger.BACKFILL): ("SELECT", "INSERT", "UPDATE"),
        _object(ledger.LOG_POSITION): ("SELECT", "INSERT", "UPDATE"),
        _object(ledger.VERIFICATION): ("SELECT", "INSERT", "DELETE"),
    }
    if not pipelines:
        return allowed | {_schema(SINK_SCHEMA): ("ALTER", "SELECT", "INSERT", "UPDATE", "DELETE")}
    further = {right: _tables_with(right, pipelines) for right in _FURTHER}
    return allowed | {
        table: ("SELECT", "INSERT", "UPDATE", *(right for right in further if table in further[right]))
        for table in (_object(pipeline.sink) for pipeline in pipelines)
    }


def grants(pipelines: Sequence[Pipeline] = ()) -> list[str]:
    """Grant the role its permissions; if pipelines are named, revoke those on the schema, and unused ones on tables."""
    allowed = permissions(pipelines)
    statements = [f"GRANT {', '.join(words)}{_on(on)} TO {quote_name(ROLE)}" for on, words in allowed.items()]
    if pipelines:
        schema = _schema(SINK_SCHEMA)
        statements.append(f"REVOKE {', '.join(permissions()[schema])}{_on(schema)} FROM {quote_name(ROLE)}")
    for right in _FURTHER:
        unused = {_object(pipeline.sink) for pipeline in pipelines} - _tables_with(right, pipelines)
        statements += [f"REVOKE {right}{_on(table)} FROM {quote_name(ROLE)}" for table in sorted(unused)]
    return statements


def _tables_with(right: str, pipelines: Sequence[Pipeline]) -> set[str]:
    """The sink tables on which a pipeline needs one of the further rights."""
    return {_object(pipeline.sink) for pipeline in pipelines if _FURTHER[right](pipeline)}


def grants_of_own_login(role: str, tables: Sequence[TableName]) -> list[str]:
    """Grant the exporter's role, or that of backups, its permissions in the database; `tables` exist already."""
    if role == EXPORTER:
        return [f"GRANT SELECT ON {_object(table)} TO {quote_name(role)}" for table in tables]
    return [f"GRANT BACKUP DATABASE TO {quote_name(role)}"] if role == BACKUP else []


def grants_on_server(login: SinkLogin) -> list[str]:
    """Grant a login its permissions on the server, in master.

    RESTORE VERIFYONLY needs CREATE DATABASE, unless the login is an administrator:
    https://learn.microsoft.com/sql/t-sql/statements/restore-statements-verifyonly-transact-sql
    """
    return [f"GRANT CREATE ANY DATABASE TO {quote_name(login.user)}"] if login.role == BACKUP else []


def grants_of_counters(exporter: str, loader: str, version: str) -> list[str]:
    """Grant the exporter the server's counters, in master, and revoke them from the loader.

    https://learn.microsoft.com/sql/relational-databases/system-dynamic-management-views/sys-dm-os-performance-counters-transact-sql
    """
    # The narrower permission is new in 2022; 2008 does not report its version.
    permission = f"VIEW SERVER {'PERFORMANCE ' if int(version or 0) >= _VERSION_2022 else ''}STATE"
    return [f"GRANT {permission} TO {quote_name(exporter)}", f"REVOKE {permission} FROM {quote_name(loader)}"]


GRANT_COUNTERS_IN_AZURE = f"GRANT VIEW DATABASE STATE TO {quote_name(EXPORTER)}"
"""The same in an Azure SQL Database, which has no permissions on its server; in the database."""


def _on(securable: str) -> str:
    return f" ON {securable}" if securable else ""


def _schema(name: str) -> str:
    return f"SCHEMA::{quote_name(name)}"


def _object(table: TableName) -> str:
    return f"OBJECT::{quote_table(table)}"
