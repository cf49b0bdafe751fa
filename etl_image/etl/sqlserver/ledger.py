"""The ledger: the tables audit, watermark, settled, replaced and erasure of the sink's schema `etl`, and their T-SQL.

Values are literals in the text and not parameters: the steps send it by mssql-python, which marks parameters with ?,
and plan and reconcile by pymssql, which marks them with %s.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

from etl.model.column_types import ColumnType, parse_column_type
from etl.model.outcome import COUNTS, LATER_COUNTS
from etl.model.pipeline import OWN_SCHEMAS, Pipeline, TableName
from etl.model.window import KEYS, Settled, Window
from etl.sqlserver.sql import Table, quote_names, quote_table, quote_text, quote_time, sink_table, time_text

SCHEMA = OWN_SCHEMAS[0]
AUDIT = TableName(schema_name=SCHEMA, table="audit")
WATERMARK = TableName(schema_name=SCHEMA, table="watermark")
SETTLED = TableName(schema_name=SCHEMA, table="settled")
REPLACED = TableName(schema_name=SCHEMA, table="replaced")
ERASURE = TableName(schema_name=SCHEMA, table="erasure")
_AUDIT, _WATERMARK, _SETTLED, _REPLACED, _ERASURE = map(quote_table, (AUDIT, WATERMARK, SETTLED, REPLACED, ERASURE))
_IDENTITY = {"pipeline": "varchar(48)", "run_id": "varchar(250)", "partition_id": "varchar(16)"}
_PRUNED_AT_ONCE = 1000
"""Audit rows that a load deletes at most: SQL Server makes 5000 row locks one lock of the table."""


def tables() -> list[Table]:
    """The tables that every load needs, which all pipelines share.

    Columns that a version of this software adds are nullable, so that they can be added to tables with rows, and the
    version before still writes rows.
    """
    audit = {
        **_IDENTITY,
        "window_low": "timestamptz null",
        "window_high": "timestamptz",
        **{name: "bigint null" if name in LATER_COUNTS else "bigint" for name in COUNTS},
        "fingerprint": "varchar(16)",
        "checksum": "varchar(16)",
        "loaded_at": "timestamptz",
        **_numbers("window_low", "window_high"),
    }
    watermark = {
        "pipeline": _IDENTITY["pipeline"],
        "value": "timestamptz",
        "run_id": _IDENTITY["run_id"],
        "advanced_at": "timestamptz",
        **_numbers("value"),
    }
    settled = {
        "pipeline": _IDENTITY["pipeline"],
        "value": "timestamptz",
        "pending": "timestamptz",
        "xmax": "bigint",
        "run_id": _IDENTITY["run_id"],
        **_numbers("value", "pending"),
    }
    replaced = {
        "pipeline": _IDENTITY["pipeline"],
        "definition": "varchar(16)",
        "source_rows": "bigint",
        "source_hash": "varchar(48)",
        "sink_rows": "bigint",
        "read_at": "timestamptz",
        "run_id": _IDENTITY["run_id"],
    }
    return [
        Table(AUDIT, _types(audit), tuple(_IDENTITY), indexed=("pipeline", "loaded_at")),
        Table(WATERMARK, _types(watermark), ("pipeline",)),
        Table(SETTLED, _types(settled), ("pipeline",)),
        Table(REPLACED, _types(replaced), ("pipeline",)),
    ]


def erasure_table() -> Table:
    """The record of erased rows; `etl erase` creates it when it first runs."""
    columns = {
        "pipeline": _IDENTITY["pipeline"],
        "erased_at": "timestamptz",
        "row_mask": "varchar(400)",
        "rows_erased": "bigint",
        "partitions_erased": "bigint",
        "source_asked": "smallint",
    }
    return Table(ERASURE, _types(columns), ("pipeline", "erased_at"))


def needed_tables(pipeline: Pipeline) -> list[Table]:
    """Every table that a load of the pipeline needs in the sink, except its staging table."""
    return [*tables(), sink_table(pipeline)]


def utc(text: str) -> datetime:
    """A time of the ledger, selected by `time_text`: the columns are datetime2 in UTC, without a zone."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def read_audit(pipeline: Pipeline, run_id: str) -> str:
    """A row for each partition of a run that was loaded: partition, fingerprint, and the COUNTS."""
    return (
        f"SELECT [partition_id], [fingerprint], {quote_names(COUNTS)} FROM {_AUDIT}"
        f" WHERE [pipeline] = {quote_text(pipeline.name)} AND [run_id] = {quote_text(run_id)}"
    )


def find_audit(pipeline: Pipeline, run_id: str, partition_id: str) -> str:
    """The fingerprint and checksum of one partition's audit row; no row if it was not loaded."""
    return f"SELECT [fingerprint], [checksum] FROM {_AUDIT} WHERE {_is_partition(pipeline, run_id, partition_id)}"


def delete_audit(pipeline: Pipeline, run_id: str, partition_id: str) -> str:
    """Delete one partition's audit row."""
    return f"DELETE FROM {_AUDIT} WHERE {_is_partition(pipeline, run_id, partition_id)}"


def insert_audit(
    pipeline: Pipeline,
    run_id: str,
    partition_id: str,
    *,
    window: Window,
    counts: Mapping[str, int],
    fingerprint: str,
    checksum: str,
    loaded_at: datetime,
) -> str:
    """Write one partition's audit row."""
    values = {
        "pipeline": pipeline.name,
        "run_id": run_id,
        "partition_id": partition_id,
        "window_low": window.low,
        "window_high": window.high,
        **{name: counts[name] for name in COUNTS},
        "fingerprint": fingerprint,
        "checksum": checksum,
        "loaded_at": loaded_at,
    }
    return _insert(_AUDIT, values)


