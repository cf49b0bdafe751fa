"""Airflow's interface of remote task logs (airflow.logging.remote.RemoteLogStreamIO) for Loki."""

import atexit
import os
import signal
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from airflow.configuration import conf
from structlog.typing import EventDict, Processor, WrappedLogger

from etl_airflow.task_logs import reader
from etl_airflow.task_logs.identity import Identity
from etl_airflow.task_logs.loki import Loki, LokiUnavailableError
from etl_airflow.task_logs.sender import Sender

TERMINATION_MARK = Path("/tmp/told-to-end")  # noqa: S108 - the pod's own
"""Created by a worker's preStop hook: SIGTERM comes once, while the task runs, and Airflow only forwards it."""
_LAST_SECONDS = 20
"""Time that such a worker tries to send the rest: well within the rest of its grace period."""
_ATEXIT_SECONDS = 10
"""Time that an ending triggerer tries to send the rest."""


class LokiTaskLog:
    """Task logs in Loki: read from `url`, sent to `push_url`.

    After its task a worker tries for `exit_seconds` to send the last lines.
    """

    def __init__(
        self, url: str, exit_seconds: float = 300, sender: Sender | None = None, *, push_url: str = ""
    ) -> None:
        self.url = url
        self._exit_seconds = exit_seconds
        self._sender = sender or Sender(lambda: Loki(push_url or url))
        atexit.register(self._sender.close, _ATEXIT_SECONDS)

    @cached_property
    def _loki(self) -> Loki:
        return Loki(self.url)

    @property
    def processors(self) -> tuple[Processor, ...]:
        """A processor of every line that is written to a log file."""
        return (self._notice,)

    def _notice(self, logger: WrappedLogger, _: str, event: EventDict) -> EventDict:
        # Processors of supervisor and triggerer see a line twice, for the file and for stdout; those of the task's
        # process see it before the supervisor does. Only the line for the file counts.
        file = getattr(logger, "_file", None)
        name = getattr(file, "name", None)
        if isinstance(name, str) and (identity := Identity.of(name)):
            with suppress(Exception):  # logging never fails a task
                self._sender.notice(identity, Path(name), lambda: os.fstat(file.fileno()).st_size)  # type: ignore[union-attr]
        return event

    def upload(self, path: os.PathLike[str] | str, ti: Any = None) -> None:  # noqa: ARG002 - Airflow's interface
        """Send the rest of a complete file.

        The supervisor calls this after it has reported the task's state, so waiting here delays only the pod's end. The
        triggerer calls it during its work: there it returns at once, and the sender continues.
        """
        identity = Identity.of(os.fspath(path))
        if identity is None:
            return
        log_file = self._sender.finish(identity, Path(conf.get("logging", "base_log_folder"), os.fspath(path)))
        if identity.is_trigger:
            return
        was_terminated = TERMINATION_MARK.exists()
        deadline = time.monotonic() + (min(_LAST_SECONDS, self._exit_seconds) if was_terminated else self._exit_seconds)
        with _sigterm_noted() as terminated:
            while not (log_file.delivered.wait(0.2) or terminated or time.monotonic() >= deadline):
                pass
            if terminated or (was_terminated and not log_file.delivered.is_set()):
                self._sender.give_up(log_file, "The pod was terminated before Loki had all lines of this log.")
            elif not log_file.delivered.is_set():
                reason = f"Loki did not take all lines of this log within {self._exit_seconds:g} s after the task ended"
                self._sender.give_up(log_file, f"{reason}: {self._sender.problem}.")

    def stream(self, relative_path: str, ti: Any) -> tuple[list[str], list[Generator[str, None, None]]]:
        """Source and lines of the log; if Loki does not answer, the reason as source and no lines."""
        identity = Identity.of(relative_path)
        if identity is None:
            return [f"{relative_path} is not a path of a task log; see [logging] log_filename_template."], []
        try:
            lines = reader.read(self._loki, identity, ti)
        except LokiUnavailableError as error:
            return [f"The log could not be read from Loki: {error}."], []
        return [f"Loki: {reader.select(identity)}"], [lines]

    def read(self, relative_path: str, ti: Any) -> tuple[list[str], list[str] | None]:
        """As `stream`, with the lines as a list."""
        sources, streams = self.stream(relative_path, ti)
        return sources, [line for stream in streams for line in stream] or None


@contextmanager
def _sigterm_noted() -> Iterator[list[int]]:
    """Record SIGTERM in the yielded list; by default it would end the process before its log is sent."""
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    before = signal.signal(signal.SIGTERM, lambda number, _: came.append(number))
    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, before)
