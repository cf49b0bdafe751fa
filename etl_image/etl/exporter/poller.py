"""Polls a database, and keeps its last answer for scrapes."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import structlog
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

EVERY_SECONDS = 15.0
TIMEOUT_SECONDS = 5
"""Timeout of a connection, and of a query."""
_STALE_SECONDS = 60.0
"""An older answer is not served: the database, or the network to it, hangs."""

Rows = Callable[[str], list[tuple[Any, ...]]]
"""Runs a query and returns its rows."""


@dataclass(frozen=True)
class Database:
    """A database to poll: how to connect, and the queries by name, each with its metrics."""

    name: str
    connect: Callable[[], AbstractContextManager[Rows]]
    queries: Mapping[str, Callable[[Rows], Iterable[Metric]]]


class Poller(Collector):
    """Polls one database and keeps its last answer."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._answer: list[Metric] = []
        self._answered = time.monotonic()
        self._is_up = False
        self._logged: dict[str, str] = {}

    def run(self, stopped: threading.Event) -> None:
        """Poll until the event is set."""
        while not stopped.is_set():
            self.poll()
            stopped.wait(EVERY_SECONDS)

    def poll(self) -> None:
        """Poll once. A failed query has no metrics, the others have theirs."""
        name = self._database.name
        answer: list[Metric] = []
        answers = GaugeMetricFamily(f"{name}_query_up", "Whether a query was answered.", labels=("query",))
        try:
            with self._database.connect() as rows:
                for query, ask in self._database.queries.items():
                    asked = self._ask(query, ask, rows)
                    answers.add_metric((query,), float(asked is not None))
                    answer += asked or []
            self._answer, self._is_up = [*answer, answers], True
            self._log_change("connect", "")
        except Exception as error:  # of any driver: the database is down, which is logged
            self._answer, self._is_up = [], False
            self._log_change("connect", f"{name}: {_first_line(error)}")
        self._answered = time.monotonic()

    def collect(self) -> Iterator[Metric]:
        """The last answer, and whether the database is up."""
        name = self._database.name
        is_up = self._is_up and not self.is_stuck
        yield GaugeMetricFamily(f"{name}_up", f"Whether the {name} database answers.", value=float(is_up))
        if is_up:
            yield from self._answer

    @property
    def is_stuck(self) -> bool:
        """Whether the last answer is too old: a poll hangs in spite of its timeouts."""
        return time.monotonic() - self._answered > _STALE_SECONDS

    def _ask(self, query: str, ask: Callable[[Rows], Iterable[Metric]], rows: Rows) -> list[Metric] | None:
        try:
            answer = list(ask(rows))
        except Exception as error:  # a missing grant or table, a timeout: logged once, and the others are run
            self._log_change(query, f"{self._database.name}: query {query}: {_first_line(error)}")
            return None
        self._log_change(query, "")
        return answer

    def _log_change(self, about: str, words: str) -> None:
        """Log a message once, and when the problem is gone."""
        if words and words != self._logged.get(about):
            structlog.get_logger().warning(words)
        elif not words and self._logged.get(about):
            structlog.get_logger().info(f"{self._database.name}: {about}: well again")
        self._logged[about] = words


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
