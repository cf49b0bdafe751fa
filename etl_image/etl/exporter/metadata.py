"""Metrics of Airflow's metadata database: its state, and durations that Airflow itself does not report.

Airflow 3 does not send how long tasks are queued (apache/airflow#63503), nor that a run is overdue; its tables have it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import adbc_driver_manager.dbapi as dbapi
import adbc_driver_postgresql.dbapi as postgres
from prometheus_client import Histogram, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from etl.config.settings import Settings
from etl.exporter.poller import TIMEOUT_SECONDS, Database, Rows
from etl.logs import redact
from etl.postgres.quoting import quote_text

_SESSION = (
    "SET application_name = 'etl export-metrics'",
    f"SET statement_timeout = '{TIMEOUT_SECONDS}s'",
    "SET TIME ZONE 'UTC'",
)
_SERVER = (
    "SELECT pg_database_size(current_database()), current_setting('max_connections')::bigint, deadlocks"
    " FROM pg_stat_database WHERE datname = current_database()"
)
_CONNECTIONS = (
    "SELECT coalesce(state, 'unknown'), count(*), coalesce(max(extract(epoch FROM now() - xact_start)), 0)::float8"
    " FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() GROUP BY 1"
)
_TABLES = (
    "SELECT relname::text, pg_total_relation_size(relid), n_dead_tup FROM pg_stat_user_tables"
    " ORDER BY pg_total_relation_size(relid) DESC LIMIT 10"
)
_QUEUED = (
    "SELECT dag_id, task_id, max(extract(epoch FROM now() - queued_dttm))::float8 FROM task_instance"
    " WHERE state = 'queued' AND queued_dttm IS NOT NULL GROUP BY 1, 2"
)
_RUNS = (
    "SELECT dag_id, max(extract(epoch FROM now() - coalesce(start_date, queued_at)))::float8 FROM dag_run"
    " WHERE state IN ('queued', 'running') GROUP BY 1"
)
_OVERDUE = (
    "SELECT dag_id, greatest(0, extract(epoch FROM now() - next_dagrun_create_after))::float8 FROM dag"
    " WHERE NOT is_paused AND NOT is_stale AND next_dagrun_create_after IS NOT NULL"
)
_HEARTBEATS = (
    "SELECT job_type, min(extract(epoch FROM now() - latest_heartbeat))::float8 FROM job"
    " WHERE state = 'running' GROUP BY 1"
)
# Attempts that started since; found by the few recent runs, over an index. A resumed task was queued again after its
# start, which is not measured.
_STARTED = """
WITH recent AS (SELECT dag_id, run_id FROM dag_run WHERE end_date IS NULL OR end_date > {since})
SELECT id::text, dag_id, task_id, extract(epoch FROM start_date - queued_dttm)::float8
FROM (
    SELECT id, dag_id, run_id, task_id, start_date, queued_dttm FROM task_instance
    UNION ALL
    SELECT task_instance_id, dag_id, run_id, task_id, start_date, queued_dttm FROM task_instance_history
) AS attempt JOIN recent USING (dag_id, run_id)
WHERE start_date > {since} AND start_date >= queued_dttm
"""
_LATE = "interval '5 minutes'"
"""How long after its start the row of an attempt may be committed."""
_BUCKETS = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)


class QueueTimes:
    """Histogram of queue times, of attempts that started while this process ran."""

    def __init__(self) -> None:
        self._histogram = Histogram(
            "airflow_task_queued_duration_seconds",
            "Time from queued to running, of each attempt.",
            ("dag_id", "task_id"),
            buckets=_BUCKETS,
            registry=None,
        )
        self._since = ""
        self._seen: set[str] = set()

    def ask(self, rows: Rows) -> Iterator[Metric]:
        """Count attempts that started since the last call, each once."""
        if not self._since:
            ((self._since,),) = rows("SELECT now()::text")
        ((late,),) = rows(f"SELECT greatest({quote_text(self._since)}::timestamptz, now() - {_LATE})::text")
        found = rows(_STARTED.format(since=f"{quote_text(self._since)}::timestamptz"))
        for attempt, dag_id, task_id, seconds in found:
            if attempt not in self._seen:
                self._histogram.labels(dag_id, task_id).observe(seconds)
        # The next query does not find attempts that started before its `since`.
        self._seen = {attempt for attempt, *_ in found}
        self._since = late
        yield from self._histogram.collect()


def metadata_database(settings: Settings) -> Database:
    """Airflow's metadata database. Raises ConfigurationError where its settings are wrong."""
    limits = {"connect_timeout": str(TIMEOUT_SECONDS), "tcp_user_timeout": str(2 * TIMEOUT_SECONDS * 1000)}
    url = settings.metadata(**limits).get_secret_value()

    @contextmanager
    def connect() -> Iterator[Rows]:
        try:
            with postgres.connect(url, autocommit=True) as connection, connection.cursor() as cursor:

                def rows(query: str) -> list[tuple[object, ...]]:
                    cursor.execute(query)
                    return [tuple(row) for row in cursor.fetchall()]

                for statement in _SESSION:
                    cursor.execute(statement)
                yield rows
        except dbapi.Error as error:
            raise RuntimeError(redact(str(error), settings.secrets())) from None

    queries = {
        "server": _server,
        "connections": _connections,
        "tables": _tables,
        "queued": _queued,
        "runs": _runs,
        "overdue": _overdue,
        "heartbeats": _heartbeats,
        "queue_times": QueueTimes().ask,
    }
    return Database("metadata", connect, queries)


