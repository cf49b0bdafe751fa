"""What Airflow calls for its task logs (airflow.logging.remote.RemoteLogStreamIO), answered by Loki."""

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

TOLD_TO_END = Path("/tmp/told-to-end")  # noqa: S108 - the pod's own
"""Made by a worker's preStop: SIGTERM comes once, while the task runs, and Airflow passes it on and forgets it."""
_LAST_SECONDS = 20
"""How long such a worker tries to send what is left: well within what is left of its grace period."""
_ATEXIT_SECONDS = 10
"""How long a triggerer that ends tries to send what is left."""


class LokiTaskLog:
    """Task logs in the Loki at `url`, or at `push_url` where lines are sent to another address than they are read from.

    A worker that ended its task tries for `exit_seconds` to send the last lines.
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
        """What sees every line on its way to a log file."""
        return (self._notice,)

    def _notice(self, logger: WrappedLogger, _: str, event: EventDict) -> EventDict:
        # The processors of the supervisor and the triggerer see a line once for the file and once for stdout, those of
        # the task's own process see it on its way to the supervisor: what counts is the one that goes to the file.
        file = getattr(logger, "_file", None)
        name = getattr(file, "name", None)
        if isinstance(name, str) and (identity := Identity.of(name)):
            with suppress(Exception):  # a task never fails for its log
                self._sender.notice(identity, Path(name), lambda: os.fstat(file.fileno()).st_size)  # type: ignore[union-attr]
        return event

    def upload(self, path: os.PathLike[str] | str, ti: Any = None) -> None:  # noqa: ARG002 - Airflow's interface
        """The file is complete: see that Loki gets all of it.

        The supervisor calls this when the task's state is reported, so waiting here keeps nobody but the pod. The
        triggerer calls it in the middle of its work: there the sender goes on by itself.
        """
        identity = Identity.of(os.fspath(path))
        if identity is None:
            return
        log_file = self._sender.finish(identity, Path(conf.get("logging", "base_log_folder"), os.fspath(path)))
        if identity.is_trigger:
            return
        was_told = TOLD_TO_END.exists()
        deadline = time.monotonic() + (min(_LAST_SECONDS, self._exit_seconds) if was_told else self._exit_seconds)
        with _sigterm_noted() as told_to_end:
            while not (log_file.delivered.wait(0.2) or told_to_end or time.monotonic() >= deadline):
                pass
            if told_to_end or (was_told and not log_file.delivered.is_set()):
                self._sender.give_up(log_file, "The pod was told to end before Loki had all lines of this log.")
            elif not log_file.delivered.is_set():
                told = f"Loki did not take all lines of this log within {self._exit_seconds:g} s after the task ended"
                self._sender.give_up(log_file, f"{told}: {self._sender.problem}.")

    def stream(self, relative_path: str, ti: Any) -> tuple[list[str], list[Generator[str, None, None]]]:
        """Where the log is from, and its lines; no generator where Loki cannot be asked, and a sentence on why."""
        identity = Identity.of(relative_path)
        if identity is None:
            return [f"{relative_path} is no path that Loki has logs by; see [logging] log_filename_template."], []
        try:
            lines = reader.read(self._loki, identity, ti)
        except LokiUnavailableError as error:
            return [f"The log could not be read from Loki: {error}."], []
        return [f"Loki: {reader.select(identity)}"], [lines]

    def read(self, relative_path: str, ti: Any) -> tuple[list[str], list[str] | None]:
        """The same for callers that do not stream."""
        sources, streams = self.stream(relative_path, ti)
        return sources, [line for stream in streams for line in stream] or None


@contextmanager
def _sigterm_noted() -> Iterator[list[int]]:
    """Let SIGTERM be noted in the list that is yielded, where it would end the process before its log is safe."""
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    before = signal.signal(signal.SIGTERM, lambda number, _: came.append(number))
    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, before)
