"""FOREIGN KEY constraints, checked after each statement; without actions, as NO ACTION.

https://learn.microsoft.com/sql/relational-databases/tables/primary-and-foreign-key-constraints
"""

from collections.abc import Iterator

from dev.sandbox.sqlserver.engine.catalogue import ForeignKey, Table, quote
from dev.sandbox.sqlserver.errors import SqlError


def conflicts(table: Table, verb: str, database: str) -> Iterator[tuple[str, SqlError]]:
    """For each foreign key that a statement may break: a query that finds a row without its other, and error 547."""
    for key in table.foreign_keys:
        if verb != "DELETE" and key.of(table.schema, table.name):
            place, columns, kind = f"{key.to_schema}.{key.to_table}", key.to_columns, "FOREIGN KEY"
            yield _orphans(key), _error(key, verb, kind, f'"{database}", table "{place}"', columns)
        if verb != "INSERT" and key.to(table.schema, table.name):
            place, columns, kind = f"{key.schema}.{key.table}", key.columns, "REFERENCE"
            yield _orphans(key), _error(key, verb, kind, f'"{database}", table "{place}"', columns)


def check_candidate(key: ForeignKey, to: Table) -> None:
    """Raise SqlError 1776 unless a foreign key names the primary key of the table it refers to."""
    if {name.lower() for name in key.to_columns} != {name.lower() for name in to.key}:
        raise SqlError(
            1776,
            f"There are no primary or candidate keys in the referenced table '{to.full_name}' that match the"
            f" referencing column list in the foreign key '{key.name}'.",
        )


def _orphans(key: ForeignKey) -> str:
    pairs = [(f"c.{quote(a)}", f"p.{quote(b)}") for a, b in zip(key.columns, key.to_columns, strict=True)]
    given = " AND ".join(f"{child} IS NOT NULL" for child, _ in pairs)
    same = " AND ".join(f"{child} = {parent}" for child, parent in pairs)
    return (
        f"SELECT 1 FROM {quote(key.schema)}.{quote(key.table)} AS c WHERE {given} AND NOT EXISTS (SELECT 1 FROM"
        f" {quote(key.to_schema)}.{quote(key.to_table)} AS p WHERE {same}) LIMIT 1"
    )


def _error(key: ForeignKey, verb: str, kind: str, place: str, columns: tuple[str, ...]) -> SqlError:
    column = f", column '{columns[0]}'" if len(columns) == 1 else ""
    return SqlError(
        547,
        f'The {verb} statement conflicted with the {kind} constraint "{key.name}". The conflict occurred in database'
        f" {place}{column}.",
    )
