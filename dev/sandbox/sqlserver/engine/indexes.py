"""Indexes, listed in sys.indexes and sys.index_columns only: DuckDB does not use them."""

from dev.sandbox.sqlserver.engine.catalogue import SCHEMA, Index, Table, object_id
from dev.sandbox.sqlserver.engine.statements import CreateIndex
from dev.sandbox.sqlserver.engine.store import Store
from dev.sandbox.sqlserver.errors import SqlError

_HEAP, _CLUSTERED, _NONCLUSTERED = 0, 1, 2
"""Types of indexes; the first two are also their index_id, as a table has only one of them."""


def enter_table(store: Store, table: Table) -> None:
    """Add the key of a new table and the indexes of its declaration; called in a write."""
    _enter(store, table, _CLUSTERED if table.key else _HEAP, Index(table.key_name, table.key))
    for number, index in enumerate(table.indexes, _NONCLUSTERED):
        check_columns(table, index)
        _enter(store, table, number, index)


def remove_table(store: Store, table: Table) -> None:
    """Remove the indexes of a dropped table; called in a write."""
    for kept in ("INDEXES", "INDEX_COLUMNS"):
        store.run(f'DELETE FROM "{SCHEMA}"."{kept}" WHERE object_id = $o', {"o": object_id(table.full_name)})


def create_index(store: Store, statement: CreateIndex) -> None:
    """Add an index. Raises SqlError 1088 without the table or the permission; 1911 and 1913."""
    table = store.catalogue.table(statement.schema, statement.table)
    if table is None or not store.principals.allows("ALTER", table.schema, table.name):
        raise SqlError(
            1088,
            f'Cannot find the object "{statement.schema}.{statement.table}" because it does not exist or you do not'
            " have permissions.",
        )
    check_columns(table, statement.index)
    query = f'SELECT index_id, name = $n FROM "{SCHEMA}"."INDEXES" WHERE object_id = $o'
    there = store.run(query, {"o": object_id(table.full_name), "n": statement.index.name}).fetchall()
    if any(is_same for _, is_same in there):
        raise SqlError(
            1913,
            f"The operation failed because an index or statistics with name '{statement.index.name}' already exists on"
            f" table '{table.full_name}'.",
        )
    number = max([_CLUSTERED, *(number for number, _ in there)]) + 1
    store.write(lambda: _enter(store, table, number, statement.index))


def check_columns(table: Table, index: Index) -> None:
    """Raise SqlError 1911 if an index names a column that its table lacks."""
    for name in index.columns:
        if table.column(name) is None:
            raise SqlError(1911, f"Column name '{name}' does not exist in the target table or view.")


def _enter(store: Store, table: Table, number: int, index: Index) -> None:
    row = {"o": object_id(table.full_name), "i": number, "unique": number == _CLUSTERED}
    store.run(
        f'INSERT INTO "{SCHEMA}"."INDEXES" VALUES ($o, $n, $i, $kind, $unique, $unique, false, false, false)',
        {**row, "n": index.name or None, "kind": min(number, _NONCLUSTERED)},
    )
    places = {column.name.lower(): place for place, column in enumerate(table.columns, 1)}
    for ordinal, name in enumerate(index.columns, 1):
        store.run(
            f'INSERT INTO "{SCHEMA}"."INDEX_COLUMNS" VALUES ($o, $i, $c, $ordinal)',
            {"o": row["o"], "i": number, "c": places[name.lower()], "ordinal": ordinal},
        )
