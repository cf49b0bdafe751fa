"""Airflow's log handler without duplicate lines: if Loki answers, other sources are not read."""

import threading
from itertools import chain
from typing import Any

from airflow.utils.log.file_task_handler import FileTaskHandler, StructuredLogMessage


class LokiTaskHandler(FileTaskHandler):
    """Reads task logs from Loki only; from Airflow's other sources if Loki does not answer.

    For a running task Airflow merges the remote store, the pod's last lines and the file, and so shows the newest lines
    two or three times.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The API server reads for many users at once, each in a thread.
        self._reading = threading.local()

    def _read(self, ti: Any, try_number: int, metadata: Any = None) -> Any:
        stream, position = super()._read(ti, try_number, metadata)
        if problem := self._problem:
            notice = StructuredLogMessage.model_validate({"event": problem, "level": "error"})
            # The position in Loki's lines is kept, to continue when it answers again.
            return chain([notice], stream), {**position, "log_pos": (metadata or {}).get("log_pos", 0)}
        return stream, position

    def _read_remote_logs(self, ti: Any, try_number: int, metadata: Any = None) -> Any:
        sources, streams = super()._read_remote_logs(ti, try_number, metadata)
        self._reading.problem = "" if streams else " ".join([*sources, "Lines below, if any, are the pod's last ones."])
        return sources, streams

    @property
    def _problem(self) -> str:
        return str(getattr(self._reading, "problem", ""))

    def _get_executor_get_task_log(self, ti: Any) -> Any:
        if self._problem:
            return super()._get_executor_get_task_log(ti)
        return lambda _ti, _try_number: ([], [])

    def _read_from_local(self, worker_log_path: Any) -> Any:
        return super()._read_from_local(worker_log_path) if self._problem else ([], [])

    def _read_from_logs_server(self, ti: Any, worker_log_rel_path: str) -> Any:
        return super()._read_from_logs_server(ti, worker_log_rel_path) if self._problem else ([], [])
