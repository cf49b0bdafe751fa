"""Runs of the pipelines one after the other, each checked when it has ended."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count, cycle
from threading import Event, Thread
from typing import Any, TypeVar
from urllib.parse import quote

import mssql_python
import psycopg
from etl.config.reach import UnreachableError
from etl.model.pipeline import Pipeline

from ops.cluster.airflow_api import AirflowApi
from ops.cluster.console import DeployError
from ops.cluster.kubectl import Kubectl
from tests.harness.e2e.deployment import Airflow

_Found = TypeVar("_Found")
OUTAGE_ERRORS = (DeployError, OSError, UnreachableError, mssql_python.Error, psycopg.Error, RuntimeError)
"""Errors of requests during a fault."""
LONGEST_OUTAGE = 420.0
"""Seconds: longer than any fault, with Kubernetes' back-off before restarts."""


@dataclass(frozen=True)
class Run:
    """A run that has ended."""

    pipeline: Pipeline
    run_id: str
    state: str
    began: datetime
    ended: datetime
    tasks: dict[str, dict[str, Any]]

    def green(self, *task_ids: str) -> list[int]:
        """The map indices of the green tasks with these ids."""
        tasks = self.tasks.values()
        return sorted(task["map_index"] for task in tasks if task["task_id"] in task_ids and task["state"] == "success")


class Runs:
    """Triggers runs, waits for their ends, and checks each before the next one may hide its defects."""

    def __init__(self, airflow: Airflow, longest: timedelta, look: Callable[[Run], None]) -> None:
        self._airflow = airflow
        self._longest = longest
        self._look = look
        self._names = (f"chaos-{datetime.now(UTC):%H%M%S}-{number:03d}" for number in count(1))
        self.ended: list[Run] = []
        self.under_way_since: float | None = None
        """When the present run was triggered, by time.monotonic."""

    def one(self, pipeline: Pipeline) -> Run:
        """One run. Fails the test if it does not end in time, or violates an invariant."""
        dag_id, run_id = f"{pipeline.name}_etl", next(self._names)
        began = datetime.now(UTC)
        path = f"/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}"
        self.under_way_since = time.monotonic()
        retrying(lambda: self._trigger(dag_id, run_id))
        state = self._await_end(path, f"{run_id} of {dag_id}")
        ended = datetime.now(UTC)
        self.under_way_since = None
        run = Run(pipeline, run_id, state, began, ended, retrying(lambda: self._airflow.tasks(dag_id, run_id)))
        self._look(run)
        self.ended.append(run)
        return run

    def until_green(self, pipeline: Pipeline, tries: int = 3) -> Run:
        """Runs until one is green. Fails the test if none of the tries is."""
        for _ in range(tries):
            if (run := self.one(pipeline)).state == "success":
                return run
        states = {name: task["state"] for name, task in run.tasks.items()}
        raise AssertionError(f"Nothing disturbs {pipeline.name} any more, but {run.run_id} failed too: {states}")

    def _trigger(self, dag_id: str, run_id: str) -> None:
        try:
            body: dict[str, Any] = {"dag_run_id": run_id, "logical_date": None, "conf": {}}
            self._airflow.api.call("POST", f"/api/v2/dags/{dag_id}/dagRuns", body)
        except DeployError as error:
            if "answered 409" not in str(error):  # it was created, and the response got lost
                raise

    def _await_end(self, path: str, what: str) -> str:
        deadline = time.monotonic() + (self._longest + timedelta(seconds=LONGEST_OUTAGE)).total_seconds()
        while True:
            state = str(retrying(lambda: self._airflow.api.get(path))["state"])
            if state in ("success", "failed"):
                return state
            assert time.monotonic() < deadline, f"{what} is {state}, long after it should have ended."
            time.sleep(2)


@contextmanager
def running(runs: Runs, pipelines: Sequence[Pipeline]) -> Iterator["Background"]:
    """Run pipelines in turn during the block; its normal end waits for the run that is under way."""
    background = Background(runs, pipelines)
    background.thread.start()
    yield background
    background.stop()
    background.check()


class Background:
    """Runs in a background thread, until one of them violates an invariant."""

    def __init__(self, runs: Runs, pipelines: Sequence[Pipeline]) -> None:
        self._runs, self._pipelines = runs, pipelines
        self._stopping = Event()
        self.failure: BaseException | None = None
        self.thread = Thread(target=self._run, name="runs", daemon=True)

    def check(self) -> None:
        """Raise the failure of a run."""
        if self.failure:
            raise self.failure

    def stop(self) -> None:
        """Trigger no more runs, and wait for the one that is under way."""
        self._stopping.set()
        self.thread.join()

    def _run(self) -> None:
        try:
            for pipeline in cycle(self._pipelines):
                if self._stopping.is_set():
                    return
                self._runs.one(pipeline)
        except BaseException as failure:
            self.failure = failure


def retrying(ask: Callable[[], _Found], seconds: float = LONGEST_OUTAGE) -> _Found:
    """Retry a request during an outage. Raises the last error when that lasts too long."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except OUTAGE_ERRORS:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


@contextmanager
def signed_in() -> Iterator[Airflow]:
    """Airflow's API, over a forwarded port that is reopened when needed."""
    with AirflowApi(Kubectl()) as api:
        yield Airflow(api)
