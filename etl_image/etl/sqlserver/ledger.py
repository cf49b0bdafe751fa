"""The ledger: the tables audit, watermark, settled, replaced, backfill, log_position, verification and erasure.

They are in the schema `etl`. The T-SQL for a pipeline's watermark is in watermark.py, that for its replacements in
replaced.py, for its position in the write-ahead log in log_position.py, and for its verifications in verify_sql.py.

Values are literals in the text and not parameters: the steps send it by mssql-python, which marks parameters with ?,
and plan and reconcile by pymssql, which marks them with %s.
"""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime

from etl.model.column_types import ColumnType, parse_column_type
from etl.model.outcome import COUNTS, LATER_COUNTS, LOG_COUNTS
from etl.model.pipeline import Pipeline
from etl.model.table_name import OWN_SCHEMAS, TableName
from etl.model.verification import COUNTS as OF_VERIFICATION
from etl.model.window import KEYS, Window
from etl.sqlserver.sql import Table, quote_names, quote_table, quote_text, quote_time, sink_table, time_text

SCHEMA = OWN_SCHEMAS[0]
AUDIT = TableName(schema_name=SCHEMA, table="audit")
WATERMARK = TableName(schema_name=SCHEMA, table="watermark")
SETTLED = TableName(schema_name=SCHEMA, table="settled")
REPLACED = TableName(schema_name=SCHEMA, table="replaced")
BACKFILL = TableName(schema_name=SCHEMA, table="backfill")
LOG_POSITION = TableName(schema_name=SCHEMA, table="log_position")
VERIFICATION = TableName(schema_name=SCHEMA, table="verification")
ERASURE = TableName(schema_name=SCHEMA, table="erasure")
_AUDIT, _WATERMARK, _SETTLED, _REPLACED, _ERASURE = map(quote_table, (AUDIT, WATERMARK, SETTLED, REPLACED, ERASURE))
_IDENTITY = {"pipeline": "varchar(48)", "run_id": "varchar(250)", "partition_id": "varchar(16)"}
TABLES_LOCK = "etl: create tables"
"""The application lock under which loads create and alter tables."""
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
    backfill = {
        "pipeline": _IDENTITY["pipeline"],
        "column_name": "varchar(63)",
        "added_at": "timestamptz",
        "filled_at": "timestamptz null",
        "run_id": f"{_IDENTITY['run_id']} null",
    }
    log_position = {
        "pipeline": _IDENTITY["pipeline"],
        "slot": "varchar(63)",
        "lsn": "varchar(17)",
        "system_identifier": "varchar(20)",
        "timeline": "bigint",
        "publication": "varchar(64)",
        "run_id": _IDENTITY["run_id"],
        "advanced_at": "timestamptz",
        "window_low": "varchar(17) null",
        **dict.fromkeys(LOG_COUNTS, "bigint null"),
    }
    verification = {
        "pipeline": _IDENTITY["pipeline"],
        "run_id": _IDENTITY["run_id"],
        "mode": "varchar(8)",
        "started_at": "timestamptz",
        "ended_at": "timestamptz",
        **dict.fromkeys(OF_VERIFICATION, "bigint"),
        "verdict": "varchar(16)",
    }
    return [
        Table(AUDIT, _types(audit), tuple(_IDENTITY), indexed=("pipeline", "loaded_at")),
        Table(WATERMARK, _types(watermark), ("pipeline",)),
        Table(SETTLED, _types(settled), ("pipeline",)),
        Table(REPLACED, _types(replaced), ("pipeline",)),
        Table(BACKFILL, _types(backfill), ("pipeline", "column_name")),
        Table(LOG_POSITION, _types(log_position), ("pipeline",)),
        Table(VERIFICATION, _types(verification), ("pipeline", "run_id")),
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


def tables_of_loads(*, reads_log: bool, also: Collection[TableName] = ()) -> list[Table]:
    """The tables that every load needs, and `also` others: a sink that an earlier version has prepared lacks none."""
    unneeded = {VERIFICATION, *(() if reads_log else (LOG_POSITION,))} - {*also}
    return [table for table in tables() if table.name not in unneeded]


def needed_tables(pipeline: Pipeline, *also: TableName) -> list[Table]:
    """Every table that a load of the pipeline needs in the sink, except its staging table, and `also` others."""
    return [*tables_of_loads(reads_log=pipeline.is_log, also=also), sink_table(pipeline)]


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
        **_window(window),
        **{name: counts[name] for name in COUNTS},
        "fingerprint": fingerprint,
        "checksum": checksum,
        "loaded_at": loaded_at,
    }
    return insert(_AUDIT, values)


