"""SQL for Postgres about its write-ahead log: the server's position, a slot, a publication; reading and advancing."""

from etl.model.pipeline import Pipeline
from etl.postgres.quoting import quote_name, quote_table, quote_text

FIRST_VERSION = 150000
"""The first version of the server whose catalogue lists the columns of a publication."""

SERVER = (
    "SELECT pg_is_in_recovery(), current_setting('server_version_num')::int, current_setting('wal_level'),"
    " (SELECT system_identifier::text FROM pg_control_system()),"
    " CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_flush_lsn()::text END,"
    " CASE WHEN NOT pg_is_in_recovery() THEN"
    " ('x' || left(pg_walfile_name(pg_current_wal_flush_lsn()), 8))::bit(32)::int END"
)
"""One row: whether the server is a standby, its version, wal_level and system identifier; then the position up to which
its log is on disk, and the timeline, which a standby does not tell."""


def find_slot(pipeline: Pipeline) -> str:
    """One row about the pipeline's slot, none if there is none.

    Plugin, whether it is of this database, whether it is temporary or for two-phase transactions, whether it is in use,
    wal_status, and the position from which it sends changes.
    """
    return (
        "SELECT coalesce(plugin::text, ''), coalesce(database = current_database(), false), temporary OR two_phase,"
        " active, coalesce(wal_status, ''), confirmed_flush_lsn::text FROM pg_catalog.pg_replication_slots"
        f" WHERE slot_name = {quote_text(pipeline.slot_name)}"
    )


def find_publication(pipeline: Pipeline) -> str:
    """One row about the pipeline's publication, none if there is none.

    Whether it publishes inserts and updates, whether changes of partitions as of their table; the columns that it sends
    of the table, null if it does not have it; its row filter; and its fingerprint, which any change of it or of the
    table changes.
    """
    table = f"to_regclass({quote_text(quote_table(pipeline.source))})"
    # Of FOR TABLE there is a row of its own, of FOR TABLES IN SCHEMA and FOR ALL TABLES none.
    entries = (
        "SELECT string_agg(r.oid::text || ':' || r.xmin::text, ' ' ORDER BY r.oid) FROM"
        " pg_catalog.pg_publication_rel AS r WHERE r.prpubid = p.oid AND (r.prrelid = c.oid"
        " OR r.prrelid IN (SELECT a.relid FROM pg_partition_ancestors(c.oid) AS a))"
    )
    schemas = (
        "SELECT string_agg(n.oid::text || ':' || n.xmin::text, ' ' ORDER BY n.oid) FROM"
        " pg_catalog.pg_publication_namespace AS n WHERE n.pnpubid = p.oid AND n.pnnspid = c.relnamespace"
    )
    return (
        "SELECT p.pubinsert AND p.pubupdate, p.pubviaroot, t.attnames::text[], t.rowfilter,"
        f" concat_ws(' ', p.oid::text || ':' || p.xmin::text, c.oid::text, ({entries}), ({schemas}))"
        " FROM pg_catalog.pg_publication AS p"
        f" LEFT JOIN pg_catalog.pg_class AS c ON c.oid = {table}"
        " LEFT JOIN pg_catalog.pg_namespace AS s ON s.oid = c.relnamespace"
        " LEFT JOIN pg_catalog.pg_publication_tables AS t ON t.pubname = p.pubname AND t.schemaname = s.nspname"
        f" AND t.tablename = c.relname WHERE p.pubname = {quote_text(pipeline.publication_name)}"
    )


def fingerprint(pipeline: Pipeline) -> str:
    """One row: the fingerprint of the publication alone, none if there is none."""
    return f"SELECT found.f FROM ({find_publication(pipeline)}) AS found (a, b, c, d, f)"


def find_identity(pipeline: Pipeline) -> str:
    """One row about the source table: its oid, its kind, and whether old rows can be found by an identity.

    Then the names of columns that may be stored out of line, and so not sent where they have not changed; null where
    the identity is FULL, of all partitions.
    """
    table = f"to_regclass({quote_text(quote_table(pipeline.source))})"
    # Of a partitioned table the identity of each partition counts, and its own does not.
    stored = (
        f"SELECT l.* FROM pg_catalog.pg_class AS l WHERE l.relkind = 'r' AND (l.oid = {table}"
        f" OR l.oid IN (SELECT t.relid FROM pg_partition_tree({table}) AS t WHERE t.isleaf))"
    )
    return (
        "SELECT c.oid::bigint, c.relkind::text,"
        f" NOT EXISTS (SELECT FROM ({stored}) AS l WHERE CASE l.relreplident WHEN 'f' THEN false WHEN 'n' THEN true"
        " ELSE NOT EXISTS (SELECT FROM pg_catalog.pg_index AS i WHERE i.indrelid = l.oid AND i.indisvalid"
        " AND i.indimmediate"
        " AND CASE l.relreplident WHEN 'd' THEN i.indisprimary ELSE i.indisreplident END) END),"
        " (SELECT array_agg(DISTINCT a.attname::text) FROM pg_catalog.pg_attribute AS a"
        f" JOIN ({stored}) AS l ON l.oid = a.attrelid WHERE l.relreplident <> 'f' AND a.attnum > 0"
        " AND NOT a.attisdropped AND a.attlen = -1 AND a.attstorage <> 'p')"
        f" FROM pg_catalog.pg_class AS c WHERE c.oid = {table}"
    )


def column_types(pipeline: Pipeline) -> str:
    """A row for each column of the source table: its name, and the oid of its type as messages of the log have it."""
    return (
        "SELECT attname::text, atttypid::bigint FROM pg_catalog.pg_attribute"
        f" WHERE attrelid = to_regclass({quote_text(quote_table(pipeline.source))}) AND attnum > 0 AND NOT attisdropped"
    )


def count_rows(pipeline: Pipeline) -> str:
    """One row: how many rows the source table has."""
    return f"SELECT count(*) FROM {quote_table(pipeline.source)}"


def peek(pipeline: Pipeline, upto: str, at_most: int | None = None) -> str:
    """The messages of pgoutput from the slot's position on, whole transactions; nothing is consumed.

    Up to and with the transaction in which the position `upto` is reached, or in which there are `at_most` messages.
    """
    options = (
        f"'proto_version', '1', 'publication_names', {quote_text(quote_name(pipeline.publication_name))}"
        ", 'binary', 'false', 'messages', 'false'"
    )
    return (
        f"SELECT data FROM pg_logical_slot_peek_binary_changes({quote_text(pipeline.slot_name)}, {quote_text(upto)},"
        f" {'NULL' if at_most is None else int(at_most)}, {options})"
    )


def advance(pipeline: Pipeline, position: str) -> str:
    """Let the slot forget what is before a position."""
    return (
        "SELECT end_lsn::text FROM"
        f" pg_replication_slot_advance({quote_text(pipeline.slot_name)}, {quote_text(position)})"
    )
