"""Orders that change all the time, and the rows expected in the sink.

A trigger keeps every version of every order in a history table. A confirmed order may change at any moment, but is
cancelled or deleted only after a green run has read it: so the sink must hold exactly the last confirmed version of
each order, however many runs fail.
"""

import random
import time
from datetime import UTC, datetime, timedelta
from threading import Event, Thread
from typing import Any

import psycopg
from etl.model.pipeline import Pipeline

Rows = dict[Any, tuple[Any, ...]]
"""Rows by their key, as dev.sandbox.pipeline_fixture gives them."""
LONGEST_TRANSACTION = timedelta(seconds=8)
"""The server aborts longer ones; well below the look-back of the pipelines."""
_OPERATIONS_A_SECOND = 6.0
_TABLES = """
CREATE TABLE chaos_orders (LIKE orders INCLUDING ALL);
CREATE TABLE chaos_history (LIKE orders);
CREATE INDEX ON chaos_history (order_id, updated_at);
CREATE FUNCTION chaos_keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        OLD.status := 'deleted';
        OLD.updated_at := clock_timestamp();
        INSERT INTO chaos_history SELECT OLD.*;
    ELSE
        INSERT INTO chaos_history SELECT NEW.*;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER touch BEFORE UPDATE ON chaos_orders FOR EACH ROW EXECUTE FUNCTION touch_updated_at();
CREATE TRIGGER keep AFTER INSERT OR UPDATE OR DELETE ON chaos_orders FOR EACH ROW EXECUTE FUNCTION chaos_keep();
INSERT INTO chaos_orders (customer, status, currency, amount, note)
SELECT 'Old ' || n, (ARRAY['confirmed', 'pending', 'shipped'])[1 + n % 3], 'EUR', n, NULLIF('🚚 ' || n, '🚚 7')
FROM generate_series(1, 900) AS n
"""
_CHOSEN = "(SELECT order_id FROM chaos_orders {where} ORDER BY order_id OFFSET floor(%s * {many}) LIMIT 1)"
_INSERT = "INSERT INTO chaos_orders (customer, status, currency, amount, note) VALUES (%s, %s, 'EUR', %s, %s)"
_CHANGE = (
    "UPDATE chaos_orders SET amount = %s, note = %s, status = CASE status WHEN 'confirmed' THEN status ELSE %s END"
    f" WHERE order_id = {_CHOSEN.format(where='', many='(SELECT count(*) FROM chaos_orders)')}"
)
_READ = "status = 'confirmed' AND updated_at < %s"
_OF_THOSE = f"(SELECT count(*) FROM chaos_orders WHERE {_READ})"
_CANCEL = (
    "UPDATE chaos_orders SET status = 'cancelled' WHERE"
    f" {_READ} AND order_id = {_CHOSEN.format(where=f'WHERE {_READ}', many=_OF_THOSE)}"
)
_DELETE = _CANCEL.replace("UPDATE chaos_orders SET status = 'cancelled'", "DELETE FROM chaos_orders")
_LAST_CONFIRMED = """
SELECT DISTINCT ON (order_id) {columns} FROM chaos_history AS h WHERE status = 'confirmed' AND {condition}
ORDER BY order_id, updated_at DESC
"""
_UNTOUCHED = """
updated_at < %s AND NOT EXISTS
    (SELECT 1 FROM chaos_history AS later WHERE later.order_id = h.order_id
     AND later.updated_at > h.updated_at AND later.updated_at < %s)
"""


def make_tables(url: str) -> None:
    """Create the campaign's tables, beside those of the deployment; those of an earlier one are dropped."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS chaos_orders, chaos_history; DROP FUNCTION IF EXISTS chaos_keep")
        connection.execute(_TABLES)


def expected_in_sink(url: str, pipeline: Pipeline) -> Rows:
    """The last confirmed version of each order: the sink's content once a run has read everything."""
    return _rows(url, pipeline, "true")


def expected_after_run(url: str, pipeline: Pipeline, began: datetime, ended: datetime) -> Rows:
    """The confirmed versions that a run must have read: committed before it began, and current when it had ended."""
    return _rows(url, pipeline, _UNTOUCHED, began - LONGEST_TRANSACTION, ended)


def _rows(url: str, pipeline: Pipeline, condition: str, *parameters: datetime) -> Rows:
    columns = ", ".join(f'"{name}"' for name in pipeline.columns)
    query = _LAST_CONFIRMED.format(columns=columns, condition=condition)
    with psycopg.connect(url, options="-c timezone=UTC", connect_timeout=5) as connection:
        rows = connection.execute(query.encode(), parameters or None).fetchall()
    return {row[:1]: tuple(_plain(value) for value in row) for row in rows}


def _plain(value: Any) -> Any:
    return value.replace(tzinfo=None) if isinstance(value, datetime) else value


class Traffic:
    """Changes orders from a thread, as long as the source answers, until it is stopped."""

    def __init__(self, url: str, seed: int) -> None:
        self.read_until = datetime.min.replace(tzinfo=UTC)
        """Versions older than this have been read by a green run of every pipeline."""
        self.done = 0
        self._url = url
        self._choice = random.Random(seed)
        self._stop = Event()
        self._thread = Thread(target=self._run, name="traffic", daemon=True)

    def __enter__(self) -> "Traffic":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop, and wait for the thread."""
        self._stop.set()
        self._thread.join(timeout=60)
        assert not self._thread.is_alive(), "The traffic at the source does not end."

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._work()
            except psycopg.Error:  # the source is down, or has ended the transaction
                self._stop.wait(0.5)

    def _work(self) -> None:
        limit = f"-c transaction_timeout={LONGEST_TRANSACTION / timedelta(milliseconds=1):.0f}"
        with (
            # It must not wait for locks of the other connection.
            psycopg.connect(self._url, autocommit=True, connect_timeout=5, options="-c lock_timeout=500") as connection,
            psycopg.connect(self._url, connect_timeout=5, options=limit) as slow,
        ):
            commit_at = 0.0
            while not self._stop.wait(self._choice.expovariate(_OPERATIONS_A_SECOND)):
                if self._choice.random() < 0.1:
                    # It commits later than others that began after it: the case for the look-back.
                    self._operation(slow)
                    commit_at = commit_at or time.monotonic() + self._choice.uniform(0.5, 5)
                else:
                    self._operation(connection)
                if commit_at and time.monotonic() > commit_at:
                    slow.commit()
                    commit_at = 0.0
                self.done += 1
            slow.commit()

    def _operation(self, connection: psycopg.Connection) -> None:
        choice = self._choice
        kind, which, amount = choice.random(), choice.random(), choice.randrange(1_000_000) / 100
        note = choice.choice((None, "", "déjà vu", "🚚 of the campaign"))
        status = choice.choice(("pending", "confirmed", "confirmed", "shipped", "cancelled"))
        if kind < 0.35:
            connection.execute(_INSERT.encode(), (f"New {choice.randrange(1000)}", status, amount, note))
        elif kind < 0.9:
            connection.execute(_CHANGE.encode(), (amount, note, status, which))
        else:
            before = self.read_until
            connection.execute((_CANCEL if kind < 0.96 else _DELETE).encode(), (before, before, which, before))
