"""Tables of a database as its catalogue describes them, for rows that are made at random.

Written apart from `etl.new.catalogue`, which is tested with it.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg

_TABLES = """
SELECT r.oid::bigint, format('%I.%I', n.nspname, r.relname), n.nspname::text, r.relname::text,
  ARRAY(SELECT pg_get_constraintdef(c.oid) FROM pg_constraint AS c WHERE c.conrelid = r.oid AND c.contype = 'c')
FROM pg_class AS r JOIN pg_namespace AS n ON n.oid = r.relnamespace
WHERE r.relkind IN ('r', 'p') AND NOT r.relispartition AND r.oid >= 16384
  AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.objid = r.oid AND d.deptype = 'e') ORDER BY r.oid
"""
# Domains are resolved to the type below them, at any depth.
_COLUMNS = """
WITH RECURSIVE c AS (
  SELECT attrelid, attnum, attname::text AS name, atttypid AS type, atttypmod AS modifier, attnotnull AS required,
    atthasdef OR attidentity <> '' AS has_default, '{}'::text[] AS checks
  FROM pg_attribute WHERE attnum > 0 AND NOT attisdropped AND attgenerated = '' AND attidentity <> 'a'
  UNION ALL
  SELECT attrelid, attnum, name, typbasetype, CASE WHEN modifier >= 0 THEN modifier ELSE typtypmod END,
    required OR typnotnull, has_default OR typdefault IS NOT NULL,
    checks || ARRAY(SELECT pg_get_constraintdef(d.oid) FROM pg_constraint AS d WHERE d.contypid = t.oid)
  FROM c JOIN pg_type AS t ON t.oid = c.type WHERE typtype = 'd')
SELECT attrelid::bigint, name, format_type(type, NULL), format_type(type, modifier), required, has_default,
  ARRAY(SELECT enumlabel::text FROM pg_enum WHERE enumtypid = type), checks
FROM c JOIN pg_type AS t ON t.oid = c.type WHERE typtype <> 'd' ORDER BY attrelid, attnum
"""
_FOREIGN_KEYS = """
SELECT conrelid::bigint, format('%I.%I', n.nspname, r.relname),
  ARRAY(SELECT attname::text FROM unnest(conkey) WITH ORDINALITY AS k (number, place)
    JOIN pg_attribute ON attrelid = conrelid AND attnum = number ORDER BY place),
  ARRAY(SELECT attname::text FROM unnest(confkey) WITH ORDINALITY AS k (number, place)
    JOIN pg_attribute ON attrelid = confrelid AND attnum = number ORDER BY place)
FROM pg_constraint JOIN pg_class AS r ON r.oid = confrelid JOIN pg_namespace AS n ON n.oid = r.relnamespace
WHERE contype = 'f' AND conparentid = 0
"""
_KEYS = """
SELECT DISTINCT indrelid::bigint, attname::text FROM pg_index
JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey) WHERE indisunique
"""


@dataclass(frozen=True)
class Column:
    """A column: its type without and with modifiers, and the texts that checks compare it or its table with."""

    name: str
    type: str
    declared: str
    required: bool
    has_default: bool
    labels: list[str]
    literals: list[str]

    @property
    def size(self) -> int | None:
        """The length of a text, or the precision of a number."""
        found = re.search(r"\((\d+)", self.declared)
        return int(found[1]) if found else None


@dataclass(frozen=True)
class ForeignKey:
    """Columns, and those of another table that they refer to."""

    columns: list[str]
    table: str
    referred: list[str]


@dataclass(frozen=True)
class Table:
    """A table with the columns that a statement may set; `name` is quoted, as in SQL."""

    name: str
    schema: str
    plain: str
    columns: list[Column]
    foreign_keys: list[ForeignKey] = field(default_factory=list)
    unique: frozenset[str] = frozenset()


def described(connection: "psycopg.Connection[Any]") -> list[Table]:
    """The tables of a database that are neither partitions nor of an extension."""
    columns: dict[int, list[Any]] = defaultdict(list)
    keys: dict[int, list[ForeignKey]] = defaultdict(list)
    unique: dict[int, set[str]] = defaultdict(set)
    for oid, *rest in connection.execute(_COLUMNS).fetchall():
        columns[oid].append(rest)
    for oid, table, own, referred in connection.execute(_FOREIGN_KEYS).fetchall():
        keys[oid].append(ForeignKey(own, table, referred))
    for oid, name in connection.execute(_KEYS).fetchall():
        unique[oid].add(name)
    return [
        Table(
            name, schema, plain,
            [_column(row, checks) for row in columns[oid]],
            keys[oid], frozenset(unique[oid]),
        )
        for oid, name, schema, plain, checks in connection.execute(_TABLES).fetchall()
    ]  # fmt: skip


def _column(row: Sequence[Any], checks: list[str]) -> Column:
    name, type_, declared, required, has_default, labels, of_domains = row
    return Column(name, type_, declared, required, has_default, labels, _literals([*checks, *of_domains]))


def _literals(checks: list[str]) -> list[str]:
    return [text.replace("''", "'") for check in checks for text in re.findall(r"'((?:[^']|'')*)'", check)]
