"""Catalogue: databases, schemas and tables as SQL Server describes them, stored in DuckDB beside the data.

Its entries are rows of the database, and so part of its transactions and of its file.
"""

from dataclasses import dataclass
from typing import Any, Protocol
from zlib import crc32

from dev.sandbox.sqlserver.types import SqlType, parse_type

SCHEMA = "stand-in catalogue"
MASTER = "master"
"""The system database: it can be logged in to, and holds no tables."""
COUNTERS = "DM_OS_PERFORMANCE_COUNTERS"
"""The view of performance counters. Their values are constant."""
SYS_COLUMNS = "columns of sys"
"""Name of sys.columns in DuckDB: INFORMATION_SCHEMA has a COLUMNS, too."""
_STATEMENTS = f"""
CREATE SCHEMA IF NOT EXISTS "{SCHEMA}";
CREATE SCHEMA IF NOT EXISTS dbo;
CREATE TABLE IF NOT EXISTS "{SCHEMA}"."DATABASES" (
    name VARCHAR COLLATE NOCASE PRIMARY KEY, is_read_committed_snapshot_on BOOLEAN, state_desc VARCHAR,
    user_access_desc VARCHAR, replica_id UUID, is_auto_close_on BOOLEAN, recovery_model_desc VARCHAR);
INSERT OR IGNORE INTO "{SCHEMA}"."DATABASES"
VALUES ('{MASTER}', false, 'ONLINE', 'MULTI_USER', NULL, false, 'SIMPLE');
UPDATE "{SCHEMA}"."DATABASES" SET state_desc = 'ONLINE' WHERE state_desc IN ('OFFLINE', 'RECOVERING');
CREATE OR REPLACE VIEW "{SCHEMA}"."DATABASE_FILES" AS
SELECT 'ROWS' AS type_desc, CAST(total_blocks * block_size / 8192 AS INTEGER) AS size FROM pragma_database_size()
UNION ALL SELECT 'LOG', 0;
CREATE OR REPLACE VIEW "{SCHEMA}"."{COUNTERS}" AS
SELECT 'User Connections' AS counter_name, '' AS instance_name, CAST(1 AS BIGINT) AS cntr_value
UNION ALL SELECT 'Transactions', name, 0 FROM "{SCHEMA}"."DATABASES"
UNION ALL SELECT unnest(['Number of Deadlocks/sec', 'Lock Waits/sec']), '_Total', 0;
CREATE TABLE IF NOT EXISTS "{SCHEMA}"."SCHEMATA" (
    SCHEMA_NAME VARCHAR COLLATE NOCASE PRIMARY KEY, SCHEMA_OWNER VARCHAR COLLATE NOCASE);
INSERT OR IGNORE INTO "{SCHEMA}"."SCHEMATA" VALUES ('dbo', 'dbo');
CREATE TABLE IF NOT EXISTS "{SCHEMA}"."TABLES" (
    TABLE_CATALOG VARCHAR, TABLE_SCHEMA VARCHAR COLLATE NOCASE, TABLE_NAME VARCHAR COLLATE NOCASE,
    TABLE_TYPE VARCHAR, key_name VARCHAR, key_columns VARCHAR[]);
CREATE TABLE IF NOT EXISTS "{SCHEMA}".triggers (
    name VARCHAR COLLATE NOCASE, table_schema VARCHAR COLLATE NOCASE, table_name VARCHAR COLLATE NOCASE,
    verbs VARCHAR[], body VARCHAR);
CREATE TABLE IF NOT EXISTS "{SCHEMA}"."FOREIGN_KEYS" (
    name VARCHAR COLLATE NOCASE, object_id INTEGER, parent_object_id INTEGER, referenced_object_id INTEGER,
    is_disabled BOOLEAN, table_schema VARCHAR COLLATE NOCASE, table_name VARCHAR COLLATE NOCASE, columns VARCHAR[],
    to_schema VARCHAR COLLATE NOCASE, to_table VARCHAR COLLATE NOCASE, to_columns VARCHAR[]);
CREATE TABLE IF NOT EXISTS "{SCHEMA}"."COLUMNS" (
    TABLE_CATALOG VARCHAR, TABLE_SCHEMA VARCHAR COLLATE NOCASE, TABLE_NAME VARCHAR COLLATE NOCASE,
    COLUMN_NAME VARCHAR COLLATE NOCASE, ORDINAL_POSITION INTEGER, COLUMN_DEFAULT VARCHAR, IS_NULLABLE VARCHAR,
    DATA_TYPE VARCHAR COLLATE NOCASE, CHARACTER_MAXIMUM_LENGTH INTEGER, NUMERIC_PRECISION UTINYINT,
    NUMERIC_SCALE INTEGER, DATETIME_PRECISION SMALLINT, COLLATION_NAME VARCHAR, declared VARCHAR,
    object_id INTEGER, is_identity BOOLEAN, computed VARCHAR);
CREATE OR REPLACE VIEW "{SCHEMA}"."{SYS_COLUMNS}" AS
SELECT object_id, COLUMN_NAME AS name, is_identity, computed <> '' AS is_computed, 0 AS generated_always_type,
    CASE WHEN COLUMN_DEFAULT IS NULL THEN 0 ELSE 1 END AS default_object_id,
    ORDINAL_POSITION AS column_id, IS_NULLABLE = 'YES' AS is_nullable
FROM "{SCHEMA}"."COLUMNS";
"""


