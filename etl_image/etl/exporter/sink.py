"""Metrics of the sink: its size, its counters, and the watermarks and loads of the pipelines."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import mssql_python
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from etl.config.settings import Settings
from etl.exporter.poller import TIMEOUT_SECONDS, Database, Rows
from etl.sqlserver import ledger, log_position
from etl.sqlserver.connection import connect as open_sink
from etl.sqlserver.connection import translate_error
from etl.sqlserver.sink import Sink
from etl.sqlserver.sql import find_columns

_PAGE_BYTES = 8192
_SIZES = "SELECT type_desc, SUM(CAST(size AS bigint)) FROM sys.database_files GROUP BY type_desc"
_FILES = {"ROWS": "data", "LOG": "log"}
# SQL Server reports its version since 2012. Only Express has a limit, for the data files of each database:
# https://learn.microsoft.com/sql/sql-server/editions-and-components-of-sql-server-2022 and …-2025, "Scale limits".
_EDITION = (
    "SELECT CAST(SERVERPROPERTY('EngineEdition') AS int), CAST(SERVERPROPERTY('ProductMajorVersion') AS nvarchar(9))"
)
_EXPRESS = 4
_GIB = 1024**3
_VERSION_2025 = 17
# Of the whole server, except the transactions. Needs VIEW SERVER PERFORMANCE STATE, before 2022 VIEW SERVER STATE.
_COUNTERS = (
    "SELECT RTRIM(counter_name), cntr_value FROM sys.dm_os_performance_counters"
    " WHERE (counter_name = 'User Connections')"
    " OR (counter_name = 'Transactions' AND instance_name = DB_NAME())"
    " OR (counter_name IN ('Number of Deadlocks/sec', 'Lock Waits/sec') AND instance_name = '_Total')"
)


def sink_database(settings: Settings) -> Database:
    """The sink. Raises ConfigurationError for wrong settings."""
    settings.sink_exporter()

    @contextmanager
    def connect() -> Iterator[Rows]:
        try:
            connection = open_sink(settings, settings.sink_exporter(), autocommit=True, timeout=TIMEOUT_SECONDS)
            connection.timeout = TIMEOUT_SECONDS
            try:
                yield Sink(connection).rows
            finally:
                connection.close()
        except (mssql_python.Error, RuntimeError) as error:
            raise translate_error(error, "export-metrics", settings) from None

    queries = {
        "size": _size,
        "edition": _size_limit,
        "watermarks": _watermarks,
        "log_positions": _log_positions,
        "loads": _loads,
        "counters": _counters,
    }
    return Database("sink", connect, queries)


def _size(rows: Rows) -> Iterator[Metric]:
    size = GaugeMetricFamily("sink_size_bytes", "Size of the sink's files.", labels=("file",))
    for kind, pages in rows(_SIZES):
        if kind in _FILES:
            size.add_metric((_FILES[kind],), int(pages) * _PAGE_BYTES)
    yield size


def _size_limit(rows: Rows) -> Iterator[Metric]:
    ((edition, version),) = rows(_EDITION)
    if edition == _EXPRESS:
        limit = (50 if int(version or 0) >= _VERSION_2025 else 10) * _GIB
        yield GaugeMetricFamily("sink_size_limit_bytes", "What the data files may have at most.", value=limit)


def _watermarks(rows: Rows) -> Iterator[Metric]:
    ages = GaugeMetricFamily(
        "etl_watermark_age_seconds", "Time since the version up to which the sink is complete.", labels=("pipeline",)
    )
    now = datetime.now(UTC)
    for pipeline, value in rows(ledger.read_watermarks()):
        ages.add_metric((pipeline,), (now - ledger.utc(value)).total_seconds())
    yield ages


def _log_positions(rows: Rows) -> Iterator[Metric]:
    ages = GaugeMetricFamily(
        "etl_log_position_age_seconds",
        "Time since the position in the source's write-ahead log was last moved or found to be its end.",
        labels=("pipeline",),
    )
    # The first load of a pipeline that reads the log makes the table.
    if rows(find_columns(ledger.LOG_POSITION)):
        now = datetime.now(UTC)
        for pipeline, value in rows(log_position.read_times()):
            ages.add_metric((pipeline,), (now - ledger.utc(value)).total_seconds())
    yield ages


def _loads(rows: Rows) -> Iterator[Metric]:
    counts = GaugeMetricFamily(
        "etl_audit_rows", "Rows of the audit: partitions that were loaded.", labels=("pipeline",)
    )
    latest = GaugeMetricFamily(
        "etl_last_load_timestamp_seconds", "When a partition was last loaded.", labels=("pipeline",)
    )
    for pipeline, count, loaded_at in rows(ledger.summarize_loads()):
        counts.add_metric((pipeline,), int(count))
        latest.add_metric((pipeline,), ledger.utc(loaded_at).timestamp())
    yield from (counts, latest)


def _counters(rows: Rows) -> Iterator[Metric]:
    found = {name: int(value) for name, value in rows(_COUNTERS)}
    gauges = {
        "User Connections": ("sink_sessions", "Sessions of all users of the server."),
        "Transactions": ("sink_open_transactions", "Open transactions in the sink."),
    }
    counters = {
        "Number of Deadlocks/sec": ("sink_deadlocks", "Deadlocks of the whole server."),
        "Lock Waits/sec": ("sink_lock_waits", "Requests of the whole server that had to wait for a lock."),
    }
    for counter, (name, help_text) in gauges.items():
        yield GaugeMetricFamily(name, help_text, value=found[counter])
    for counter, (name, help_text) in counters.items():
        yield CounterMetricFamily(name, help_text, value=found[counter])