def _server(rows: Rows) -> Iterator[Metric]:
    ((size, most, deadlocks),) = rows(_SERVER)
    yield GaugeMetricFamily("metadata_size_bytes", "Size of Airflow's metadata database.", value=size)
    yield GaugeMetricFamily("metadata_max_connections", "How many connections the server allows.", value=most)
    yield CounterMetricFamily("metadata_deadlocks", "Deadlocks in the metadata database.", value=deadlocks)


def _connections(rows: Rows) -> Iterator[Metric]:
    found = rows(_CONNECTIONS)
    by_state = GaugeMetricFamily("metadata_connections", "Connections to the metadata database.", labels=("state",))
    for state, count, _ in found:
        by_state.add_metric((state,), count)
    yield by_state
    oldest = max((seconds for *_, seconds in found), default=0.0)
    yield GaugeMetricFamily("metadata_oldest_transaction_seconds", "Age of the oldest open transaction.", value=oldest)


def _tables(rows: Rows) -> Iterator[Metric]:
    sizes = GaugeMetricFamily("metadata_table_size_bytes", "Size of the ten largest tables.", labels=("table",))
    dead = GaugeMetricFamily("metadata_dead_rows", "Rows that wait to be vacuumed.", labels=("table",))
    for table, size, dead_rows in rows(_TABLES):
        sizes.add_metric((table,), size)
        dead.add_metric((table,), dead_rows)
    yield from (sizes, dead)


def _queued(rows: Rows) -> Iterator[Metric]:
    help_text = "How long the task that waits longest has been queued until now."
    yield _gauge("airflow_task_queued_age_seconds", help_text, ("dag_id", "task_id"), rows(_QUEUED))


def _runs(rows: Rows) -> Iterator[Metric]:
    yield _gauge("airflow_dag_run_age_seconds", "Age of the oldest run that has not ended.", ("dag_id",), rows(_RUNS))


def _overdue(rows: Rows) -> Iterator[Metric]:
    help_text = "How long ago the next run should have been created."
    yield _gauge("airflow_dag_overdue_seconds", help_text, ("dag_id",), rows(_OVERDUE))


def _heartbeats(rows: Rows) -> Iterator[Metric]:
    help_text = "How long ago a component last wrote its heartbeat."
    yield _gauge("airflow_job_heartbeat_age_seconds", help_text, ("job_type",), rows(_HEARTBEATS))


def _gauge(name: str, help_text: str, labels: tuple[str, ...], found: list[tuple[object, ...]]) -> Metric:
    """A gauge from rows of label values and the value."""
    gauge = GaugeMetricFamily(name, help_text, labels=labels)
    for *values, value in found:
        gauge.add_metric([str(each) for each in values], float(str(value)))
    return gauge
