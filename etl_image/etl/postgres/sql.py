"""SQL for Postgres, as text, for `plan` in the DAG and `extract` in the image."""

from collections.abc import Sequence
from datetime import datetime
from types import MappingProxyType
from typing import cast

from etl.model.column_types import ColumnType
from etl.model.pipeline import Pipeline
from etl.model.source_type import SourceType, SourceTypes, reads
from etl.model.version_kind import Version, day_of
from etl.model.version_zone import as_local
from etl.model.window import Partition, Window
from etl.postgres.beyond import list_adjusted, within
from etl.postgres.filter import pushdown_condition
from etl.postgres.quoting import quote_name, quote_text
from etl.postgres.relation import source_rows

SESSION = (
    "SET LOCAL TIME ZONE 'UTC'",
    "SET LOCAL datestyle = 'ISO, YMD'",
    "SET LOCAL intervalstyle = 'postgres'",
    "SET LOCAL extra_float_digits = 3",
    "SET LOCAL bytea_output = 'hex'",
    "SET LOCAL row_security = off",
    "SELECT set_config(name, '0', true) FROM pg_catalog.pg_settings WHERE name IN"
    " ('statement_timeout', 'transaction_timeout', 'idle_in_transaction_session_timeout')",
)
"""Settings of a transaction: values have one text form, with all digits; a read that row-level security would filter is
refused (42501), and no timeout of a role ends a long read; timeouts that the server does not know are skipped."""
ENCODING = (
    "SELECT set_config('client_encoding',"
    " CASE current_setting('server_encoding') WHEN 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END, false)"
)
"""Texts are sent as UTF-8, whatever the database's encoding is; those of SQL_ASCII as their bytes, to be checked."""
CLOCK = (
    "SELECT now(), CASE WHEN pg_is_in_recovery() THEN pg_last_xact_replay_timestamp() ELSE now() END,"
    " CASE WHEN NOT pg_is_in_recovery() THEN txid_current() END"
)
"""One row: the time at the source, and the time up to which a snapshot taken after this has all commits. On a standby
that is the time of the last commit it has replayed; null if it has replayed none. The third column is a transaction id,
which a standby cannot assign: a snapshot lists open transactions only up to the last id that has ended, so this
transaction is to end before the snapshot."""
TRANSACTIONS = "SELECT txid_snapshot_xmin(txid_current_snapshot()), txid_snapshot_xmax(txid_current_snapshot())"
"""One row: the lowest id of a transaction that is open in this snapshot, and one more than the highest that has ended.
After CLOCK and the end of its transaction, ids from then on are of transactions that began to write later."""
# Names of added columns: a tab is not printable, so no column of a pipeline has such a name.
TOO_LONG, _BYTES, ADJUSTED = "\ttoo long", "\tbytes", "\tadjusted"
_SECONDS_OF_A_DAY = 24 * 60 * 60
_LONGEST_VALUE = 1 << 30
"""Longest value of Postgres, in bytes."""


def count_window(pipeline: Pipeline, window: Window, future: datetime, watermark: Version | None = None) -> str:
    """One row, by one scan: rows in the window, age of the oldest new one, and unreachable rows.

    The age is in seconds, of the oldest row of the window after the watermark, null if there is none; a day has none
    before it ends, and a number never. Unreachable are rows at a version after `future`, at an infinite one, or at none
    (of a view), which the window does not cover.
    """
    version, covered, age = quote_name(pipeline.version_column), _in_window(pipeline, window), "NULL"
    unreachable = _unreachable(pipeline, window, future)
    if watermark is not None and pipeline.version_kind != "number":
        # Only within the window: Postgres subtracts infinity from a time only since version 17.
        oldest = f"min({version}) FILTER (WHERE {covered} AND {version} > {_version(pipeline, watermark)})"
        age = f"extract(epoch FROM now() - {oldest}){_shift(pipeline, window)}"
    return (
        f"SELECT count(*) FILTER (WHERE {covered}), {age}, count(*) FILTER (WHERE {unreachable})"
        f" FROM {source_rows(pipeline)} WHERE ({covered}) OR {unreachable}"
    )