def count_inserted(pipeline: Pipeline, run_id: str) -> str:
    """One row: how many rows the partitions of a run have inserted, NULL if none is loaded; without that of keys."""
    return (
        f"SELECT SUM([inserted]) FROM {_AUDIT} WHERE {is_of(pipeline)} AND [run_id] = {quote_text(run_id)}"
        f" AND [partition_id] <> {quote_text(KEYS)}"
    )


def latest_compare(pipeline: Pipeline) -> str:
    """When all keys were last compared, as text; NULL before the first time."""
    return (
        f"SELECT {time_text('loaded_at', 'MAX')} FROM {_AUDIT}"
        f" WHERE {is_of(pipeline)} AND [partition_id] = {quote_text(KEYS)}"
    )


def audit_lock(pipeline: Pipeline) -> str:
    """The application lock under which old audit rows are deleted."""
    return f"etl: audit of {pipeline.name}"


def latest_run(pipeline: Pipeline) -> str:
    """The id of the run that was loaded last; no row before the first."""
    return f"SELECT TOP (1) [run_id] FROM {_AUDIT} WHERE {is_of(pipeline)} ORDER BY [loaded_at] DESC"


def prune_audit(pipeline: Pipeline, run_id: str, until: datetime) -> str:
    """Delete some of the pipeline's audit rows that were written before a time, except those of one run."""
    return (
        f"DELETE TOP ({_PRUNED_AT_ONCE}) FROM {_AUDIT} WHERE {is_of(pipeline)}"
        f" AND [loaded_at] < {quote_time(until)} AND [run_id] <> {quote_text(run_id)}"
    )


def summarize_loads() -> str:
    """A row for each pipeline: its name, how many audit rows it has, and the time of the latest."""
    return f"SELECT [pipeline], COUNT_BIG(*), {time_text('loaded_at', 'MAX')} FROM {_AUDIT} GROUP BY [pipeline]"


def read_watermarks() -> str:
    """A row for each pipeline: its name and its watermark."""
    return f"SELECT [pipeline], {time_text('value')} FROM {_WATERMARK} ORDER BY [pipeline]"


def insert_erasure(values: Mapping[str, str | int | datetime]) -> str:
    """Record an erased row."""
    return insert(_ERASURE, values)


def prune_erasures(pipeline: Pipeline, until: datetime) -> str:
    """Delete records of erased rows of the pipeline that were written before a time."""
    return f"DELETE FROM {_ERASURE} WHERE {is_of(pipeline)} AND [erased_at] < {quote_time(until)}"


def insert(table: str, values: Mapping[str, str | int | datetime | None]) -> str:
    """Insert a row of literals into a quoted table; columns without a value stay null."""
    given = {name: _literal(value) for name, value in values.items() if value is not None}
    return f"INSERT INTO {table} ({quote_names(given)}) VALUES ({', '.join(given.values())})"


def _window(window: Window) -> dict[str, datetime | int | None]:
    """The columns of a window: of numbers the times are null and that of the snapshot."""
    if isinstance(window.high, int):
        return {"window_high": window.time, "window_low_number": window.low, "window_high_number": window.high}
    return {"window_low": window.low, "window_high": window.high}


def _literal(value: str | int | datetime) -> str:
    match value:
        case datetime():
            return quote_time(value)
        case int():
            return str(value)
    return quote_text(value)


def is_of(pipeline: Pipeline) -> str:
    """The condition for a pipeline's rows."""
    return f"[pipeline] = {quote_text(pipeline.name)}"


def _is_partition(pipeline: Pipeline, run_id: str, partition_id: str) -> str:
    return f"{is_of(pipeline)} AND [run_id] = {quote_text(run_id)} AND [partition_id] = {quote_text(partition_id)}"


def _numbers(*times: str) -> dict[str, str]:
    """A column beside each time, for versions that are numbers; the time is then that of the source at the plan."""
    return {f"{name}_number": "bigint null" for name in times}


def _types(declarations: dict[str, str]) -> dict[str, ColumnType]:
    return {name: parse_column_type(declaration) for name, declaration in declarations.items()}