def latest_compare(pipeline: Pipeline) -> str:
    """When all keys were last compared, as text; NULL before the first time."""
    return (
        f"SELECT {time_text('loaded_at', 'MAX')} FROM {_AUDIT}"
        f" WHERE {_is(pipeline)} AND [partition_id] = {quote_text(KEYS)}"
    )


def audit_lock(pipeline: Pipeline) -> str:
    """The application lock under which old audit rows are deleted."""
    return f"etl: audit of {pipeline.name}"


def latest_run(pipeline: Pipeline) -> str:
    """The id of the run that was loaded last; no row before the first."""
    return f"SELECT TOP (1) [run_id] FROM {_AUDIT} WHERE {_is(pipeline)} ORDER BY [loaded_at] DESC"


def prune_audit(pipeline: Pipeline, run_id: str, until: datetime) -> str:
    """Delete some of the pipeline's audit rows that were written before a time, except those of one run."""
    return (
        f"DELETE TOP ({_PRUNED_AT_ONCE}) FROM {_AUDIT} WHERE {_is(pipeline)}"
        f" AND [loaded_at] < {quote_time(until)} AND [run_id] <> {quote_text(run_id)}"
    )


def summarize_loads() -> str:
    """A row for each pipeline: its name, how many audit rows it has, and the time of the latest."""
    return f"SELECT [pipeline], COUNT_BIG(*), {time_text('loaded_at', 'MAX')} FROM {_AUDIT} GROUP BY [pipeline]"


def read_watermarks() -> str:
    """A row for each pipeline: its name and its watermark."""
    return f"SELECT [pipeline], {time_text('value')} FROM {_WATERMARK} ORDER BY [pipeline]"


def read_watermark(pipeline: Pipeline) -> str:
    """The watermark of a pipeline; no row before its first run."""
    return f"SELECT {time_text('value')} FROM {_WATERMARK} WHERE {_is(pipeline)}"


def advance_watermark(pipeline: Pipeline, run_id: str, window: Window) -> str:
    """Move the watermark to the end of a window: forward only, and not if the window begins too late.

    A window that begins later than the look-back before the watermark leaves late commits before it unread.
    """
    high = quote_time(window.high)
    reaches = f" AND [value] >= {quote_time(window.low + pipeline.look_back)}" if window.low else ""
    return (
        f"UPDATE {_WATERMARK} SET [value] = {high}, [run_id] = {quote_text(run_id)}, [advanced_at] = SYSUTCDATETIME()"
        f" WHERE {_is(pipeline)} AND [value] < {high}{reaches}"
    )


def insert_watermark(pipeline: Pipeline, run_id: str, window: Window) -> str:
    """Set the first watermark, if there is none."""
    return (
        f"INSERT INTO {_WATERMARK} ([pipeline], [value], [run_id], [advanced_at]) SELECT {quote_text(pipeline.name)},"
        f" {quote_time(window.high)}, {quote_text(run_id)}, SYSUTCDATETIME()"
        f" WHERE NOT EXISTS (SELECT 1 FROM {_WATERMARK} WHERE {_is(pipeline)})"
    )


def read_settled(pipeline: Pipeline) -> str:
    """The row of a pipeline, value, pending, xmax; none before its first run."""
    return f"SELECT {time_text('value')}, {time_text('pending')}, [xmax] FROM {_SETTLED} WHERE {_is(pipeline)}"


def write_settled(pipeline: Pipeline, run_id: str, settled: Settled) -> list[str]:
    """Update the row of a pipeline, then insert it if there was none."""
    value, pending = quote_time(settled.value), quote_time(settled.pending)
    run, xmax = quote_text(run_id), int(settled.xmax)
    return [
        f"UPDATE {_SETTLED} SET [value] = {value}, [pending] = {pending}, [xmax] = {xmax}, [run_id] = {run}"
        f" WHERE {_is(pipeline)}",
        f"INSERT INTO {_SETTLED} ([pipeline], [value], [pending], [xmax], [run_id])"
        f" SELECT {quote_text(pipeline.name)}, {value}, {pending}, {xmax}, {run}"
        f" WHERE NOT EXISTS (SELECT 1 FROM {_SETTLED} WHERE {_is(pipeline)})",
    ]


def insert_erasure(values: Mapping[str, str | int | datetime]) -> str:
    """Record an erased row."""
    return _insert(_ERASURE, values)


def prune_erasures(pipeline: Pipeline, until: datetime) -> str:
    """Delete records of erased rows of the pipeline that were written before a time."""
    return f"DELETE FROM {_ERASURE} WHERE {_is(pipeline)} AND [erased_at] < {quote_time(until)}"


def _insert(table: str, values: Mapping[str, str | int | datetime | None]) -> str:
    given = {name: _literal(value) for name, value in values.items() if value is not None}
    return f"INSERT INTO {table} ({quote_names(given)}) VALUES ({', '.join(given.values())})"


def _literal(value: str | int | datetime) -> str:
    match value:
        case datetime():
            return quote_time(value)
        case int():
            return str(value)
    return quote_text(value)


def _is(pipeline: Pipeline) -> str:
    return f"[pipeline] = {quote_text(pipeline.name)}"


def _is_partition(pipeline: Pipeline, run_id: str, partition_id: str) -> str:
    return f"{_is(pipeline)} AND [run_id] = {quote_text(run_id)} AND [partition_id] = {quote_text(partition_id)}"


def _numbers(*times: str) -> dict[str, str]:
    """A column beside each time, for versions that are numbers; the time is then that of the source at the plan."""
    return {f"{name}_number": "bigint null" for name in times}


def _types(declarations: dict[str, str]) -> dict[str, ColumnType]:
    return {name: parse_column_type(declaration) for name, declaration in declarations.items()}