def _shift(pipeline: Pipeline, window: Window) -> str:
    """Seconds to add to the age of a version: a day ends when it is over, and other zones are ahead of UTC."""
    if pipeline.version_kind == "day":
        return f" - {_SECONDS_OF_A_DAY}"
    high = cast("datetime", window.high)
    ahead = as_local(high, pipeline.version_zone) - high.replace(tzinfo=None)
    return f" + {ahead.total_seconds():.0f}" if ahead else ""


def highest_version(pipeline: Pipeline) -> str:
    """One row: the highest version of the source, null if it has no row."""
    return f"SELECT max({quote_name(pipeline.version_column)}) FROM {source_rows(pipeline)}"


def unreachable_rows(pipeline: Pipeline, window: Window, future: datetime, count: int) -> str:
    """Some of the rows that `count_window` counts as unreachable: the key's columns and the version, as text."""
    version = quote_name(pipeline.version_column)
    as_text = ", ".join(f"{quote_name(name)}::text" for name in (*pipeline.key, pipeline.version_column))
    return (
        f"SELECT {as_text} FROM {source_rows(pipeline)} WHERE {_unreachable(pipeline, window, future)}"
        f" ORDER BY {version} DESC LIMIT {int(count)}"
    )


def partition_bounds(pipeline: Pipeline, window: Window, size: int) -> str:
    """The key of every `size`-th row of the window in key order, each column as text."""
    keys = ", ".join(quote_name(name) for name in pipeline.key)
    # Named by number: a column of the key may be called position.
    named = ", ".join(f"{quote_name(name)} AS k{place}" for place, name in enumerate(pipeline.key))
    as_text = ", ".join(f"k{place}::text" for place in range(len(pipeline.key)))
    return (
        f"SELECT {as_text} FROM (SELECT {named}, row_number() OVER (ORDER BY {keys}) AS position"
        f" FROM {source_rows(pipeline)} WHERE {_in_window(pipeline, window)}) AS keys"
        f" WHERE position % {int(size)} = 0 ORDER BY position"
    )


def extract_rows(pipeline: Pipeline, partition: Partition, source: SourceTypes, longest: int = _LONGEST_VALUE) -> str:
    """The rows of one partition, the columns in the pipeline's order; with pushdown, only those that may be kept.

    `source` has the types of the source, which decide how a column is read. With `beyond`, a column ADJUSTED lists the
    columns of which it changes the value. A last column, TOO_LONG, is null except in
    rows whose unbounded columns have more than `longest` bytes together: it then lists the bytes of each, and their
    values are null.
    """
    condition = f" AND ({pushdown_condition(pipeline, source)})" if pipeline.pushdown else ""
    columns = {name: quote_name(name) for name in pipeline.columns}
    sent = {name: read.format(columns[name]) for name, read in reads(pipeline.types, source).items()}
    adjusted = list_adjusted(pipeline, sent) if pipeline.adjusted_columns else ""
    for name in pipeline.adjusted_columns:
        sent[name], _ = within(sent[name], pipeline.types[name], pipeline.beyond[name])
    is_any_cast = sent != columns
    unbounded = [name for name, kind in pipeline.types.items() if kind.is_unbounded and name not in pipeline.key]
    # Postgres knows lengths without reading the values, except of types that are sent as another, which is done once:
    # OFFSET 0 keeps what is computed in a subquery from being computed again for each use.
    read = [f"{sent[name]} AS {quoted}" if sent[name] != quoted else quoted for name, quoted in columns.items()]
    if adjusted:
        columns[ADJUSTED] = quote_name(ADJUSTED)
        read = [*read, f"{adjusted} AS {quote_name(ADJUSTED)}"]
    rows = f"SELECT {', '.join(read)} {_from_partition(pipeline, partition, source)}{condition}"
    if is_any_cast:
        rows += " OFFSET 0"
    lengths = {name: f"octet_length({columns[name]})" for name in unbounded}
    total, bytes_ = (
        " + ".join(["0::bigint", *(f"coalesce({each}, 0)" for each in lengths.values())]),
        quote_name(_BYTES),
    )
    listed = ", ".join(f"({quote_text(name)}, {length})" for name, length in lengths.items()) or "(NULL, NULL)"
    for name in unbounded:
        columns[name] = f"CASE WHEN {bytes_} <= {int(longest)} THEN {columns[name]} END AS {columns[name]}"
    return (
        f"SELECT {', '.join(columns.values())}, CASE WHEN {bytes_} > {int(longest)} THEN (SELECT"
        " string_agg(name || ' has ' || bytes || ' bytes', ', ' ORDER BY bytes DESC)"
        f" FROM (VALUES {listed}) AS listed (name, bytes)) END AS {quote_name(TOO_LONG)}"
        f" FROM (SELECT *, {total} AS {bytes_} FROM ({rows}) AS rows OFFSET 0) AS rows"
    )


