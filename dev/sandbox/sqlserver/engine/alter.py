"""ALTER TABLE: in DuckDB and in the catalogue.

https://learn.microsoft.com/sql/t-sql/statements/alter-table-transact-sql
"""

from dataclasses import replace

from dev.sandbox.sqlserver.engine.catalogue import Table, TableColumn, quote
from dev.sandbox.sqlserver.engine.definitions import enter_foreign_key, stored_as
from dev.sandbox.sqlserver.engine.limits import check_table
from dev.sandbox.sqlserver.engine.statements import AddColumns, AddForeignKey, AlterColumn, DropConstraint
from dev.sandbox.sqlserver.engine.store import Store
from dev.sandbox.sqlserver.engine.table_locks import Mode
from dev.sandbox.sqlserver.errors import SqlError, null_not_allowed


def add_columns(store: Store, statement: AddColumns) -> None:
    """Add columns behind those that the table has.

    Rows that are there get the default of a column that is NOT NULL, and NULL in one that is not. Raises SqlError 4902,
    2705, and 4901 for a column that can have neither.
    """
    table = _table(store, statement.table)
    for column in statement.columns:
        _check_new(store, table, column)
        table = replace(table, columns=(*table.columns, column))
    check_table(table)

    def add() -> None:
        for column in statement.columns:
            filled = statement.filled.get(column.name)
            default = f" DEFAULT {filled}" if filled else ""
            store.run(f"ALTER TABLE {table.sql} ADD COLUMN {quote(column.name)} {stored_as(column.type)}{default}")
            if not column.nullable:
                store.run(f"ALTER TABLE {table.sql} ALTER COLUMN {quote(column.name)} SET NOT NULL")
            if filled:  # the catalogue knows the default, and INSERT applies it
                store.run(f"ALTER TABLE {table.sql} ALTER COLUMN {quote(column.name)} DROP DEFAULT")
        store.catalogue.enter_columns(table)

    store.write(add)


def alter_column(store: Store, statement: AlterColumn) -> None:
    """Give a column another type, or another nullability.

    Raises SqlError 4902, 4924, 5074 for a column of the key, and the errors of values that do not fit.
    """
    table, to = _table(store, statement.table), statement.column
    column = table.column(to.name)
    if column is None:
        raise SqlError(
            4924,
            f"ALTER TABLE ALTER COLUMN failed because column '{to.name}' does not exist in table '{table.name}'.",
        )
    if column.name in table.key:
        raise SqlError(5074, f"The object '{table.key_name}' is dependent on column '{column.name}'.")
    if column.default and to.type.name != column.type.name:
        raise SqlError(5074, f"The object 'DF__{table.name}__{column.name}' is dependent on column '{column.name}'.")
    new = replace(to, name=column.name, default=column.default)
    altered = replace(table, columns=tuple(new if each is column else each for each in table.columns))
    check_table(altered)
    name, full_name = quote(column.name), f"{store.catalogue.database}.{table.full_name}"

    def alter() -> None:
        if not new.nullable and store.run(f"SELECT 1 FROM {table.sql} WHERE {name} IS NULL LIMIT 1").fetchall():
            raise null_not_allowed(column.name, full_name, "UPDATE")
        store.run(f"ALTER TABLE {table.sql} ALTER COLUMN {name} TYPE {stored_as(new.type)} USING {statement.value}")
        if new.nullable != column.nullable:
            store.run(f"ALTER TABLE {table.sql} ALTER COLUMN {name} {'DROP' if new.nullable else 'SET'} NOT NULL")
        store.catalogue.enter_columns(altered)

    store.write(alter)


def add_foreign_key(store: Store, statement: AddForeignKey) -> None:
    """Add a foreign key to a table. Raises SqlError 4902, and those of `enter_foreign_key`."""
    key = statement.key
    _table(store, [key.schema, key.table])
    store.write(lambda: enter_foreign_key(store, key))


def drop_constraint(store: Store, statement: DropConstraint) -> None:
    """Drop a foreign key of a table. Raises SqlError 4902, and 3728 if it has none of that name."""
    table = _table(store, statement.table)
    own = (key for key in table.foreign_keys if key.of(table.schema, table.name))
    if not any(key.name.lower() == statement.name.lower() for key in own):
        raise SqlError(3728, f"'{statement.name}' is not a constraint.")
    store.write(lambda: store.catalogue.remove_foreign_keys(table, statement.name))


def _table(store: Store, parts: list[str]) -> Table:
    schema = parts[-2] if len(parts) > 1 else "dbo"
    store.lock_tables({f"{schema}.{parts[-1]}".lower(): Mode.SCHEMA_MODIFICATION})
    table = store.catalogue.table(schema, parts[-1])
    if table is None or not store.principals.allows("ALTER", table.schema, table.name):
        raise SqlError(
            4902,
            f'Cannot find the object "{".".join(parts)}" because it does not exist or you do not have permissions.',
        )
    return table


def _check_new(store: Store, table: Table, column: TableColumn) -> None:
    if table.column(column.name) is not None:
        raise SqlError(
            2705,
            f"Column names in each table must be unique. Column name '{column.name}' in table '{table.full_name}' is"
            " specified more than once.",
        )
    if column.identity or column.computed:
        raise SqlError(50000, "the SQL Server double adds no identity columns and no computed ones")
    if column.nullable or column.default:
        return
    if store.run(f"SELECT 1 FROM {table.sql} LIMIT 1").fetchall():
        raise SqlError(
            4901,
            "ALTER TABLE only allows columns to be added that can contain nulls, or have a DEFAULT definition"
            " specified, or the column being added is an identity or timestamp column, or alternatively if none of the"
            " previous conditions are satisfied the table must be empty to allow addition of this column. Column"
            f" '{column.name}' cannot be added to non-empty table '{table.name}' because it does not satisfy these"
            " conditions.",
        )
