"""Tables, views and their columns, keys and triggers, as the catalogue of the source describes them."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from etl.errors import ConfigurationError
from etl.model.source_type import SourceType
from etl.model.table_name import TableName, split_source
from etl.new.triggers import Trigger
from etl.postgres.catalogue import DEFAULT_ZONE, columns_of
from etl.postgres.checks import Cursor

KINDS = {
    "r": "table", "p": "partitioned table", "v": "view", "m": "materialized view", "f": "foreign table",
}  # fmt: skip
"""Kinds of relations that have rows, by pg_class.relkind."""
_RELATIONS = """
SELECT c.oid::bigint, n.nspname::text, c.relname::text, c.relkind::text, c.relispartition, c.reltuples::float8,
  EXISTS (SELECT FROM pg_catalog.pg_depend AS d WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid
    AND d.deptype = 'e')
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname <> 'information_schema'
  AND n.nspname !~ '^pg_(catalog|toast|temp)' ORDER BY 2, 3
"""
_INDEXES = """
SELECT i.indrelid::bigint, i.indisprimary,
  i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL,
  array_agg(a.attname::text ORDER BY k.place)
FROM pg_catalog.pg_index AS i, unnest(i.indkey[0:i.indnkeyatts-1]) WITH ORDINALITY AS k (number, place),
  pg_catalog.pg_attribute AS a
WHERE i.indrelid IN ({oids}) AND a.attrelid = i.indrelid AND a.attnum = k.number
GROUP BY i.indexrelid, i.indrelid, i.indisprimary, 3 ORDER BY i.indexrelid
"""
# Types of triggers, as bits: 1 for each row, 2 before, 16 on UPDATE.
_TRIGGERS = """
SELECT t.tgrelid::bigint, t.tgname::text, p.proname::text, l.lanname::text, p.prosrc,
  encode(t.tgargs, 'escape'), t.tgqual IS NULL AND t.tgattr::text = ''
FROM pg_catalog.pg_trigger AS t JOIN pg_catalog.pg_proc AS p ON p.oid = t.tgfoid
JOIN pg_catalog.pg_language AS l ON l.oid = p.prolang
WHERE t.tgrelid IN ({oids}) AND NOT t.tgisinternal AND t.tgenabled IN ('O', 'A') AND t.tgtype & 19 = 19
ORDER BY t.tgname
"""


@dataclass(frozen=True)
class SourceColumn:
    """A column: its type as it is declared, the type below all domains, and whether the user may read it."""

    name: str
    declared: str
    readable: bool
    type: SourceType

    @property
    def is_domain(self) -> bool:
        """Whether it is declared as a domain."""
        return self.declared != self.type.written


@dataclass(frozen=True)
class Index:
    """An index: its columns in order, and whether it is unique for all rows, and the primary key's."""

    columns: tuple[str, ...]
    unique: bool
    primary: bool = False


@dataclass(frozen=True)
class SourceTable:
    """A table, view or the like; `rows` is the planner's estimate, None if there is none."""

    name: TableName
    kind: str
    rows: int | None
    columns: tuple[SourceColumn, ...]
    indexes: tuple[Index, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    zone_is_utc: bool = field(default=True)
    reader: str = ""
    """The user that reads the catalogue."""


def read_tables(cursor: Cursor, patterns: Sequence[str], exclude: Sequence[str] = ()) -> list[SourceTable]:
    """The tables and views that match a pattern, such as `public.orders` or `public.*`, and none of `exclude`.

    Partitions and tables of extensions are only read if they are named without `*`. Raises ConfigurationError for a
    pattern that matches nothing.
    """
    found = [
        (int(oid), TableName(schema_name=schema, table=table), KINDS[kind], hidden or of_extension, rows)
        for oid, schema, table, kind, hidden, rows, of_extension in _rows(cursor, _RELATIONS)
    ]
    chosen = {}
    for pattern in patterns:
        matches = matcher(pattern)
        matched = [each for each in found if matches(each[1]) and ("*" not in pattern or not each[3])]
        if not matched:
            raise ConfigurationError(_no_match(pattern, [each[1] for each in found]))
        chosen.update({each[0]: each for each in matched})
    excluded = [matcher(pattern) for pattern in exclude]
    chosen = {oid: each for oid, each in chosen.items() if not any(matches(each[1]) for matches in excluded)}
    return _described(cursor, sorted(chosen.values(), key=_order)) if chosen else []


def _order(found: tuple[int, TableName, str, bool, float]) -> tuple[bool, str]:
    """By name; those of public come first, and so have their own names in the sink if another schema has the same."""
    return found[1].schema_name != "public", str(found[1])


def _described(cursor: Cursor, chosen: list[tuple[int, TableName, str, bool, float]]) -> list[SourceTable]:
    oids = ", ".join(str(each[0]) for each in chosen)
    queries = (columns_of(oids), _INDEXES.format(oids=oids), _TRIGGERS.format(oids=oids))
    columns, indexes, triggers = (_by_table(_rows(cursor, query)) for query in queries)
    zone_is_utc = all(is_utc for _, is_utc in _rows(cursor, DEFAULT_ZONE))
    ((reader,),) = _rows(cursor, "SELECT current_user::text")
    return [
        SourceTable(
            name,
            kind,
            None if rows < 0 else int(rows),
            tuple(SourceColumn(row[0], row[1], row[2], SourceType(*row[3:])) for row in columns[oid]),
            tuple(Index(tuple(names), unique, primary) for primary, unique, names in indexes[oid]),
            tuple(Trigger(*row) for row in triggers[oid]),
            zone_is_utc,
            reader,
        )
        for oid, name, kind, _, rows in chosen
    ]


def matcher(pattern: str) -> Any:
    """A function that says whether a table matches a pattern; `*` in it stands for any characters."""
    try:
        parts = split_source(pattern)
    except ValueError as error:
        raise ConfigurationError(f"{error}.") from None
    schema, table = (re.compile(re.escape(part).replace(r"\*", ".*"), re.DOTALL) for part in parts)
    return lambda name: schema.fullmatch(name.schema_name) and table.fullmatch(name.table)


def _no_match(pattern: str, names: Iterable[TableName]) -> str:
    alike = [str(name) for name in names if str(name).casefold() == pattern.casefold()]
    if alike:
        return f"The source has no table {pattern}, but {alike[0]}: names are given as they are stored."
    return (
        f"No table or view at the source matches {pattern}: give SCHEMA.TABLE, with * for any characters. Postgres"
        " shows no schema on which the user of SOURCE_URL has no USAGE."
        if "*" in pattern
        else f"The source has no table or view {pattern}, or it is in another database than SOURCE_URL names."
    )


def _by_table(rows: Iterable[Sequence[Any]]) -> dict[int, list[Sequence[Any]]]:
    found: dict[int, list[Sequence[Any]]] = defaultdict(list)
    for oid, *rest in rows:
        found[int(oid)].append(rest)
    return found


def _rows(cursor: Cursor, statement: str) -> list[Any]:
    cursor.execute(statement)
    return cursor.fetchall()