def count_partition(pipeline: Pipeline, partition: Partition, source: SourceTypes) -> str:
    """One row: how many rows a partition has, and how many of them pushdown omits."""
    left_out = f"count(*) FILTER (WHERE ({pushdown_condition(pipeline, source)}) IS NOT TRUE)"
    return f"SELECT count(*), {left_out} {_from_partition(pipeline, partition, source)}"


def duplicate_keys(pipeline: Pipeline, partition: Partition, source: SourceTypes) -> str:
    """One row if several rows of a partition that may be kept have one key: how many they are, and the key as text."""
    keys = [quote_name(name) for name in pipeline.key]
    # Named by number: a column of the key may be called anything.
    as_text = ", ".join(f"{name}::text AS k{place}" for place, name in enumerate(keys))
    present = " AND ".join(f"{name} IS NOT NULL" for name in keys)
    return (
        f"SELECT count(*), {as_text} {_from_partition(pipeline, partition, source)} AND {present}"
        f" AND ({pushdown_condition(pipeline, source)}) GROUP BY {', '.join(keys)} HAVING count(*) > 1 LIMIT 1"
    )


def versions_of(pipeline: Pipeline, rows: Sequence[tuple[Sequence[str], datetime | int]], source: SourceTypes) -> str:
    """A row for each of the given rows that the source has; given are the key as text, and the version in the sink.

    Its columns: the index in `rows`, the version at the source as text, and -1, 0 or 1 if that is older than the given
    one, the same, or newer.
    """
    version = quote_name(pipeline.version_column)
    keys = [quote_name(name) for name in pipeline.key]
    named = ", ".join(f"{name} AS k{place}" for place, name in enumerate(keys))
    # The first, without rows, gives the literals the types of the columns.
    given = [f"SELECT 0 AS place, {named}, {version} AS version FROM {source_rows(pipeline)} WHERE false"]
    given += [
        f"SELECT {number}, {key_literals(pipeline, key, source)}, {_local_version(pipeline, at)}"
        for number, (key, at) in enumerate(rows)
    ]
    same = " AND ".join(f"t.{name} = k.k{place}" for place, name in enumerate(compared_keys(pipeline, source)))
    return (
        f"SELECT k.place, t.{version}::text,"
        f" (t.{version} > k.version)::int - (t.{version} < k.version)::int"
        f" FROM ({' UNION ALL '.join(given)}) AS k JOIN {source_rows(pipeline, 't')} ON {same} ORDER BY k.place"
    )


def find_row(pipeline: Pipeline, key: Sequence[str], source: SourceTypes) -> str:
    """One row if the source has a row of this key, else none."""
    names = ", ".join(compared_keys(pipeline, source))
    return f"SELECT 1 FROM {source_rows(pipeline)} WHERE ({names}) = ({key_literals(pipeline, key, source)})"


def compared_keys(pipeline: Pipeline, source: SourceTypes) -> list[str]:
    """The columns of the key as `key_literals` are compared with: a domain of an enum as the enum itself."""
    enums = {name: kind.name for name, kind in source.items() if kind.is_enum}
    return [f"{quote_name(name)}::{enums[name]}" if name in enums else quote_name(name) for name in pipeline.key]


