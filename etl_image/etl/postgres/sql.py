"""The SQL that is sent to Postgres, as text: for `plan` in the DAG and for `extract` in the image."""

from collections.abc import Sequence
from datetime import datetime

from etl.model.pipeline import Pipeline, TableName
from etl.model.version_zone import as_local
from etl.model.window import Partition, Window
from etl.postgres.filter import wanted
from etl.postgres.quoting import quote_name, quote_text

SESSION = (
    "SET LOCAL TIME ZONE 'UTC'",
    "SET LOCAL datestyle = 'ISO, YMD'",
    "SET LOCAL row_security = off",
    "SELECT set_config(name, '0', true) FROM pg_catalog.pg_settings WHERE name IN"
    " ('statement_timeout', 'transaction_timeout', 'idle_in_transaction_session_timeout')",
)
"""Sets a transaction: key values and times read the same as text everywhere, a read that row-level security would cut
short is refused (42501), and no timeout of a role ends a long one; a server that does not know one yet has none."""
ENCODING = (
    "SELECT set_config('client_encoding',"
    " CASE current_setting('server_encoding') WHEN 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END, false)"
)
"""Makes texts come as UTF-8 whatever the database keeps them in; bytes of no encoding come as they are, to be told."""
CLOCK = "SELECT now(), CASE WHEN pg_is_in_recovery() THEN pg_last_xact_replay_timestamp() ELSE now() END"
"""One row: the time at the source, and the time until which a snapshot taken after this has what was committed. A
standby has it until the commit that it replayed last; null where it has not replayed one."""
TRANSACTIONS = "SELECT txid_snapshot_xmin(txid_current_snapshot()), txid_snapshot_xmax(txid_current_snapshot())"
"""One row: the first id of a transaction that is open in this snapshot, and the first that no transaction has yet."""
# Columns of our own beside the pipeline's: a tab is not printable, so no column of a pipeline is called that.
TOO_LONG, _BYTES = "\ttoo long", "\tbytes"
_LONGEST_VALUE = 1 << 30
"""Postgres has no longer one."""


def quote_table(table: TableName) -> str:
    """A Postgres table, quoted."""
    return f"{quote_name(table.schema_name)}.{quote_name(table.table)}"


def count_window(pipeline: Pipeline, window: Window, future: datetime, watermark: datetime | None = None) -> str:
    """One row, of one scan: three numbers of rows and ages at the source.

    How many rows the window covers; the age in seconds of the oldest of them after the watermark, null where there is
    none; and how many rows are at a version after `future` or at an infinite one, which the window does not cover.
    """
    version, covered, age = quote_name(pipeline.version), _in_window(pipeline, window), "NULL"
    unreachable = _unreachable(pipeline, window, future)
    if watermark:
        # Of the window alone: Postgres takes infinity from now only since version 17.
        oldest = f"min({version}) FILTER (WHERE {covered} AND {version} > {_version(pipeline, watermark)})"
        ahead = as_local(window.high, pipeline.version_zone) - window.high.replace(tzinfo=None)
        shift = f" + {ahead.total_seconds():.0f}" if ahead else ""
        age = f"extract(epoch FROM now() - {oldest}){shift}"
    return (
        f"SELECT count(*) FILTER (WHERE {covered}), {age}, count(*) FILTER (WHERE {unreachable})"
        f" FROM {quote_table(pipeline.source)} WHERE ({covered}) OR {unreachable}"
    )


def unreachable_rows(pipeline: Pipeline, window: Window, future: datetime, count: int) -> str:
    """Some of the rows that `count_window` counts as unreachable: the key's columns and the version, as text."""
    version = quote_name(pipeline.version)
    as_text = ", ".join(f"{quote_name(name)}::text" for name in (*pipeline.key, pipeline.version))
    return (
        f"SELECT {as_text} FROM {quote_table(pipeline.source)} WHERE {_unreachable(pipeline, window, future)}"
        f" ORDER BY {version} DESC LIMIT {int(count)}"
    )


def partition_bounds(pipeline: Pipeline, window: Window, size: int) -> str:
    """The key of every `size`-th row of the window in key order, each column as text."""
    keys = ", ".join(quote_name(name) for name in pipeline.key)
    # Called after their places here: one of them may be called position.
    named = ", ".join(f"{quote_name(name)} AS k{place}" for place, name in enumerate(pipeline.key))
    as_text = ", ".join(f"k{place}::text" for place in range(len(pipeline.key)))
    return (
        f"SELECT {as_text} FROM (SELECT {named}, row_number() OVER (ORDER BY {keys}) AS position"
        f" FROM {quote_table(pipeline.source)} WHERE {_in_window(pipeline, window)}) AS keys"
        f" WHERE position % {int(size)} = 0 ORDER BY position"
    )


