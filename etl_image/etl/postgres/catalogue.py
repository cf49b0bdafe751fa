"""Queries of Postgres' catalogue about a table, as text."""

from collections.abc import Sequence

from etl.model.table_name import TableName
from etl.postgres.quoting import quote_table, quote_text

DEFAULT_ZONE = (
    "SELECT reset_val, (SELECT bool_and(at AT TIME ZONE reset_val = at AT TIME ZONE 'UTC') FROM"
    " generate_series(now() - interval '1 year', now() + interval '1 year', '1 week') AS at)"
    " FROM pg_catalog.pg_settings WHERE name = 'TimeZone'"
)
"""One row: the time zone of sessions that set none, and whether its clock shows UTC all year."""


def relation_kind(table: TableName) -> str:
    """One row: pg_class's relkind of a table or view, such as r for a table; none if there is no such table."""
    return f"SELECT relkind::text FROM pg_catalog.pg_class WHERE oid = to_regclass({quote_text(quote_table(table))})"


def columns_of(relations: str) -> str:
    """A row for each column of tables and views, in order. `relations`: their oids, or expressions, with commas.

    Its fields: the relation's oid, name, type as declared, whether the user may read it; then those of SourceType:
    type, kind, type with arguments, whether it is NOT NULL. Domains are resolved, to any depth. The kind is pg_type's
    typtype, or A for an array.
    """
    # A column of a NOT NULL domain is null nevertheless in a view over an outer join.
    return (
        "WITH RECURSIVE base AS (SELECT a.attrelid, a.attnum, a.atttypid AS type, a.atttypmod AS modifier,"
        " a.attnotnull AS required, c.relkind IN ('r', 'p') AS is_table FROM pg_catalog.pg_attribute AS a"
        " JOIN pg_catalog.pg_class AS c ON c.oid = a.attrelid"
        f" WHERE a.attrelid IN ({relations}) AND a.attnum > 0 AND NOT a.attisdropped"
        " UNION ALL SELECT attrelid, attnum, t.typbasetype,"
        " CASE WHEN t.typtypmod = -1 THEN modifier ELSE t.typtypmod END, required OR (t.typnotnull AND is_table),"
        " is_table FROM base JOIN pg_catalog.pg_type AS t ON t.oid = type WHERE t.typtype = 'd')"
        " SELECT a.attrelid::bigint, a.attname::text, format_type(a.atttypid, a.atttypmod),"
        " has_column_privilege(a.attrelid, a.attnum, 'SELECT'), format_type(base.type, NULL),"
        " CASE t.typcategory WHEN 'A' THEN 'A' ELSE t.typtype::text END, format_type(base.type, base.modifier),"
        " base.required FROM base JOIN pg_catalog.pg_type AS t ON t.oid = base.type"
        " JOIN pg_catalog.pg_attribute AS a ON a.attrelid = base.attrelid AND a.attnum = base.attnum"
        " WHERE t.typtype <> 'd' ORDER BY a.attrelid, a.attnum"
    )


def describe_columns(table: TableName) -> str:
    """The rows of `columns_of` for one table or view; none if there is no such table."""
    return columns_of(f"to_regclass({quote_text(quote_table(table))})")


def expression_types(table: TableName, expressions: Sequence[str]) -> str:
    """A row for each expression of columns of a table: its place, and its type and kind as in `describe_columns`."""
    # One row of nulls, without a scan of the table. Each is computed, so that a failing constant part shows here.
    typed = ", ".join(f"({place}, pg_typeof({each})::oid)" for place, each in enumerate(expressions))
    return (
        f"WITH RECURSIVE base AS (SELECT v.place, v.type FROM (SELECT) AS one LEFT JOIN {quote_table(table)} AS t"
        f" ON false CROSS JOIN LATERAL (VALUES {typed}) AS v (place, type)"
        " UNION ALL SELECT place, t.typbasetype FROM base JOIN pg_catalog.pg_type AS t ON t.oid = type"
        " WHERE t.typtype = 'd')"
        " SELECT place, format_type(type, NULL), CASE t.typcategory WHEN 'A' THEN 'A' ELSE t.typtype::text END"
        " FROM base JOIN pg_catalog.pg_type AS t ON t.oid = type WHERE t.typtype <> 'd' ORDER BY place"
    )


def unique_indexes(table: TableName) -> str:
    """The column names of each unique index (whole, immediate and on plain columns) of a table, as an array."""
    return (
        "SELECT array_agg(a.attname::text) FROM pg_catalog.pg_index AS i"
        " JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey[0:i.indnkeyatts-1])"
        f" WHERE i.indrelid = to_regclass({quote_text(quote_table(table))})"
        " AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL"
        " GROUP BY i.indexrelid"
    )


def inheriting_tables(table: TableName) -> str:
    """The names of up to three tables that inherit from a table and are not its partitions.

    TimescaleDB's chunks are excluded: a unique index of the table holds over all of them.
    """
    return (
        "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_inherits AS i"
        " JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid"
        " JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace"
        f" WHERE i.inhparent = to_regclass({quote_text(quote_table(table))}) AND NOT c.relispartition"
        " AND n.nspname <> '_timescaledb_internal' ORDER BY 1 LIMIT 3"
    )


def row_security(table: TableName) -> str:
    """One row: the user, whether row-level security of a table is active for it, and whether it sees all rows anyway.

    It does if a policy for the user is `true`, and no restrictive one is anything else.
    """
    policies = (
        "SELECT FROM pg_catalog.pg_policy AS p WHERE p.polrelid = c.oid AND p.polcmd IN ('r', '*') AND"
        " (0 = ANY (p.polroles) OR EXISTS (SELECT FROM unnest(p.polroles) AS r WHERE pg_has_role(r, 'USAGE')))"
    )
    condition = "pg_get_expr(p.polqual, p.polrelid)"
    return (
        "SELECT current_user::text, row_security_active(c.oid),"
        f" EXISTS ({policies} AND p.polpermissive AND {condition} = 'true')"
        f" AND NOT EXISTS ({policies} AND NOT p.polpermissive AND {condition} <> 'true')"
        f" FROM pg_catalog.pg_class AS c WHERE c.oid = to_regclass({quote_text(quote_table(table))})"
    )
