"""Statements that prepare a source for reading its write-ahead log, and those that take this back; without semicolons.

Each is a transaction of its own: a slot cannot be made in one that has written, and a lock of ALTER TABLE should be
short.
"""

from etl.model.table_name import TableName
from etl.postgres.quoting import quote_name, quote_table, quote_text

_FAILOVER_SINCE = 17
RDS_ROLE = "rds_replication"
"""The role of Amazon RDS that may use slots; the attribute REPLICATION is not given there."""
_IDENTITIES = {"d": "DEFAULT", "f": "FULL", "n": "NOTHING"}


def limit_waits(seconds: float) -> tuple[str, ...]:
    """Settings of the session: how long a statement waits for locks, and for transactions that are open."""
    return (f"SET lock_timeout = '{seconds:g}s'", f"SET statement_timeout = '{2 * seconds:g}s'")


def grant_replication(role: str, managed: str) -> str:
    """Let a role use replication slots; `managed`: a role that only that service has."""
    if managed == RDS_ROLE:
        return f"GRANT {RDS_ROLE} TO {quote_name(role)}"
    return f"ALTER ROLE {quote_name(role)} REPLICATION"


def grant_schema(role: str, table: TableName) -> str:
    """Let a role use the schema of a table."""
    return f"GRANT USAGE ON SCHEMA {quote_name(table.schema_name)} TO {quote_name(role)}"


def grant_table(role: str, table: TableName) -> str:
    """Let a role read a table."""
    return f"GRANT SELECT ON {quote_table(table)} TO {quote_name(role)}"


def set_identity(table: TableName, identity: str, index: str = "") -> str:
    """Set the replica identity of a table: that of pg_class.relreplident, d, f or n, or by an index."""
    chosen = f"USING INDEX {quote_name(index)}" if index else _IDENTITIES[identity]
    return f"ALTER TABLE {quote_table(table)} REPLICA IDENTITY {chosen}"


def create_publication(name: str, table: TableName, *, by_root: bool) -> str:
    """Publish all changes of a table; `by_root`: those of partitions as changes of the table."""
    return f"CREATE PUBLICATION {quote_name(name)} FOR TABLE {quote_table(table)} WITH ({_options(by_root=by_root)})"


def add_table(name: str, table: TableName) -> str:
    """Add a table to a publication."""
    return f"ALTER PUBLICATION {quote_name(name)} ADD TABLE {quote_table(table)}"


def set_table(name: str, table: TableName) -> str:
    """Let a publication have a table alone, with all columns and rows."""
    return f"ALTER PUBLICATION {quote_name(name)} SET TABLE {quote_table(table)}"


def drop_table(name: str, table: TableName) -> str:
    """Take a table out of a publication."""
    return f"ALTER PUBLICATION {quote_name(name)} DROP TABLE {quote_table(table)}"


def set_options(name: str, *, by_root: bool) -> str:
    """Let a publication publish all changes."""
    return f"ALTER PUBLICATION {quote_name(name)} SET ({_options(by_root=by_root)})"


def _options(*, by_root: bool) -> str:
    return "publish = 'insert, update, delete, truncate'" + (", publish_via_partition_root = true" if by_root else "")


def drop_publication(name: str) -> str:
    """Drop a publication; it need not be there."""
    return f"DROP PUBLICATION IF EXISTS {quote_name(name)}"


def comment_publication(name: str, comment: str) -> str:
    """Note something at a publication."""
    return f"COMMENT ON PUBLICATION {quote_name(name)} IS {quote_text(comment)}"


def create_slot(name: str, plugin: str, version: int) -> str:
    """Create a slot, which decodes no prepared transactions; from Postgres 17 on it follows a failover."""
    failover = ", false, false, true" if version >= _FAILOVER_SINCE else ""
    return (
        f"SELECT lsn::text FROM pg_create_logical_replication_slot({quote_text(name)}, {quote_text(plugin)}{failover})"
    )


def drop_slot(name: str) -> str:
    """Drop a slot."""
    return f"SELECT pg_drop_replication_slot({quote_text(name)})"
