"""Rows made and changed at random, as far as the constraints of a schema allow it: what they refuse is tried again."""

from collections import Counter
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import psycopg

from tests.harness.schemas.described import Table, described
from tests.harness.schemas.random_values import SHORT, random_value
from tests.harness.tables import quoted

ROWS, TRIES_OF_A_ROW = 30, 20
TRIES_OF_A_CHANGE = 50
Statement = tuple[str, list[Any]]


def fill(url: str, seed: int) -> int:
    """Insert rows into the tables that have none, referred ones first; returns how many."""
    chance, made = Random(seed), 0
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"SELECT setseed({seed / 100})".encode())
        left = [table for table in described(connection) if is_empty(connection, table)]
        while left:
            filled = [table for table in left if (count := _fill(connection, table, chance)) and (made := made + count)]
            if not filled:
                break
            left = [table for table in left if table not in filled]
        refresh(connection)
    return made


def change(url: str, versions: Mapping[tuple[str, str], str | None], changes: int, seed: int) -> Counter[str]:
    """Change so many rows at random; returns how many by kind, fewer if the schema refuses nearly everything.

    `versions`: the tables, and of each the column that shows changes, which its trigger or its default sets.
    """
    chance, done = Random(seed), Counter[str]()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"SELECT setseed({seed / 100})".encode())
        tables = [table for table in described(connection) if (table.schema, table.plain) in versions]
        for _ in range(changes * TRIES_OF_A_CHANGE if tables else 0):
            if done.total() >= changes:
                break
            table = chance.choice(tables)
            kind, statement = chance.choice(_KINDS)
            done[kind] += attempt(connection, statement(connection, table, versions[table.schema, table.plain], chance))
        refresh(connection)
    return +done


def attempt(connection: "psycopg.Connection[Any]", statement: Statement | None) -> int:
    """Rows that a statement changes; 0 if a constraint or a type refuses it."""
    if statement is None:
        return 0
    try:
        return max(connection.execute(statement[0].encode(), statement[1] or None).rowcount, 0)
    except psycopg.Error:
        return 0


def is_empty(connection: "psycopg.Connection[Any]", table: Table) -> bool:
    return not connection.execute(f"SELECT FROM {table.name} LIMIT 1".encode()).fetchall()


def refresh(connection: "psycopg.Connection[Any]") -> None:
    """Refresh the materialized views, in the order in which they were created."""
    names = "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'm' ORDER BY oid"
    for (name,) in connection.execute(names.encode()).fetchall():
        connection.execute(f"REFRESH MATERIALIZED VIEW {name}".encode())


def _fill(connection: "psycopg.Connection[Any]", table: Table, chance: Random) -> int:
    count = 0
    for _ in range(ROWS * TRIES_OF_A_ROW):
        count += attempt(connection, _new_row(connection, table, None, chance))
        if count >= ROWS:
            break
    return count


def _new_row(
    connection: "psycopg.Connection[Any]", table: Table, version: str | None, chance: Random
) -> Statement | None:
    values: dict[str, str | None] = {}
    for key in table.foreign_keys:
        columns = ", ".join(f"{quoted(name)}::text" for name in key.referred)
        query = f"SELECT {columns} FROM {key.table} ORDER BY random() LIMIT 1"
        (row,) = connection.execute(query.encode()).fetchall() or [[None] * len(key.columns)]
        values |= dict(zip(key.columns, row, strict=True))
    for column in table.columns:
        if column.name in values or column.name == version or (column.has_default and chance.random() < 0.7):
            continue
        values[column.name] = random_value(column, chance, column.name in table.unique)
    if not values:
        return f"INSERT INTO {table.name} DEFAULT VALUES", []
    names = ", ".join(map(quoted, values))
    return f"INSERT INTO {table.name} ({names}) VALUES ({', '.join(['%s'] * len(values))})", list(values.values())


def _one_row(table: Table) -> str:
    return f"(tableoid, ctid) = (SELECT tableoid, ctid FROM {table.name} ORDER BY random() LIMIT 1)"


def _update(
    connection: "psycopg.Connection[Any]", table: Table, version: str | None, chance: Random
) -> Statement | None:
    """A column outside of all keys gets a value made at random, or the one that another row has."""
    columns = [column for column in table.columns if column.name not in (*table.unique, version)]
    if not columns:
        return None
    column = chance.choice(columns)
    name = quoted(column.name)
    other = f"(SELECT {name} FROM {table.name} ORDER BY random() LIMIT 1)"
    value, parameters = (other, []) if chance.random() < 0.5 else ("%s", [random_value(column, chance, False)])
    return f"UPDATE {table.name} SET {name} = {value} WHERE {_one_row(table)}", parameters


def _insert(
    connection: "psycopg.Connection[Any]", table: Table, version: str | None, chance: Random
) -> Statement | None:
    """A row made at random, or a copy of one with other values in some columns of its keys."""
    if chance.random() < 0.5:
        return _new_row(connection, table, version, chance)
    names = [column.name for column in table.columns if column.name != version]
    keys = [name for name in names if name in table.unique]
    changed = chance.sample(keys, chance.randint(min(1, len(keys)), len(keys)))
    values = ", ".join(_new_key(table, name) if name in changed else f"t.{quoted(name)}" for name in names)
    into = ", ".join(map(quoted, names))
    row = f"(SELECT * FROM {table.name} ORDER BY random() LIMIT 1) AS t"
    return (f"INSERT INTO {table.name} ({into}) SELECT {values} FROM {row}", []) if names else None


def _delete(
    connection: "psycopg.Connection[Any]", table: Table, version: str | None, chance: Random
) -> Statement | None:
    """Any row but the last: a table that is emptied looks as one that is loaded anew, and stops the run."""
    return f"DELETE FROM {table.name} WHERE {_one_row(table)} AND EXISTS (SELECT FROM {table.name} OFFSET 1)", []


def _other_key(
    connection: "psycopg.Connection[Any]", table: Table, version: str | None, chance: Random
) -> Statement | None:
    keys = [column.name for column in table.columns if column.name in table.unique]
    if not keys:
        return None
    name = chance.choice(keys)
    return f"UPDATE {table.name} SET {quoted(name)} = {_new_key(table, name)} WHERE {_one_row(table)}", []


def _new_key(table: Table, name: str) -> str:
    """An expression for a value that no row has, or that another column makes unique."""
    column = next(each for each in table.columns if each.name == name)
    if column.type in ("smallint", "integer", "bigint", "numeric"):
        return f"(SELECT max({quoted(name)}) + 1 FROM {table.name})"
    if column.type in ("text", "character varying", "character"):
        return f"left(md5(random()::text), {min(column.size or SHORT, SHORT)})"
    if column.type == "uuid":
        return "gen_random_uuid()"
    return f"(SELECT {quoted(name)} FROM {table.name} ORDER BY random() LIMIT 1)"


_KINDS: list[tuple[str, Callable[..., Statement | None]]] = [
    ("updated", _update), ("updated", _update), ("inserted", _insert), ("deleted", _delete), ("key", _other_key),
]  # fmt: skip
