"""Runs of the pipelines one after the other, each looked at when it has ended."""

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
AWAY = (DeployError, OSError, UnreachableError, mssql_python.Error, psycopg.Error, RuntimeError)
"""What is raised while a fault is at what is asked."""
LONGEST_OUTAGE = 420.0
"""Seconds: no fault lasts so long, with all that Kubernetes waits before it starts a thing again."""


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
        """The map indices of the tasks of these ids that are green."""
        tasks = self.tasks.values()
        return sorted(task["map_index"] for task in tasks if task["task_id"] in task_ids and task["state"] == "success")


class Runs:
    """Triggers runs, waits for their ends, and has each looked at before the next one may hide what it left undone."""

    def __init__(self, airflow: Airflow, longest: timedelta, look: Callable[[Run], None]) -> None:
        self._airflow = airflow
        self._longest = longest
        self._look = look
        self._names = (f"chaos-{datetime.now(UTC):%H%M%S}-{number:03d}" for number in count(1))
        self.ended: list[Run] = []
        self.under_way_since: float | None = None
        """When the present run was triggered, by time.monotonic."""

    def one(self, pipeline: Pipeline) -> Run:
        """One run. Fails the test where it does not end in time, or the look at it finds something wrong."""
        dag_id, run_id = f"{pipeline.name}_etl", next(self._names)
        began = datetime.now(UTC)
        path = f"/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}"
        self.under_way_since = time.monotonic()
        patiently(lambda: self._trigger(dag_id, run_id))
        state = self._await_end(path, f"{run_id} of {dag_id}")
        ended = datetime.now(UTC)
        self.under_way_since = None
        run = Run(pipeline, run_id, state, began, ended, patiently(lambda: self._airflow.tasks(dag_id, run_id)))
        self._look(run)
        self.ended.append(run)
        return run

    def until_green(self, pipeline: Pipeline, tries: int = 3) -> Run:
        """Runs until one is green. Fails the test where that takes more."""
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
            if "answered 409" not in str(error):  # it was made, and the answer got lost
                raise

    def _await_end(self, path: str, what: str) -> str:
        deadline = time.monotonic() + (self._longest + timedelta(seconds=LONGEST_OUTAGE)).total_seconds()
        while True:
            state = str(patiently(lambda: self._airflow.api.get(path))["state"])
            if state in ("success", "failed"):
                return state
            assert time.monotonic() < deadline, f"{what} is {state}, long after it should have ended."
            time.sleep(2)


@contextmanager
def running(runs: Runs, pipelines: Sequence[Pipeline]) -> Iterator["Background"]:
    """Run pipelines in turn beside the block; where that goes well, its end waits for the run that is under way."""
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
        """Raise what a run has shown."""
        if self.failure:
            raise self.failure

    def stop(self) -> None:
        """Trigger no more, and wait for the run that is under way."""
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


def patiently(ask: Callable[[], _Found], seconds: float = LONGEST_OUTAGE) -> _Found:
    """Ask again while what is asked is disturbed. Raises what it raised last where that lasts too long."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except AWAY:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


@contextmanager
def signed_in() -> Iterator[Airflow]:
    """Airflow's API, over a port that is opened anew as often as it takes."""
    with AirflowApi(Kubectl()) as api:
        yield Airflow(api)
