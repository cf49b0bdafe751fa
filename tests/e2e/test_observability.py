"""Observability for an operator: every line of every task after its pod is gone, and data for every panel and rule."""

import contextlib
import json
import os
import re
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ops.cluster.airflow_api import NotFoundError
from ops.cluster.kubectl import OBSERVABILITY
from tests.harness.e2e.deployment import Airflow, Deployment, wait_for
from tests.harness.e2e.observability import Watching
from tests.harness.metrics.queries import queries


def numbers(lines: list[dict[str, object]]) -> list[int]:
    """The numbers of the numbered lines among them."""
    found = (re.fullmatch(r"line (\d+)", str(line["event"])) for line in lines)
    return [int(match[1]) for match in found if match]


def test_ten_thousand_lines_are_there_after_the_pod_is_gone(airflow: Airflow, observed: Deployment) -> None:
    run = airflow.trigger("ten_thousand_lines")
    airflow.await_run("ten_thousand_lines", run)
    _await_no_workers(observed)
    assert numbers(airflow.log("ten_thousand_lines", run, "write")) == list(range(10_000))


def test_the_lines_of_a_step_are_in_the_log_of_its_task_once(airflow: Airflow, observed: Deployment) -> None:
    runs = [run["dag_run_id"] for run in airflow.runs("orders_etl") if run["run_type"] == "manual"]
    loads = {
        run: task for run in runs for name, task in airflow.tasks("orders_etl", run).items()
        if name == "partition.load[0]" and task["state"] == "success"
    }  # fmt: skip
    run, task = next(iter(loads.items()))
    lines = airflow.log("orders_etl", run, "partition.load", 0, task["try_number"])
    own = [line for line in lines if line.get("step") == "load" and line.get("run_id") == run]
    assert own
    assert len({json.dumps(line, sort_keys=True) for line in own}) == len(own)


def test_of_a_worker_that_was_killed_at_most_the_last_second_is_missing(airflow: Airflow, observed: Deployment) -> None:
    run = airflow.trigger("slow_lines")

    def written() -> bool:
        try:
            return len(numbers(airflow.log("slow_lines", run, "write_slowly", state="running"))) > 100
        except NotFoundError:  # the task has not begun
            return False

    wait_for("a hundred lines", written, seconds=120)
    killed = _kill_worker("slow_lines")
    airflow.await_run("slow_lines", run, "failed")
    _await_no_workers(observed)
    lines = [line for line in airflow.log("slow_lines", run, "write_slowly") if numbers([line])]
    assert numbers(lines) == list(range(len(lines)))
    last = datetime.fromisoformat(str(lines[-1]["timestamp"]))
    assert killed - last < timedelta(seconds=1.5)
    airflow.await_run("slow_lines", airflow.trigger("slow_lines", seconds=0))


@pytest.mark.acceptance
def test_loki_may_be_away_for_two_minutes_during_a_run(airflow: Airflow, observed: Deployment) -> None:
    lines = airflow.trigger("ten_thousand_lines")
    wait_for("a worker", lambda: _workers(observed), seconds=60)
    observed.kubectl("scale", "statefulset/loki", "--replicas=0", namespace=OBSERVABILITY)
    away = time.monotonic()
    orders = airflow.trigger("orders_etl", full_refresh=True)
    airflow.await_run("ten_thousand_lines", lines)
    airflow.await_run("orders_etl", orders)
    told = airflow.log("ten_thousand_lines", lines, "write")
    assert any("Loki" in str(line["event"]) and line.get("level") == "error" for line in told)
    wait_for("the end of two minutes", lambda: time.monotonic() - away > 120, seconds=130)
    observed.kubectl("scale", "statefulset/loki", "--replicas=1", namespace=OBSERVABILITY)
    observed.kubectl("rollout", "status", "statefulset/loki", "--timeout=120s", namespace=OBSERVABILITY)
    _await_no_workers(observed)
    assert numbers(airflow.log("ten_thousand_lines", lines, "write")) == list(range(10_000))
    for name, task in airflow.tasks("orders_etl", orders).items():
        log = airflow.log("orders_etl", orders, task["task_id"], task["map_index"], task["try_number"])
        assert any(line.get("run_id") == orders or orders in str(line) for line in log), name


def test_every_query_of_every_panel_and_rule_is_answered_with_data(watch: Watching, airflow: Airflow) -> None:
    run = next(run["dag_run_id"] for run in airflow.runs("orders_etl") if run["state"] == "success")
    empty = list(queries(run))

    def answered() -> bool:
        """Whether all have data: rates over a minute have none at first."""
        empty[:] = [query for query in empty if not watch.answer(query) and query.has_data]
        return not empty

    with contextlib.suppress(AssertionError):
        wait_for("data", answered, seconds=150)
    assert not empty, [str(query) for query in empty]


def _workers(deployment: Deployment) -> list[str]:
    return [pod["metadata"]["name"] for pod in deployment.objects("pods", "--selector=kubernetes_executor=True")]


def _await_no_workers(deployment: Deployment) -> None:
    try:
        wait_for("the workers' pods to be gone", lambda: not _workers(deployment), seconds=180)
    except AssertionError as error:
        still = deployment.kubectl("get", "pods", "--selector=kubernetes_executor=True", "--show-labels")
        raise AssertionError(f"{error}\n{still}") from None


def _kill_worker(dag_id: str) -> datetime:
    """SIGKILL every process of the worker of a DAG, as the kernel does when memory runs out; returns when."""
    killed = datetime.now(UTC)
    ours = [
        int(path.parent.name) for path in Path("/proc").glob("[0-9]*/environ")
        if b"ETL_WORKLOAD=" in (variables := _read(path)) and f'"{dag_id}"'.encode() in variables
    ]  # fmt: skip
    assert ours, f"There is no worker of {dag_id} on this machine."
    for process in sorted(ours):
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue  # it went with the first one of its container
    return killed


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