class Connection(Protocol):
    """The part of a DuckDB connection that is used here."""

    def execute(self, query: str, parameters: object = None, /) -> Any:
        """Run a statement."""


@dataclass(frozen=True)
class TableColumn:
    """A column as it was declared; `default` is its T-SQL expression, `computed` DuckDB's, empty for none."""

    name: str
    type: SqlType
    nullable: bool = True
    default: str = ""
    identity: bool = False
    computed: str = ""


@dataclass(frozen=True)
class Trigger:
    """T-SQL that runs after statements of these verbs."""

    verbs: tuple[str, ...]
    body: str


@dataclass(frozen=True)
class Index:
    """A non-unique index; columns in index order."""

    name: str
    columns: tuple[str, ...]


@dataclass(frozen=True)
class ForeignKey:
    """Columns of a table, and the columns of another that must have their values."""

    name: str
    schema: str
    table: str
    columns: tuple[str, ...]
    to_schema: str
    to_table: str
    to_columns: tuple[str, ...]

    def of(self, schema: str, table: str) -> bool:
        """Whether it constrains a table."""
        return (self.schema.lower(), self.table.lower()) == (schema.lower(), table.lower())

    def to(self, schema: str, table: str) -> bool:
        """Whether it refers to a table."""
        return (self.to_schema.lower(), self.to_table.lower()) == (schema.lower(), table.lower())


