"""The lines, in one SQLite file."""

import heapq
import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .logql import Labels, Query

_SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = OFF;
CREATE TABLE IF NOT EXISTS stream (id INTEGER PRIMARY KEY, labels TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS entry (
  stream INTEGER NOT NULL, at INTEGER NOT NULL, line TEXT NOT NULL, metadata TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS by_time ON entry (stream, at);
"""
# Duplicates are stored once.
_INSERT = """
INSERT INTO entry SELECT :stream, :at, :line, :metadata WHERE NOT EXISTS (
  SELECT 1 FROM entry WHERE stream = :stream AND at = :at AND line = :line AND metadata = :metadata)
"""


ALONE = "fake"
"""The tenant if tenants are off."""
_TENANT = "__tenant_id__"
"""The label with the tenant of a line."""


@dataclass(frozen=True)
class Entry:
    """A line with its structured metadata."""

    at: int
    line: str
    metadata: Labels

    @property
    def bytes(self) -> int:
        """As Loki counts them for its limits."""
        return len(self.line.encode()) + sum(len(part.encode()) for pair in self.metadata.items() for part in pair)


@dataclass
class Stream:
    """Lines with the same labels."""

    number: int
    labels: Labels
    tenant: str
    newest: int = 0


class Store:
    """Streams and their lines."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "double.sqlite"
        self._connection = sqlite3.connect(self._file, check_same_thread=False, isolation_level=None)
        self._connection.executescript(_SCHEMA)
        self.lock = threading.Lock()
        """Held for each change."""
        self.streams: dict[str, Stream] = {}
        for number, labels in self._connection.execute("SELECT id, labels FROM stream"):
            (newest,) = self._connection.execute("SELECT MAX(at) FROM entry WHERE stream = ?", [number]).fetchone()
            known = json.loads(labels)
            self.streams[labels] = Stream(number, known, known.pop(_TENANT, ALONE), newest or 0)

    def stream(self, labels: Labels, tenant: str) -> Stream | None:
        """A tenant's stream with these labels, if there is one."""
        return self.streams.get(_key(labels, tenant))

    def make_stream(self, labels: Labels, tenant: str) -> Stream:
        """A stream of these labels."""
        text = _key(labels, tenant)
        number = self._connection.execute("INSERT INTO stream (labels) VALUES (?)", [text]).lastrowid
        self.streams[text] = Stream(number or 0, labels, tenant)
        return self.streams[text]

    def add(self, stream: Stream, entries: list[Entry]) -> None:
        """Keep lines."""
        rows = [
            {"stream": stream.number, "at": e.at, "line": e.line, "metadata": json.dumps(e.metadata, sort_keys=True)}
            for e in entries
        ]
        self._connection.execute("BEGIN")
        self._connection.executemany(_INSERT, rows)
        self._connection.execute("COMMIT")
        stream.newest = max([stream.newest, *(entry.at for entry in entries)])

    def find(
        self, query: Query, start: int, end: int, tenants: list[str], *, forward: bool = True
    ) -> Iterator[tuple[int, str, Labels]]:
        """The lines that are asked for from `start` on and before `end`, by time, with all their labels."""
        of_tenants = [stream for stream in list(self.streams.values()) if stream.tenant in tenants]
        if len(tenants) > 1:
            of_tenants = [replace(one, labels={**one.labels, _TENANT: one.tenant}) for one in of_tenants]
        streams = [stream for stream in of_tenants if query.selects(stream.labels)]
        with closing(sqlite3.connect(self._file)) as connection:
            found = [_rows(connection, stream, start, end, forward) for stream in streams]
            for at, _, line, metadata, labels in heapq.merge(*found, key=lambda row: row[:2], reverse=not forward):
                merged = _merged(labels, json.loads(metadata))
                if query.keeps(line, merged):
                    yield at, line, merged


def _rows(connection: sqlite3.Connection, stream: Stream, start: int, end: int, forward: bool) -> Iterator[Any]:
    order = "at, rowid" if forward else "at DESC, rowid DESC"
    select = f"SELECT at, rowid, line, metadata FROM entry WHERE stream = ? AND at >= ? AND at < ? ORDER BY {order}"
    for row in connection.execute(select, [stream.number, start, end]):
        yield *row, stream.labels


def _key(labels: Labels, tenant: str) -> str:
    return json.dumps(labels if tenant == ALONE else {**labels, _TENANT: tenant}, sort_keys=True)


def _merged(labels: Labels, metadata: Labels) -> Labels:
    return {**labels, **{f"{name}_extracted" if name in labels else name: value for name, value in metadata.items()}}
