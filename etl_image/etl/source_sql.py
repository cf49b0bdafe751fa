"""The SQL that is sent to Postgres, as text: for `plan` in the DAG and for `extract` in the image."""

from collections.abc import Sequence
from datetime import datetime

from etl.pipeline import Pipeline, TableName
from etl.source_filter import wanted
from etl.source_text import quote_name, quote_text
from etl.window import Partition, Window

SESSION = ("SET TIME ZONE 'UTC'", "SET datestyle = 'ISO, YMD'")
"""Makes key values and times read the same as text in every session."""
ENCODING = (
    "SELECT set_config('client_encoding',"
    " CASE current_setting('server_encoding') WHEN 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END, false)"
)
"""Makes texts come as UTF-8 whatever the database keeps them in; bytes of no encoding come as they are, to be told."""


def quote_table(table: TableName) -> str:
    """A Postgres table, quoted."""
    return f"{quote_name(table.schema_name)}.{quote_name(table.table)}"


def count_window(pipeline: Pipeline, window: Window, watermark: datetime | None = None) -> str:
    """One row: how many rows of the source the window covers, and the age in seconds of the oldest after the watermark.

    The age is null where there is no such row, or no watermark.
    """
    version, age = quote_name(pipeline.version), "NULL"
    if watermark:
        # No row after it is at -infinity, which Postgres takes from now only since version 17.
        age = f"extract(epoch FROM now() - min({version}) FILTER (WHERE {version} > {_version(pipeline, watermark)}))"
    return f"SELECT count(*), {age} FROM {quote_table(pipeline.source)} WHERE {_in_window(pipeline, window)}"


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


def extract_rows(pipeline: Pipeline, partition: Partition) -> str:
    """The rows of one partition, the columns in the pipeline's order; with pushdown, those that may be wanted."""
    columns = ", ".join(quote_name(name) for name in pipeline.columns)
    condition = f" AND ({wanted(pipeline)})" if pipeline.pushdown else ""
    return f"SELECT {columns} {_from_partition(pipeline, partition)}{condition}"


def count_partition(pipeline: Pipeline, partition: Partition) -> str:
    """One row: how many rows a partition has, and how many of them pushdown leaves out."""
    left_out = f"count(*) FILTER (WHERE ({wanted(pipeline)}) IS NOT TRUE)"
    return f"SELECT count(*), {left_out} {_from_partition(pipeline, partition)}"


def versions_of(pipeline: Pipeline, rows: Sequence[tuple[Sequence[str], datetime]]) -> str:
    """Of rows, each its key as text and a version, those that are there.

    A row for each: its place among those given, the version there as text, and whether that is the older one.
    """
    version = f"t.{quote_name(pipeline.version)}"
    places = range(len(pipeline.key))
    names = ", ".join(f"k{place}" for place in places)
    values = ", ".join(
        f"({number}, {_key_literals(pipeline, key)}, {_version(pipeline, at)})" for number, (key, at) in enumerate(rows)
    )
    same = " AND ".join(f"t.{quote_name(pipeline.key[place])} = k.k{place}" for place in places)
    return (
        f"SELECT k.place, {version}::text, {version} < k.version FROM (VALUES {values}) AS k (place, {names}, version)"
        f" JOIN {quote_table(pipeline.source)} AS t ON {same} ORDER BY k.place"
    )


def describe_columns(table: TableName) -> str:
    """A row for each column of a table: name, type, whether it is NOT NULL; none where there is no such table."""
    return (
        "SELECT attname, format_type(atttypid, NULL), attnotnull FROM pg_catalog.pg_attribute"
        f" WHERE attrelid = to_regclass({quote_text(quote_table(table))}) AND attnum > 0 AND NOT attisdropped"
        " ORDER BY attnum"
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


def _from_partition(pipeline: Pipeline, partition: Partition) -> str:
    conditions = [_in_window(pipeline, partition.window)]
    if partition.lower is not None:
        conditions.append(_compare_key(pipeline, ">", partition.lower))
    if partition.upper is not None:
        conditions.append(_compare_key(pipeline, "<=", partition.upper))
    return f"FROM {quote_table(pipeline.source)} WHERE {' AND '.join(conditions)}"


def _in_window(pipeline: Pipeline, window: Window) -> str:
    version = quote_name(pipeline.version)
    conditions = [f"{version} <= {_version(pipeline, window.high)}"]
    if window.low is not None:
        conditions.insert(0, f"{version} > {_version(pipeline, window.low)}")
    return " AND ".join(conditions)


def _version(pipeline: Pipeline, value: datetime) -> str:
    """A version as a literal; a `timestamp` column is taken to hold UTC."""
    text = value.replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")
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
