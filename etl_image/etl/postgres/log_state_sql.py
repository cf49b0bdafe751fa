"""Queries of Postgres' catalogue about reading the write-ahead log: server, role, tables, publication and slot.

Columns that a version lacks are read by `to_jsonb(row) ->> name`, which is null there.
"""

from etl.model.table_name import TableName
from etl.postgres.quoting import quote_table, quote_text

MOST_INLINE_BYTES = 24
"""A value of at most so many bytes stays in its row: the next is what Postgres' toaster may move out."""

SERVER = (
    "SELECT current_setting('server_version_num')::bigint, current_setting('wal_level'), pg_is_in_recovery(),"
    " current_database()::text, (SELECT setting::bigint FROM pg_catalog.pg_settings WHERE name ="
    " 'max_replication_slots') - (SELECT count(*) FROM pg_catalog.pg_replication_slots),"
    " (SELECT setting::bigint FROM pg_catalog.pg_settings WHERE name = 'max_slot_wal_keep_size'),"
    " coalesce((SELECT setting::bigint FROM pg_catalog.pg_settings WHERE name = 'idle_replication_slot_timeout'), 0),"
    " coalesce((SELECT min(rolname)::text FROM pg_catalog.pg_roles"
    " WHERE rolname IN ('rds_replication', 'cloudsqlsuperuser', 'azure_pg_admin')), '')"
)
"""One row: version, wal_level, whether it is a standby, database, free slots, the megabytes of log that a slot may keep
(-1: any), after how many seconds idle slots are invalidated (0: never), and a role that a managed service has."""


def role(name: str | None, table: TableName) -> str:
    """A row, none for an unknown role: its name, whether it may read the log, and what it may read of a table.

    The last are whether it may use the schema and read any column. `name`: None for the user of the session.
    """
    member = (
        "EXISTS (SELECT FROM pg_catalog.pg_roles AS m WHERE m.rolname = 'rds_replication'"
        " AND pg_has_role(r.oid, m.oid, 'USAGE'))"
    )
    oid = f"to_regclass({quote_text(quote_table(table))})"
    schema = f"(SELECT relnamespace FROM pg_catalog.pg_class WHERE oid = {oid})"
    return (
        f"SELECT r.rolname::text, r.rolsuper OR r.rolreplication OR {member},"
        f" coalesce(has_schema_privilege(r.oid, {schema}, 'USAGE'), false),"
        f" coalesce(has_any_column_privilege(r.oid, {oid}, 'SELECT'), false)"
        f" FROM pg_catalog.pg_roles AS r WHERE r.rolname = {'current_user' if name is None else quote_text(name)}"
    )


def tables(table: TableName) -> str:
    """A row for a table, the first, and for each of its partitions; none if there is no such table.

    Its fields: schema, name, relkind, relpersistence, relreplident, the index that it names, the columns of the
    identity (all of them for FULL), those of which values may be stored out of line, and those that are generated.
    """
    tree = f"to_regclass({quote_text(quote_table(table))})"
    # As RelationGetIndexList chooses: a deferrable primary key identifies no row.
    identity = (
        "SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_catalog.pg_attribute AS a WHERE"
        " a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND (c.relreplident = 'f' OR EXISTS"
        " (SELECT FROM pg_catalog.pg_index AS i WHERE i.indrelid = c.oid AND i.indisvalid AND i.indimmediate"
        " AND a.attnum = ANY (i.indkey[0:i.indnkeyatts-1])"
        " AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END))"
    )
    named = (
        "SELECT x.relname::text FROM pg_catalog.pg_index AS i JOIN pg_catalog.pg_class AS x ON x.oid = i.indexrelid"
        " WHERE i.indrelid = c.oid AND i.indisreplident AND c.relreplident = 'i'"
    )
    # varchar(n), char(n) and numeric(p, s) of few bytes never leave the row; a domain is not resolved.
    longest = (
        "CASE WHEN a.atttypid IN (1042, 1043) AND a.atttypmod >= 4 THEN (a.atttypmod - 4) * pg_encoding_max_length("
        "(SELECT encoding FROM pg_catalog.pg_database WHERE datname = current_database())) + 4"
        " WHEN a.atttypid = 1700 AND a.atttypmod >= 4 THEN ((((a.atttypmod - 4) >> 16) & 65535) + 6) / 4 * 2 + 8"
        f" ELSE {MOST_INLINE_BYTES + 1} END"
    )
    apart = (
        "SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_catalog.pg_attribute AS a"
        " JOIN pg_catalog.pg_type AS t ON t.oid = a.atttypid WHERE a.attrelid = c.oid AND c.reltoastrelid <> 0"
        " AND a.attnum > 0 AND NOT a.attisdropped AND a.attlen = -1 AND t.typstorage <> 'p'"
        f" AND {longest} > {MOST_INLINE_BYTES}"
    )
    generated = (
        "SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_catalog.pg_attribute AS a"
        " WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> ''"
    )
    return (
        "SELECT n.nspname::text, c.relname::text, c.relkind::text, c.relpersistence::text, c.relreplident::text,"
        f" coalesce(({named}), ''), ({identity}), ({apart}), ({generated}) FROM pg_catalog.pg_class AS c"
        " JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace"
        f" WHERE c.oid = {tree} OR c.oid IN (SELECT relid FROM pg_partition_tree({tree}))"
        f" ORDER BY c.oid <> {tree}, 1, 2"
    )


