"""BACKUP and RESTORE: the database as a DuckDB file, without the server's own tables, such as logins.

A backup holds what was committed when it began. A database has to be taken offline before it is restored, because its
users are not tracked; the offline state is lost when the double ends. A restore that fails half-way leaves the database
in state RESTORING, in which only RESTORE is allowed.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb

from dev.sandbox.sqlserver.engine.catalogue import SCHEMA, quote
from dev.sandbox.sqlserver.engine.database import AZURE
from dev.sandbox.sqlserver.engine.principals import SERVER_GRANTS
from dev.sandbox.sqlserver.engine.security import outside_transaction, require_create_database
from dev.sandbox.sqlserver.engine.statements import BackupDatabase, RestoreDatabase, TakeOffline, VerifyBackup
from dev.sandbox.sqlserver.engine.store import Store
from dev.sandbox.sqlserver.engine.views import OF_SERVER
from dev.sandbox.sqlserver.errors import SqlError

_TABLES = (
    "SELECT schema_name, table_name, sql FROM duckdb_tables() WHERE database_name = $database"
    " ORDER BY schema_name, table_name"
)
_DATABASES = f"{quote(SCHEMA)}.DATABASES"


def take_offline(store: Store, statement: TakeOffline) -> None:
    """Disconnect all sessions, and refuse logins until the database is restored. Raises SqlError 5052."""
    store.principals.require_administrator()
    _existing(store, statement.database, "ALTER DATABASE")
    if _is_restoring(store):
        raise SqlError(5052, "ALTER DATABASE is not permitted while a database is in the Restoring state.")
    set_state(store, "OFFLINE")
    store.offline.set()


def set_state(store: Store, state: str) -> None:
    """Set the state of the database in sys.databases."""
    name = store.catalogue.own_database()
    store.write(
        lambda: store.run(
            f"UPDATE {_DATABASES} SET state_desc = $state WHERE name = $name", {"state": state, "name": name}
        )
    )


def backup_database(store: Store, statement: BackupDatabase) -> None:
    """Write the database to a new file. Raises SqlError 262 without permission, 3201 if that fails, 40510 in Azure."""
    refuse_in_azure(store, "BACKUP DATABASE")
    store.principals.require_on_database("BACKUP DATABASE", statement.database)
    name = _existing(store, statement.database, "BACKUP DATABASE")
    if Path(statement.path).exists():
        raise SqlError(50000, f"the SQL Server double adds no backup to an existing file: {statement.path}")
    try:
        with _attached(store, statement.path, "") as backup:
            store.run(f"COPY FROM DATABASE {quote(_own(store))} TO {quote(backup)}")
            for table in ("SQL_LOGINS", SERVER_GRANTS):
                store.run(f"DELETE FROM {quote(backup)}.{quote(SCHEMA)}.{table}")
            store.run(f"DELETE FROM {quote(backup)}.{quote(SCHEMA)}.DATABASES WHERE name <> $name", {"name": name})
    except BaseException:
        with suppress(OSError):
            Path(statement.path).unlink()
        raise


def verify_backup(store: Store, statement: VerifyBackup) -> None:
    """Read a whole backup. Raises SqlError 262 without permission, 3201 if there is none, 3241 if it is damaged."""
    require_create_database(store)
    path = Path(statement.path)
    if not path.is_file():
        raise _no_device(statement.path, "2(The system cannot find the file specified.)")
    try:
        # In a separate instance, as a damaged file may break it.
        with duckdb.connect(":memory:") as reader:
            reader.execute(f"ATTACH '{_escaped(path)}' AS backup (READ_ONLY)")
            tables = reader.execute(_TABLES, {"database": "backup"}).fetchall()
            for schema, table, _ in tables:
                reader.execute(f"SELECT bit_xor(hash(t)) FROM backup.{quote(schema)}.{quote(table)} AS t").fetchall()
    except duckdb.Error:
        tables = []
    if (SCHEMA, "SCHEMATA") not in [(schema, table) for schema, table, _ in tables]:
        raise SqlError(
            3241,
            f"The media family on device '{statement.path}' is incorrectly formed. SQL Server cannot process this"
            " media family.",
        )


def restore_database(store: Store, statement: RestoreDatabase) -> None:
    """Replace the database by a backup. Raises SqlError 3101 if it is in use, 3201 and 3241."""
    refuse_in_azure(store, "RESTORE DATABASE")
    store.principals.require_administrator()
    outside_transaction(store, "RESTORE DATABASE")
    there = store.catalogue.own_database()
    if there is not None and there.lower() != statement.database.lower():
        raise SqlError(50000, f"the SQL Server double keeps one database beside master, and has {there} already")
    if there is not None and not store.offline.is_set() and not _is_restoring(store):
        raise SqlError(3101, "Exclusive access could not be obtained because the database is in use.")
    verify_backup(store, VerifyBackup(statement.path))
    set_state(store, "RESTORING")
    with _attached(store, statement.path, " (READ_ONLY)") as backup:
        store.write(lambda: _replace(store, backup, there or statement.database))
    store.offline.clear()


def refuse_in_azure(store: Store, statement: str) -> None:
    """Raise SqlError 40510 if the double plays Azure SQL Database."""
    if store.edition == AZURE:
        raise SqlError(40510, f"Statement '{statement}' is not supported in this version of SQL Server.")


def _replace(store: Store, backup: str, name: str) -> None:
    """Replace all tables but the server's own by those of the backup; called in a transaction."""
    for schema, table, _ in store.run(_TABLES, {"database": _own(store)}).fetchall():
        if not _is_of_server(schema, table):
            store.run(f"DROP TABLE {quote(schema)}.{quote(table)}")
    for schema, table, sql in store.run(_TABLES, {"database": backup}).fetchall():
        if not _is_of_server(schema, table):
            place = f"{quote(schema)}.{quote(table)}"
            store.run(f"CREATE SCHEMA IF NOT EXISTS {quote(schema)}")
            store.run(sql)
            store.run(f"INSERT INTO {place} SELECT * FROM {quote(backup)}.{place}")
    store.run(
        f"INSERT OR REPLACE INTO {_DATABASES} SELECT * REPLACE ($name AS name, 'ONLINE' AS state_desc,"
        " 'MULTI_USER' AS user_access_desc, CAST(NULL AS UUID) AS replica_id)"
        f" FROM {quote(backup)}.{_DATABASES}",
        {"name": name},
    )
    store.catalogue.forget()


