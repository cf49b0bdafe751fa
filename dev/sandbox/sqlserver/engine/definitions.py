"""CREATE, DROP and TRUNCATE of tables and schemas: in DuckDB and in the catalogue."""

from dev.sandbox.sqlserver.engine import indexes
from dev.sandbox.sqlserver.engine.catalogue import SCHEMA, ForeignKey, Table, TableColumn, quote
from dev.sandbox.sqlserver.engine.constraints import check_candidate, conflicts
from dev.sandbox.sqlserver.engine.limits import check_table, checks
from dev.sandbox.sqlserver.engine.statements import (
    CreateSchema,
    CreateTable,
    CreateTrigger,
    DropSchema,
    DropTable,
    TruncateTable,
)
from dev.sandbox.sqlserver.engine.store import Store
from dev.sandbox.sqlserver.engine.table_locks import Mode
from dev.sandbox.sqlserver.errors import SqlError
from dev.sandbox.sqlserver.types import SqlType


def create_table(store: Store, statement: CreateTable) -> list[tuple[int, str]]:
    """Create a table; returns warnings with their numbers.

    Raises SqlError 2714 if it exists, 2760 without the schema, 262 without permission, and those of limits.
    """
    table = statement.table
    if not store.principals.allows("CREATE TABLE"):
        raise SqlError(262, f"CREATE TABLE permission denied in database '{store.catalogue.database}'.", 14)
    if store.catalogue.schema(table.schema) is None or not store.principals.allows("ALTER", table.schema):
        raise SqlError(
            2760,
            f'The specified schema name "{table.schema}" either does not exist or you do not have permission'
            " to use it.",
        )
    if store.catalogue.table(table.schema, table.name) is not None:
        raise SqlError(2714, f"There is already an object named '{table.name}' in the database.")

    warnings = check_table(table)

    def create() -> None:
        store.run(_ddl(table))
        store.catalogue.enter(table)
        indexes.enter_table(store, table)
        for key in statement.foreign_keys:
            enter_foreign_key(store, key)

    store.write(create)
    return warnings


def enter_foreign_key(store: Store, key: ForeignKey) -> None:
    """Add a foreign key, in a write. Raises SqlError 1767 without the other table, 1776, and 547 if rows break it."""
    to = store.catalogue.table(key.to_schema, key.to_table)
    if to is None:
        raise SqlError(1767, f"Foreign key '{key.name}' references invalid table '{key.to_schema}.{key.to_table}'.")
    check_candidate(key, to)
    store.catalogue.enter_foreign_key(key)
    table = store.catalogue.table(key.schema, key.table)
    assert table is not None  # it was just looked up, or created
    for query, error in conflicts(table, "ALTER TABLE", store.catalogue.database):
        if store.run(query).fetchall():
            raise error


def create_trigger(store: Store, statement: CreateTrigger) -> None:
    """Create a trigger on a table. Raises SqlError 8197 without the table or the permission."""
    schema = statement.table[-2] if len(statement.table) > 1 else "dbo"
    table = store.catalogue.table(schema, statement.table[-1])
    if table is None or not store.principals.allows("ALTER", table.schema, table.name):
        name = ".".join(statement.table)
        raise SqlError(8197, f"The object '{name}' does not exist or is invalid for this operation.")
    store.write(lambda: store.catalogue.enter_trigger(statement.name, table, statement.trigger))


def drop_table(store: Store, statement: DropTable) -> None:
    """Drop a table. Raises SqlError 3701 without the table, unless IF EXISTS, or without permission."""
    store.lock_tables({f"{statement.schema}.{statement.name}".lower(): Mode.SCHEMA_MODIFICATION})
    table = store.catalogue.table(statement.schema, statement.name)
    if table is None and statement.if_exists:
        return
    if table is None or not store.principals.allows("ALTER", table.schema):
        raise SqlError(
            3701,
            f"Cannot drop the table '{statement.schema}.{statement.name}', because it does not exist or you do"
            " not have permission.",
            11,
        )

    if any(key.to(table.schema, table.name) and not key.of(table.schema, table.name) for key in table.foreign_keys):
        raise SqlError(
            3726,
            f"Could not drop object '{table.full_name}' because it is referenced by a FOREIGN KEY constraint.",
        )

    def drop() -> None:
        store.run(f"DROP TABLE {table.sql}")
        store.catalogue.remove(table)
        store.catalogue.remove_foreign_keys(table)
        indexes.remove_table(store, table)

    store.write(drop)


def truncate_table(store: Store, statement: TruncateTable) -> None:
    """Delete all rows of a table. Raises SqlError 1088 without permission."""
    table = statement.table
    if not store.principals.allows("ALTER", table.schema, table.name):
        raise SqlError(
            1088, f'Cannot find the object "{table.name}" because it does not exist or you do not have permissions.'
        )
    if any(key.to(table.schema, table.name) for key in table.foreign_keys):
        raise SqlError(
            4712,
            f"Cannot truncate table '{table.full_name}' because it is being referenced by a FOREIGN KEY constraint.",
        )
    store.lock_tables({table.full_name.lower(): Mode.SCHEMA_MODIFICATION})
    store.write(lambda: store.run(f"DELETE FROM {table.sql}"))


def create_schema(store: Store, statement: CreateSchema) -> None:
    """Create a schema. Raises SqlError 2714 if it exists, 262 without permission."""
    if not store.principals.is_administrator:
        raise SqlError(262, f"CREATE SCHEMA permission denied in database '{store.catalogue.database}'.", 14)
    if store.catalogue.schema(statement.name) is not None:
        raise SqlError(2714, f"There is already an object named '{statement.name}' in the database.")

    def create() -> None:
        store.run(f"CREATE SCHEMA {quote(statement.name)}")
        row = {"name": statement.name, "owner": statement.owner}
        store.run(f'INSERT INTO "{SCHEMA}"."SCHEMATA" VALUES ($name, $owner)', row)

    store.write(create)


def drop_schema(store: Store, statement: DropSchema) -> None:
    """Drop a schema. Raises SqlError 3729 if it has tables, 15151 if it does not exist."""
    name = store.catalogue.schema(statement.name)
    if name is None and statement.if_exists:
        return
    if name is None or not store.principals.is_administrator:
        raise SqlError(
            15151,
            f"Cannot drop the schema '{statement.name}', because it does not exist or you do not have permission.",
        )
    if store.catalogue.has_tables(name):
        raise SqlError(3729, f"Cannot drop schema '{name}' because it is being referenced by an object.")

    def drop() -> None:
        store.run(f"DROP SCHEMA {quote(name)}")
        store.run(f'DELETE FROM "{SCHEMA}"."SCHEMATA" WHERE SCHEMA_NAME = $name', {"name": name})

    store.write(drop)


def _ddl(table: Table) -> str:
    lines = [_column(column) for column in table.columns]
    if table.key:
        lines.append(f"PRIMARY KEY ({', '.join(map(quote, table.key))})")
    lines += [f"CHECK ({check})" for check in checks(table)]
    return f"CREATE TABLE {table.sql} ({', '.join(lines)})"


def _column(column: TableColumn) -> str:
    words = f"{quote(column.name)} {stored_as(column.type)}"
    if column.computed:
        return f"{words} GENERATED ALWAYS AS (CAST({column.computed} AS {column.type.duckdb})) VIRTUAL"
    return words if column.nullable else f"{words} NOT NULL"


def stored_as(declared: SqlType) -> str:
    """Type and collation of a column in DuckDB."""
    return declared.duckdb + (" COLLATE NOCASE" if declared.ignores_case else "")
