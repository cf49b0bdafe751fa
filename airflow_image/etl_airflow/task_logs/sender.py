"""Sender of task logs: pushes new lines of log files to Loki within a second; tasks never wait for it."""

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import structlog
from airflow.sdk.observability.metrics.stats_utils import get_stats_factory

from etl_airflow.task_logs.identity import Identity
from etl_airflow.task_logs.log_file import Batch, LogFile, parse
from etl_airflow.task_logs.loki import Loki, LokiRefusedError, LokiUnavailableError, Value

INTERVAL = 0.4
"""Seconds for which lines are collected before they are sent."""
LONGEST_PAUSE = 5.0
"""Maximum of seconds between two tries while Loki does not answer."""
REBUILD_SECONDS = 1200
"""Age from which a waiting batch gets new times: Loki would refuse it as too old."""


class Sender:
    """A thread for all log files of a process. A forked process starts another."""

    def __init__(self, connect: Callable[[], Loki], interval: float = INTERVAL) -> None:
        self._connect = connect
        self._interval = interval
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._files: dict[str, LogFile] = {}
        self._lock = threading.Lock()
        self._news = threading.Event()
        self._hurry = threading.Event()
        self._thread: threading.Thread | None = None
        self._waiting: dict[LogFile, tuple[Batch, float]] = {}
        self.problem = ""
        """Reason why Loki does not accept lines now; empty if it does."""

    def notice(self, identity: Identity, file: Path, size: Callable[[], int]) -> None:
        """Note that a line is about to be written to the file, which has `size` bytes so far."""
        if self._pid != os.getpid():
            self._reset()
        known = self._files.get(identity.path)
        if known is None or known.complete:
            # Earlier lines were sent by the process that wrote them, as before a task was deferred.
            self._add(LogFile(file, identity, size()))
        self._news.set()

    def finish(self, identity: Identity, file: Path) -> LogFile:
        """Note that the file is complete: its rest is sent at once."""
        if self._pid != os.getpid():
            self._reset()
        known = self._files.get(identity.path) or self._add(LogFile(file, identity, 0))
        known.complete = True
        self._hurry.set()
        self._news.set()
        return known

    def give_up(self, log_file: LogFile, reason: str) -> None:
        """Print the unsent lines of a file and the reason to stdout, where Fluent Bit collects them."""
        with log_file.lock:  # a push in progress may still succeed
            if log_file.delivered.is_set():
                return
            self._files.pop(log_file.identity.path, None)
            log_file.delivered.set()
            lines = list(log_file.rest())
        message = f"{reason} The last {len(lines)} lines of this log came by way of the pod's output."
        notice = {"timestamp": datetime.now(UTC).isoformat(), "level": "warning", "event": message}
        print_undelivered(log_file.identity, [*lines, json.dumps(notice)])

    def close(self, seconds: float) -> None:
        """Send the rest of all files, for `seconds` at most; then give up."""
        if self._pid != os.getpid():
            return
        files, deadline = list(self._files.values()), time.monotonic() + seconds
        for log_file in files:
            self.finish(log_file.identity, Path())
        for log_file in files:
            if not log_file.delivered.wait(max(0, deadline - time.monotonic())):
                self.give_up(log_file, f"Loki did not take all lines before the process ended: {self.problem}.")

    def _add(self, log_file: LogFile) -> LogFile:
        with self._lock:
            self._files[log_file.identity.path] = log_file
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="task-logs-to-loki", daemon=True)
                self._thread.start()
        return log_file

    def _run(self) -> None:
        loki = self._connect()
        pause = self._interval
        while True:
            self._news.wait()
            # Cleared before the pause: `notice` is called just before a line is written.
            self._news.clear()
            self._hurry.wait(pause)
            self._hurry.clear()
            try:
                self._send_all(loki)
            except LokiUnavailableError as error:
                self._tell(str(error))
                pause = min(pause * 2, LONGEST_PAUSE)
                self._news.set()
            except Exception as error:  # the thread must live: a task's log depends on it
                self._tell(f"{type(error).__name__}: {error}")
                pause = LONGEST_PAUSE
                self._news.set()
            else:
                self._tell("")
                pause = self._interval

    def _send_all(self, loki: Loki) -> None:
        for log_file in list(self._files.values()):
            complete = log_file.complete  # read before the last look into the file
            while self._send_batch(loki, log_file):
                pass
            if complete:
                self._files.pop(log_file.identity.path, None)
                log_file.delivered.set()

    def _send_batch(self, loki: Loki, log_file: LogFile) -> bool:
        with log_file.lock:
            if log_file.delivered.is_set():
                return False
            batch, since = self._waiting.pop(log_file, (None, 0.0))
            if batch is None or time.monotonic() - since > REBUILD_SECONDS:
                batch, since = log_file.next_batch(datetime.now(UTC)), time.monotonic()
            if batch is None:
                return False
            # The identical batch is sent again: if Loki has it already, no line is duplicated.
            self._waiting[log_file] = (batch, since)
            _push(loki, log_file.identity, batch.values)
            del self._waiting[log_file]
            log_file.advance(batch)
            return True

    def _tell(self, problem: str) -> None:
        if problem and not self.problem:
            structlog.get_logger("task_logs").warning(
                f"Loki does not take task logs now; the lines wait in the log file. {problem}"
            )
        elif self.problem and not problem:
            structlog.get_logger("task_logs").info("Loki takes task logs again; the lines that waited are there.")
        self.problem = problem


def print_undelivered(identity: Identity, lines: Sequence[str], reason: str = "") -> None:
    """Print lines with the task's identity to stdout, from where Fluent Bit sends them to Loki."""
    marks = {"undelivered": True, "dag_id": identity.dag_id, "task_id": identity.task_id, **identity.metadata}
    if reason:
        marks["reason"] = reason
    for line in lines:
        sys.stdout.write(json.dumps({**parse(line), **marks}, ensure_ascii=True) + "\n")
    sys.stdout.flush()
    # Airflow sets up no metrics in a worker's supervisor, where this runs.
    tags = {"dag_id": identity.dag_id, "task_id": identity.task_id}
    with suppress(OSError):
        get_stats_factory()().incr("task_logs.undelivered", len(lines), tags=tags)


def _push(loki: Loki, identity: Identity, values: list[Value]) -> None:
    """Send lines. If Loki refuses, bisect: refused lines are printed to stdout, the others sent."""
    try:
        loki.push(identity, values)
    except LokiRefusedError as refusal:
        if len(values) == 1:
            print_undelivered(identity, [values[0][1]], reason=str(refusal))
            return
        middle = len(values) // 2
        _push(loki, identity, values[:middle])
        _push(loki, identity, values[middle:])