def extract_rows(pipeline: Pipeline, partition: Partition, longest: int = _LONGEST_VALUE) -> str:
    """The rows of one partition, the columns in the pipeline's order; with pushdown, those that may be wanted.

    A last column, TOO_LONG, is null but for rows whose unbounded columns have more than the `longest` bytes together:
    it then says which have how many, and their values are left out.
    """
    condition = f" AND ({wanted(pipeline)})" if pipeline.pushdown else ""
    columns = {name: quote_name(name) for name in pipeline.columns}
    cast = [name for name, kind in pipeline.types.items() if kind.row.is_read_as_text]
    unbounded = [name for name, kind in pipeline.types.items() if kind.is_unbounded and name not in pipeline.key]
    # Postgres knows lengths without reading the values, except of types that are cast to text, which is done once:
    # OFFSET 0 keeps what is computed in a subquery from being computed again for each use.
    read = (f"{quoted}::text AS {quoted}" if name in cast else quoted for name, quoted in columns.items())
    rows = f"SELECT {', '.join(read)} {_from_partition(pipeline, partition)}{condition}"
    if cast:
        rows += " OFFSET 0"
    lengths = {name: f"octet_length({columns[name]})" for name in unbounded}
    total, bytes_ = (
        " + ".join(["0::bigint", *(f"coalesce({each}, 0)" for each in lengths.values())]),
        quote_name(_BYTES),
    )
    told = ", ".join(f"({quote_text(name)}, {length})" for name, length in lengths.items()) or "(NULL, NULL)"
    for name in unbounded:
        columns[name] = f"CASE WHEN {bytes_} <= {int(longest)} THEN {columns[name]} END AS {columns[name]}"
    return (
        f"SELECT {', '.join(columns.values())}, CASE WHEN {bytes_} > {int(longest)} THEN (SELECT"
        " string_agg(name || ' has ' || bytes || ' bytes', ', ' ORDER BY bytes DESC)"
        f" FROM (VALUES {told}) AS told (name, bytes)) END AS {quote_name(TOO_LONG)}"
        f" FROM (SELECT *, {total} AS {bytes_} FROM ({rows}) AS rows OFFSET 0) AS rows"
    )


def count_partition(pipeline: Pipeline, partition: Partition) -> str:
    """One row: how many rows a partition has, and how many of them pushdown leaves out."""
    left_out = f"count(*) FILTER (WHERE ({wanted(pipeline)}) IS NOT TRUE)"
    return f"SELECT count(*), {left_out} {_from_partition(pipeline, partition)}"


def versions_of(pipeline: Pipeline, rows: Sequence[tuple[Sequence[str], datetime]]) -> str:
    """Of rows, each its key as text and a version as the sink has it, those that are there.

    A row for each: its place among those given, the version there as text, and -1, 0 or 1 where that is older than the
    given one, the same, or newer.
    """
    version = f"t.{quote_name(pipeline.version)}"
    places = range(len(pipeline.key))
    names = ", ".join(f"k{place}" for place in places)
    values = ", ".join(
        f"({number}, {_key_literals(pipeline, key)}, {_local_version(pipeline, at)})"
        for number, (key, at) in enumerate(rows)
    )
    same = " AND ".join(f"t.{quote_name(pipeline.key[place])} = k.k{place}" for place in places)
    return (
        f"SELECT k.place, {version}::text,"
        f" ({version} > k.version)::int - ({version} < k.version)::int"
        f" FROM (VALUES {values}) AS k (place, {names}, version)"
        f" JOIN {quote_table(pipeline.source)} AS t ON {same} ORDER BY k.place"
    )


def find_row(pipeline: Pipeline, key: Sequence[str]) -> str:
    """One row where the source has a row of this key, else none."""
    return f"SELECT 1 FROM {quote_table(pipeline.source)} WHERE {_compare_key(pipeline, '=', key)}"


def _from_partition(pipeline: Pipeline, partition: Partition) -> str:
    conditions = [_in_window(pipeline, partition.window)]
    if partition.lower is not None:
        conditions.append(_compare_key(pipeline, ">", partition.lower))
    if partition.upper is not None:
        conditions.append(_compare_key(pipeline, "<=", partition.upper))
    if partition.share is not None:
        conditions.append(_in_share(pipeline, *partition.share))
    return f"FROM {quote_table(pipeline.source)} WHERE {' AND '.join(conditions)}"


def _in_share(pipeline: Pipeline, share: int, shares: int) -> str:
    """By the function that PARTITION BY HASH uses for texts, which stays the same over versions of the server."""
    # Columns of several collations have none together.
    key = ", ".join(f"{quote_name(name)}::text" for name in pipeline.key)
    hashed = f"hashtextextended(concat_ws(' ', {key}) COLLATE \"C\", 0)"
    return f"(({hashed} % {int(shares)}) + {int(shares)}) % {int(shares)} = {int(share)}"


def _in_window(pipeline: Pipeline, window: Window) -> str:
    version = quote_name(pipeline.version)
    conditions = [f"{version} <= {_version(pipeline, window.high)}"]
    if window.low is not None:
        conditions.insert(0, f"{version} > {_version(pipeline, window.low)}")
    return " AND ".join(conditions)


def _unreachable(pipeline: Pipeline, window: Window, future: datetime) -> str:
    version = quote_name(pipeline.version)
    infinite = "" if window.low is None else f" OR {version} = '-infinity'"
    return f"({version} > {_version(pipeline, future)}{infinite})"


def _version(pipeline: Pipeline, value: datetime) -> str:
    """A time of UTC as a literal of the version column."""
    return _local_version(pipeline, as_local(value, pipeline.version_zone))


def _local_version(pipeline: Pipeline, value: datetime) -> str:
    """A time without a zone, as the sink has it, as a literal of the version column."""
    text = value.isoformat(sep=" ", timespec="microseconds")
    type_name = pipeline.types[pipeline.version].name
    return f"{quote_text(text + ('+00' if type_name == 'timestamptz' else ''))}::{type_name}"


def _compare_key(pipeline: Pipeline, operator: str, values: Sequence[str]) -> str:
    names = ", ".join(quote_name(name) for name in pipeline.key)
    return f"({names}) {operator} ({_key_literals(pipeline, values)})"


def _key_literals(pipeline: Pipeline, values: Sequence[str]) -> str:
    # char without a length would be char(1); bpchar is char of any length.
    types = [pipeline.types[name].name.replace("varchar", "text") for name in pipeline.key]
    return ", ".join(
        f"{quote_text(value)}::{'bpchar' if type_name == 'char' else type_name}"
        for value, type_name in zip(values, types, strict=True)
    )
