"""CREATE, DROP and TRUNCATE of tables and schemas: in DuckDB and in the catalogue."""

from .catalogue import SCHEMA, Table, quote
from .errors import SqlError
from .sqltypes import SqlType
from .statements import CreateSchema, CreateTable, DropSchema, DropTable, TruncateTable
from .store import Store


def create_table(store: Store, statement: CreateTable) -> None:
    """Create a table. Raises SqlError 2714 where there is one, 2760 where there is no such schema, 262 who may not."""
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

    def create() -> None:
        store.run(_ddl(table))
        store.catalogue.enter(table)

    store.write(create)


def drop_table(store: Store, statement: DropTable) -> None:
    """Drop a table. Raises SqlError 3701 where there is none, unless that may be, and who may not."""
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

    def drop() -> None:
        store.run(f"DROP TABLE {table.sql}")
        store.catalogue.remove(table)

    store.write(drop)


def truncate_table(store: Store, statement: TruncateTable) -> None:
    """Delete all rows of a table. Raises SqlError 1088 who may not."""
    table = statement.table
    if not store.principals.allows("ALTER", table.schema, table.name):
        raise SqlError(
            1088, f'Cannot find the object "{table.name}" because it does not exist or you do not have permissions.'
        )
    store.write(lambda: store.run(f"DELETE FROM {table.sql}"))


def create_schema(store: Store, statement: CreateSchema) -> None:
    """Create a schema. Raises SqlError 2714 where there is one, 262 who may not."""
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
    """Drop a schema. Raises SqlError 3729 where it has tables, 15151 where there is none."""
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
    lines = [f"{quote(c.name)} {_stored_as(c.type)}{'' if c.nullable else ' NOT NULL'}" for c in table.columns]
    if table.key:
        lines.append(f"PRIMARY KEY ({', '.join(map(quote, table.key))})")
    return f"CREATE TABLE {table.sql} ({', '.join(lines)})"


def _stored_as(declared: SqlType) -> str:
    return declared.duckdb + (" COLLATE NOCASE" if declared.ignores_case else "")