def _is_restoring(store: Store) -> bool:
    return bool(store.run(f"SELECT 1 FROM {_DATABASES} WHERE state_desc = 'RESTORING'").fetchall())


def _is_of_server(schema: str, table: str) -> bool:
    return schema == SCHEMA and table in (*OF_SERVER, SERVER_GRANTS)


def _existing(store: Store, name: str, verb: str) -> str:
    """The database's name as created. Raises SqlError 911 if there is none, 226 in a transaction."""
    outside_transaction(store, verb)
    found = store.catalogue.database_named(name)
    if found is None or found != store.catalogue.own_database():
        raise SqlError(911, f"Database '{name}' does not exist. Make sure that the name is entered correctly.")
    return found


def _own(store: Store) -> str:
    """Name of the attached database in DuckDB."""
    return str(store.run("SELECT current_database()").fetchall()[0][0])


@contextmanager
def _attached(store: Store, path: str, how: str) -> Iterator[str]:
    """Attach a file in DuckDB; yields its name there."""
    name = f"backup of {id(store)}"
    try:
        store.run(f"ATTACH '{_escaped(path)}' AS {quote(name)}{how}")
    except SqlError as error:
        raise _no_device(path, "5(Access is denied.)") from error
    try:
        yield name
    finally:
        store.run(f"DETACH {quote(name)}")


def _no_device(path: str, why: str) -> SqlError:
    return SqlError(3201, f"Cannot open backup device '{path}'. Operating system error {why}.")


def _escaped(path: str | Path) -> str:
    return str(path).replace("'", "''")