def publication(name: str, table: TableName) -> str:
    """A row for a publication, none if it is missing.

    Its fields: whether it is of all tables; whether it publishes inserts and updates, deletes and truncates, and by
    the root of partitions; its comment; how many tables it lists; whether this one is published, the columns of it as
    JSON (null: an old server, which publishes all), and its row filter.
    """
    published = (
        f"t.pubname = p.pubname AND t.schemaname = {quote_text(table.schema_name)}"
        f" AND t.tablename = {quote_text(table.table)}"
    )
    view = "pg_catalog.pg_publication_tables AS t"
    return (
        "SELECT p.puballtables, p.pubinsert AND p.pubupdate, p.pubdelete AND p.pubtruncate, p.pubviaroot,"
        " coalesce(obj_description(p.oid, 'pg_publication'), ''),"
        " (SELECT count(*) FROM pg_catalog.pg_publication_rel AS r WHERE r.prpubid = p.oid),"
        f" EXISTS (SELECT FROM {view} WHERE {published}),"
        f" (SELECT (to_jsonb(t) -> 'attnames')::text FROM {view} WHERE {published}),"
        f" (SELECT to_jsonb(t) ->> 'rowfilter' FROM {view} WHERE {published})"
        f" FROM pg_catalog.pg_publication AS p WHERE p.pubname = {quote_text(name)}"
    )


def other_publications(name: str, table: TableName) -> str:
    """A row for each other publication of a table, or of one of its partitions: name, and whether it lists columns."""
    tree = f"to_regclass({quote_text(quote_table(table))})"
    return (
        "SELECT p.pubname::text, EXISTS (SELECT FROM pg_catalog.pg_publication_rel AS r WHERE r.prpubid = p.oid"
        f" AND (r.prrelid = {tree} OR r.prrelid IN (SELECT relid FROM pg_partition_tree({tree})))"
        " AND to_jsonb(r) ->> 'prattrs' IS NOT NULL) FROM pg_catalog.pg_publication AS p"
        f" WHERE p.pubname <> {quote_text(name)} AND EXISTS (SELECT FROM pg_catalog.pg_publication_tables AS t"
        " WHERE t.pubname = p.pubname AND to_regclass(format('%I.%I', t.schemaname, t.tablename)) IN"
        f" (SELECT {tree} UNION SELECT relid FROM pg_partition_tree({tree}))) ORDER BY 1"
    )


def slot(name: str) -> str:
    """A row for a replication slot, none if it is missing.

    Its fields: plugin and database (empty: a physical slot), whether it is two_phase, the process that uses it and what
    that calls itself, wal_status, the reason why it is lost, the bytes of log that it keeps, those that it may still
    keep (null: any), and its confirmed position.
    """
    now = "CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END"
    return (
        "SELECT coalesce(s.plugin::text, ''), coalesce(s.database::text, ''),"
        " coalesce((to_jsonb(s) ->> 'two_phase')::boolean, false),"
        " s.active_pid::bigint,"
        " coalesce((SELECT a.application_name FROM pg_catalog.pg_stat_activity AS a WHERE a.pid = s.active_pid), ''),"
        " coalesce(s.wal_status, 'lost'), coalesce(to_jsonb(s) ->> 'invalidation_reason', ''),"
        f" coalesce(pg_wal_lsn_diff({now}, s.restart_lsn), 0)::bigint, s.safe_wal_size::bigint,"
        " coalesce(s.confirmed_flush_lsn::text, '')"
        f" FROM pg_catalog.pg_replication_slots AS s WHERE s.slot_name = {quote_text(name)}"
    )


OPEN_TRANSACTIONS = (
    "SELECT pid::bigint, coalesce(usename::text, ''), application_name,"
    " extract(epoch FROM now() - xact_start)::bigint FROM pg_catalog.pg_stat_activity"
    " WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid() ORDER BY xact_start LIMIT 3"
)
"""The three oldest transactions that have written: process, user, application, seconds."""
