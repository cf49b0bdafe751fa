"""Asks a database from time to time, and keeps what it last answered."""

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
"""How long to wait for a connection, and for the answer to a query."""
_STALE_SECONDS = 60.0
"""An answer older than this is none: the database, or the network to it, hangs."""

Rows = Callable[[str], list[tuple[Any, ...]]]
"""Runs a query and returns its rows."""


@dataclass(frozen=True)
class Database:
    """What is asked of a database: how to connect, and the queries by name, each giving metrics."""

    name: str
    connect: Callable[[], AbstractContextManager[Rows]]
    queries: Mapping[str, Callable[[Rows], Iterable[Metric]]]


class Poller(Collector):
    """Asks one database from time to time and keeps its last answer."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._answer: list[Metric] = []
        self._answered = time.monotonic()
        self._is_up = False
        self._told: dict[str, str] = {}

    def run(self, stopped: threading.Event) -> None:
        """Poll until the event is set."""
        while not stopped.is_set():
            self.poll()
            stopped.wait(EVERY_SECONDS)

    def poll(self) -> None:
        """Ask once. A query that fails gives no metrics, and the others do."""
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
            self._tell("connect", "")
        except Exception as error:  # whatever a driver raises: the database is down, and that is told
            self._answer, self._is_up = [], False
            self._tell("connect", f"{name}: {_first_line(error)}")
        self._answered = time.monotonic()

    def collect(self) -> Iterator[Metric]:
        """The last answer, and whether it is one."""
        name = self._database.name
        is_up = self._is_up and not self.is_stuck
        yield GaugeMetricFamily(f"{name}_up", f"Whether the {name} database answers.", value=float(is_up))
        if is_up:
            yield from self._answer

    @property
    def is_stuck(self) -> bool:
        """Whether the last answer is too old: no time-out has ended what came after it."""
        return time.monotonic() - self._answered > _STALE_SECONDS

    def _ask(self, query: str, ask: Callable[[Rows], Iterable[Metric]], rows: Rows) -> list[Metric] | None:
        try:
            answer = list(ask(rows))
        except Exception as error:  # no right, no such table, no time: told once, and the others are asked
            self._tell(query, f"{self._database.name}: query {query}: {_first_line(error)}")
            return None
        self._tell(query, "")
        return answer

    def _tell(self, about: str, words: str) -> None:
        """Log what changed, not the same every few seconds."""
        if words and words != self._told.get(about):
            structlog.get_logger().warning(words)
        elif not words and self._told.get(about):
            structlog.get_logger().info(f"{self._database.name}: {about}: well again")
        self._told[about] = words


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
