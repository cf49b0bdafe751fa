"""Reads a task's log as Airflow's API server does: its TaskLogReader, with the handler and Loki behind it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from logging import getLogger
from types import SimpleNamespace
from typing import Any

from airflow import logging_config
from airflow.configuration import conf
from airflow.utils.log.file_task_handler import FileTaskHandler
from airflow.utils.log.log_reader import TaskLogReader
from etl_airflow.task_logs.handler import LokiTaskHandler
from etl_airflow.task_logs.remote import LokiTaskLog

RUN_ID = "manual__2026-01-01T00:00:00+00:00"


def attempt(task_id: str = "count", **facts: Any) -> Any:
    """A task instance as in the database, ended just now; `facts` override its fields."""
    now = datetime.now(UTC)
    template = SimpleNamespace(filename=conf.get("logging", "log_filename_template"))
    run = SimpleNamespace(
        logical_date=None,
        run_after=now,
        start_date=now - timedelta(minutes=5),
        get_log_template=lambda session: template,
    )
    known = {
        "dag_id": "counting",
        "task_id": task_id,
        "run_id": RUN_ID,
        "map_index": -1,
        "try_number": 1,
        "state": "success",
        "queued_dttm": now - timedelta(minutes=4),
        "start_date": now - timedelta(minutes=3),
        "end_date": now,
        "hostname": "",
        "triggerer_job": None,
        "executor": None,
        "dag_run": run,
        "get_dagrun": lambda session: run,
    }
    return SimpleNamespace(**{**known, **facts})


@contextmanager
def reading_from(url: str, pod_lines: str = "") -> Iterator[None]:
    """Let Airflow read task logs from the Loki at `url`, and from a pod that still runs: its last lines."""
    handler = LokiTaskHandler(conf.get("logging", "base_log_folder"))
    handler.name = "task"
    logger = getLogger("airflow.task")
    handlers, logger.handlers = logger.handlers, [handler]
    active = logging_config._ActiveLoggingConfig
    before = (active.remote_task_log, active.default_remote_conn_id, active.logging_config_loaded)
    active.set(LokiTaskLog(url), None)
    executor = SimpleNamespace(get_task_log=lambda ti, try_number: (["Found logs through kube API"], [pod_lines]))
    executors, FileTaskHandler.executor_instances = (
        FileTaskHandler.executor_instances,
        {FileTaskHandler.DEFAULT_EXECUTOR_KEY: executor},  # type: ignore[dict-item]
    )
    try:
        yield
    finally:
        logger.handlers, FileTaskHandler.executor_instances = handlers, executors
        active.remote_task_log, active.default_remote_conn_id, active.logging_config_loaded = before


def read_log(ti: Any) -> list[dict[str, Any]]:
    """The log of the attempt, as the UI gets it, without the lines on its sources."""
    lines = [json.loads(line) for line in TaskLogReader().read_log_stream(ti, ti.try_number, {})]  # type: ignore[typeddict-item]
    events = [line["event"] for line in lines]
    begin = events.index("::group::Log message source details")
    return lines[:begin] + lines[events.index("::endgroup::") + 1 :]