@dataclass(frozen=True)
class Table:
    """A table as it was declared; without a key, `key_name` is empty. `indexes` are those of its declaration alone.

    `foreign_keys` are its own and those that refer to it.
    """

    schema: str
    name: str
    columns: tuple[TableColumn, ...]
    key_name: str = ""
    key: tuple[str, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    indexes: tuple[Index, ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()

    @property
    def full_name(self) -> str:
        """The name in SQL Server's messages."""
        return f"{self.schema}.{self.name}"

    @property
    def sql(self) -> str:
        """The name, quoted for DuckDB."""
        return f"{quote(self.schema)}.{quote(self.name)}"

    def column(self, name: str) -> TableColumn | None:
        """The column of a name, case-insensitive."""
        return next((column for column in self.columns if column.name.lower() == name.lower()), None)


class Changes:
    """Counter of tables created and dropped by all sessions: a session's cache is valid until it changes."""

    def __init__(self) -> None:
        self.count = 0


class Catalogue:
    """Databases, schemas and tables as one session sees and changes them; `database`: its current one."""

    def __init__(self, connection: Connection, changes: Changes) -> None:
        self._connection = connection
        self._changes = changes
        self._changing = False
        self._known: dict[tuple[str, str], Table] = {}
        self._known_at = -1
        self.database = MASTER

    @property
    def in_master(self) -> bool:
        """Whether the current database is master, which has no tables."""
        return self.database == MASTER

    def database_named(self, name: str) -> str | None:
        """A database's name as created."""
        found = self._connection.execute(f'SELECT name FROM "{SCHEMA}"."DATABASES" WHERE name = ?', [name]).fetchone()
        return None if found is None else str(found[0])

    def is_online(self, database: str) -> bool:
        """Whether sys.databases shows a database as online."""
        query = f'SELECT 1 FROM "{SCHEMA}"."DATABASES" WHERE name = ? AND state_desc = \'ONLINE\''
        return self._connection.execute(query, [database]).fetchone() is not None

    def reads_snapshots(self) -> bool:
        """Whether READ_COMMITTED_SNAPSHOT is on in the current database: then reads do not wait for writes."""
        query = f'SELECT is_read_committed_snapshot_on FROM "{SCHEMA}"."DATABASES" WHERE name = ?'
        found = self._connection.execute(query, [self.database]).fetchone()
        return found is not None and bool(found[0])

    def own_database(self) -> str | None:
        """Name of the database beside master; None before it is created."""
        query = f'SELECT name FROM "{SCHEMA}"."DATABASES" WHERE name <> ?'
        found = self._connection.execute(query, [MASTER]).fetchone()
        return None if found is None else str(found[0])

    def create_database(self, name: str) -> None:
        """Add the database, with the least favourable options that `model` and Express may have."""
        self._connection.execute(
            f"INSERT INTO \"{SCHEMA}\".\"DATABASES\" VALUES (?, false, 'ONLINE', 'MULTI_USER', NULL, true, 'FULL')",
            [name],
        )

    def table(self, schema: str, name: str) -> Table | None:
        """The table of a name, case-insensitive."""
        if self.in_master:
            return None
        # Looking it up for each of many small INSERTs takes longer than these.
        if self._known_at != self._changes.count:
            self._known_at = self._changes.count
            self._known.clear()
        key = (schema.lower(), name.lower())
        if key not in self._known:
            found = self._look_up(schema, name)
            if found is None:
                return None
            self._known[key] = found
        return self._known[key]

    def _look_up(self, schema: str, name: str) -> Table | None:
        found = self._connection.execute(
            f'SELECT TABLE_SCHEMA, TABLE_NAME, key_name, key_columns FROM "{SCHEMA}"."TABLES"'
            " WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?",
            [schema, name],
        ).fetchone()
        if found is None:
            return None
        columns = self._connection.execute(
            "SELECT COLUMN_NAME, declared, IS_NULLABLE = 'YES', coalesce(COLUMN_DEFAULT, ''),"
            f' coalesce(COLLATION_NAME, \'\'), is_identity, computed FROM "{SCHEMA}"."COLUMNS"'
            " WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? ORDER BY ORDINAL_POSITION",
            [schema, name],
        ).fetchall()
        triggers = self._connection.execute(
            f'SELECT verbs, body FROM "{SCHEMA}".triggers WHERE table_schema = ? AND table_name = ? ORDER BY name',
            [schema, name],
        ).fetchall()
        return Table(
            *(found[0], found[1], tuple(_column(*row) for row in columns), found[2], tuple(found[3])),
            tuple(Trigger(tuple(verbs), body) for verbs, body in triggers),
            foreign_keys=self._foreign_keys(schema, name),
        )

    def _foreign_keys(self, schema: str, name: str) -> tuple[ForeignKey, ...]:
        found = self._connection.execute(
            "SELECT name, table_schema, table_name, columns, to_schema, to_table, to_columns"
            f' FROM "{SCHEMA}"."FOREIGN_KEYS" WHERE (table_schema = $s AND table_name = $t)'
            " OR (to_schema = $s AND to_table = $t)",
            {"s": schema, "t": name},
        ).fetchall()
        return tuple(ForeignKey(row[0], row[1], row[2], tuple(row[3]), row[4], row[5], tuple(row[6])) for row in found)

    def enter_foreign_key(self, key: ForeignKey) -> None:
        """Add a foreign key."""
        self._change()
        ids = (
            object_id(name)
            for name in (f"{key.schema}.{key.name}", f"{key.schema}.{key.table}", f"{key.to_schema}.{key.to_table}")
        )
        self._connection.execute(
            f'INSERT INTO "{SCHEMA}"."FOREIGN_KEYS" VALUES (?, ?, ?, ?, false, ?, ?, ?, ?, ?, ?)',
            [
                key.name,
                *ids,
                key.schema,
                key.table,
                list(key.columns),
                key.to_schema,
                key.to_table,
                list(key.to_columns),
            ],
        )

    def remove_foreign_keys(self, table: Table, name: str | None = None) -> None:
        """Remove a foreign key of a table; all without a name."""
        self._change()
        self._connection.execute(
            f'DELETE FROM "{SCHEMA}"."FOREIGN_KEYS" WHERE table_schema = $s AND table_name = $t'
            " AND ($n IS NULL OR name = $n)",
            {"s": table.schema, "t": table.name, "n": name},
        )

    def schema(self, name: str) -> str | None:
        """A schema's name as created."""
        if self.in_master:
            return None
        query = f'SELECT SCHEMA_NAME FROM "{SCHEMA}"."SCHEMATA" WHERE SCHEMA_NAME = ?'
        found = self._connection.execute(query, [name]).fetchone()
        return None if found is None else str(found[0])

    def has_tables(self, schema: str) -> bool:
        """Whether there is a table in a schema."""
        query = f'SELECT 1 FROM "{SCHEMA}"."TABLES" WHERE TABLE_SCHEMA = ? LIMIT 1'
        return self._connection.execute(query, [schema]).fetchone() is not None

    def enter(self, table: Table) -> None:
        """Add a table."""
        self._change()
        where = [self.database, table.schema, table.name]
        self._connection.execute(
            f'INSERT INTO "{SCHEMA}"."TABLES" VALUES (?, ?, ?, \'BASE TABLE\', ?, ?)',
            [*where, table.key_name, list(table.key)],
        )
        self._enter_columns(table)

    def enter_columns(self, table: Table) -> None:
        """Describe the columns of a table anew."""
        self._change()
        self._connection.execute(
            f'DELETE FROM "{SCHEMA}"."COLUMNS" WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?', [table.schema, table.name]
        )
        self._enter_columns(table)

    def _enter_columns(self, table: Table) -> None:
        where = [self.database, table.schema, table.name]
        for position, column in enumerate(table.columns, 1):
            self._connection.execute(
                f'INSERT INTO "{SCHEMA}"."COLUMNS" VALUES ({", ".join("?" * 17)})',
                [*where, column.name, position, column.default or None, "YES" if column.nullable else "NO",
                 column.type.name, *column.type.described, column.type.collation or None, column.type.declared,
                 object_id(table.full_name), column.identity, column.computed],
            )  # fmt: skip

    def remove(self, table: Table) -> None:
        """Remove a table."""
        self._change()
        for catalogue in ("TABLES", "COLUMNS", "triggers"):
            self._connection.execute(
                f'DELETE FROM "{SCHEMA}".{quote(catalogue)} WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?',
                [table.schema, table.name],
            )

    def enter_trigger(self, name: str, table: Table, trigger: Trigger) -> None:
        """Add a trigger."""
        self._change()
        self._connection.execute(
            f'INSERT INTO "{SCHEMA}".triggers VALUES (?, ?, ?, ?, ?)',
            [name, table.schema, table.name, list(trigger.verbs), trigger.body],
        )

    def forget(self) -> None:
        """Invalidate the cache of tables."""
        self._change()

    def settle(self) -> None:
        """Invalidate the other sessions' caches, after a commit or rollback."""
        if self._changing:
            self._changing = False
            self._changes.count += 1

    def _change(self) -> None:
        self._changing = True
        self._changes.count += 1


def create_catalogue(connection: Connection) -> None:
    """Create the catalogue's tables and views if they are missing."""
    connection.execute(_STATEMENTS)


def object_id(name: str) -> int:
    """Id of a table or schema, derived from its name."""
    return crc32(name.lower().encode()) & 0x7FFF_FFFF


def quote(name: str) -> str:
    """An identifier, quoted for DuckDB."""
    return '"' + name.replace('"', '""') + '"'


def _column(
    name: str, declared: str, nullable: bool, default: str, collation: str, identity: bool, computed: str
) -> TableColumn:
    declared_type = parse_type(declared)
    assert declared_type is not None  # it was written by `add`
    return TableColumn(name, declared_type.collated(collation), nullable, default, identity, computed)