def _from_partition(pipeline: Pipeline, partition: Partition, source: SourceTypes) -> str:
    conditions = [_in_window(pipeline, partition.window)]
    if partition.lower is not None:
        conditions.append(_compare_key(pipeline, ">", partition.lower, source))
    if partition.upper is not None:
        conditions.append(_compare_key(pipeline, "<=", partition.upper, source))
    if partition.keys is not None:
        names = ", ".join(compared_keys(pipeline, source))
        listed = ", ".join(f"({key_literals(pipeline, key)})" for key in partition.keys)
        conditions.append(f"({names}) IN ({listed})")
    if partition.share is not None:
        conditions.append(_in_share(pipeline, *partition.share))
    return f"FROM {source_rows(pipeline)} WHERE {' AND '.join(conditions)}"


def _in_share(pipeline: Pipeline, share: int, shares: int) -> str:
    """By the hash function of PARTITION BY HASH for texts, which is the same in all versions of the server."""
    # Columns of different collations concatenate to a text without one.
    key = ", ".join(f"{quote_name(name)}::text" for name in pipeline.key)
    hashed = f"hashtextextended(concat_ws(' ', {key}) COLLATE \"C\", 0)"
    return f"(({hashed} % {int(shares)}) + {int(shares)}) % {int(shares)} = {int(share)}"


def _in_window(pipeline: Pipeline, window: Window) -> str:
    if pipeline.version is None or pipeline.is_log:  # of a log the snapshot is of all rows
        return "true"
    version = quote_name(pipeline.version_column)
    conditions = [f"{version} <= {_version(pipeline, window.high)}"]
    if window.low is not None:
        conditions.insert(0, f"{version} > {_version(pipeline, window.low)}")
    return " AND ".join(conditions)


def _unreachable(pipeline: Pipeline, window: Window, future: datetime) -> str:
    version = quote_name(pipeline.version_column)
    if pipeline.version_kind == "number":
        return f"{version} IS NULL"
    if pipeline.version_kind == "day":
        future = day_of(future, pipeline.version_zone)
    infinite = "" if window.low is None else f" OR {version} = '-infinity'"
    return f"({version} > {_version(pipeline, future)}{infinite} OR {version} IS NULL)"


def _version(pipeline: Pipeline, value: Version) -> str:
    """A version as a literal of its column."""
    is_time = isinstance(value, datetime) and pipeline.version_kind == "time"
    return _local_version(pipeline, as_local(value, pipeline.version_zone) if is_time else value)


def _local_version(pipeline: Pipeline, value: datetime | int) -> str:
    """A version as the sink has it, a time without a zone, as a literal of its column."""
    type_name = pipeline.types[pipeline.version_column].name
    if isinstance(value, int):
        return f"{int(value)}::bigint"
    if type_name == "date":
        return f"{quote_text(value.date().isoformat())}::date"
    text = value.isoformat(sep=" ", timespec="microseconds")
    return f"{quote_text(text + ('+00' if type_name == 'timestamptz' else ''))}::{type_name}"


def _compare_key(pipeline: Pipeline, operator: str, values: Sequence[str], source: SourceTypes) -> str:
    # With a constant Postgres would use no index; it has one value in all rows.
    pairs = zip(pipeline.key, compared_keys(pipeline, source), values, strict=True)
    varying = [each for each in pairs if each[0] not in pipeline.constants]
    names = ", ".join(column for _, column, _ in varying)
    literals = ", ".join(_key_literal(value, pipeline.types[name], None) for name, _, value in varying)
    return f"({names}) {operator} ({literals})"


def key_literals(pipeline: Pipeline, values: Sequence[str], source: SourceTypes = MappingProxyType({})) -> str:
    """The values of a key, as literals with commas between them; to be compared with the columns themselves.

    With the types of the source, those of the sink: a label that its enum does not have any more is null then.
    """
    return ", ".join(
        _key_literal(value, pipeline.types[name], source.get(name))
        for value, name in zip(values, pipeline.key, strict=True)
    )


def _key_literal(value: str, kind: ColumnType, source: SourceType | None) -> str:
    text = quote_text(value)
    if source and source.is_enum:  # of which Postgres refuses a label that was renamed
        return (
            f"(SELECT e.label FROM unnest(enum_range(NULL::{source.name})) AS e (label) WHERE e.label::text = {text})"
        )
    # A text takes the type of the column beside it, such as an enum, which Postgres does not compare with text.
    return text if kind.is_text else f"{text}::{kind.name}"
