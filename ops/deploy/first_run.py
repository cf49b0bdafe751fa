"""`--wait-for-first-run`: triggers the orders DAG, follows it, and prints its reconciliation."""

import json
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from ops.cluster.airflow_api import AirflowApi, NotFoundError, run_path, task_name
from ops.cluster.console import Console, DeployError, table
from ops.cluster.kubectl import Kubectl

DAG = "orders_etl"
POLL_SECONDS = 2.0
_LOG_LINES = 15
_ENDED = ("success", "failed")
_ORDER = ("extracted", "kept", "dropped", "rejected", "inserted", "updated", "unchanged", "standing", "partitions")


def first_run(console: Console, kubectl: Kubectl, timeout: float) -> None:
    """Run the DAG once and print its reconciliation. Raises DeployError if the run fails."""
    console.say(f"Logging in to Airflow to run {DAG} …")
    with AirflowApi(kubectl) as api:
        deadline = time.monotonic() + timeout
        _await_dag(console, api, deadline)
        run_id = f"apply-all__{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        _trigger(api, run_id)
        api.call("PATCH", f"/api/v2/dags/{DAG}", {"is_paused": False})
        console.say(f"Triggered {run_id}.")
        state = _follow(console, api, run_id, deadline)
        if state != "success":
            raise DeployError(_failure(console, api, run_id))
        _show_reconciliation(console, api, run_id)


def _await_dag(console: Console, api: AirflowApi, deadline: float) -> None:
    while True:
        try:
            api.get(f"/dags/{DAG}")
            return
        except NotFoundError:
            errors = api.get("/importErrors")["import_errors"]
            if errors:
                console.show(str(errors[0]["stack_trace"]))
                raise DeployError(f"Airflow cannot import {errors[0]['filename']}; why is above.") from None
            if time.monotonic() > deadline:
                raise DeployError(f"{DAG} did not appear in Airflow; see the log of airflow-dag-processor.") from None
            console.say_once(f"  waiting: {DAG} is not parsed yet")
            time.sleep(POLL_SECONDS)


def _trigger(api: AirflowApi, run_id: str) -> None:
    """Trigger a run ahead of scheduled ones: Airflow starts the oldest queued run first."""
    due = datetime.now(UTC) - timedelta(days=1)
    run = {"dag_run_id": run_id, "logical_date": None, "run_after": due.isoformat()}
    try:
        api.call("POST", f"/api/v2{run_path(DAG)}", run)
    except DeployError:
        # A call whose response was lost is retried, and then the run exists.
        if api.get(run_path(DAG, run_id))["dag_run_id"] != run_id:
            raise


def _follow(console: Console, api: AirflowApi, run_id: str, deadline: float) -> str:
    while True:
        state = str(api.get(run_path(DAG, run_id))["state"])
        console.say_once(f"  {DAG} {state}: {_task_counts(_tasks(api, run_id))}")
        if state in _ENDED:
            return state
        if time.monotonic() > deadline:
            raise DeployError(f"The run {run_id} has not ended in time; it goes on, watch it in Airflow.")
        time.sleep(POLL_SECONDS)


def _task_counts(tasks: list[dict[str, Any]]) -> str:
    counts = Counter(task["state"] or "waiting" for task in tasks)
    active = sorted({task["task_id"] for task in tasks if task["state"] == "running"})
    counted = ", ".join(f"{count} {state}" for state, count in sorted(counts.items())) or "no task yet"
    return f"{counted} (now: {', '.join(active)})" if active else counted


def _failure(console: Console, api: AirflowApi, run_id: str) -> str:
    """Print the logs of failed tasks; returns the sentence that names them."""
    failed = [task for task in _tasks(api, run_id) if task["state"] == "failed"]
    for task in failed:
        console.show(f"\nEnd of the log of {task_name(task)}, attempt {task['try_number']}:")
        console.show("\n".join(f"  {line}" for line in _log(api, run_id, task)) or "  (empty)")
    names = ", ".join(task_name(task) for task in failed) or "no task, but the run as a whole"
    return f"The run {run_id} of {DAG} failed: {names}."


def _log(api: AirflowApi, run_id: str, task: dict[str, Any]) -> list[str]:
    try:
        content = api.log(run_path(DAG, run_id), task)
    except DeployError as error:
        return [str(error)]
    lines = [line["event"] if isinstance(line, dict) else str(line) for line in content]
    return [part for line in lines for part in str(line).splitlines()][-_LOG_LINES:]


def _show_reconciliation(console: Console, api: AirflowApi, run_id: str) -> None:
    """Print the totals of the run, or of the run before it if it found nothing new."""
    recent = api.get(f"{run_path(DAG)}?state=success&order_by=-run_after&limit=20")["dag_runs"]
    for candidate in [run_id, *(run["dag_run_id"] for run in recent if run["dag_run_id"] != run_id)]:
        try:
            entry = api.get(f"{run_path(DAG, candidate)}/taskInstances/reconcile/xcomEntries/return_value")
        except NotFoundError:
            continue
        if candidate != run_id:
            console.show("The run ended well and found nothing new; the one before it:")
        value = entry["value"]
        totals = json.loads(value) if isinstance(value, str) else value
        console.show(f"\nReconciliation of {candidate}:")
        # Airflow does not keep the order of JSON objects.
        names = [name for name in _ORDER if name in totals] + [name for name in totals if name not in _ORDER]
        console.show(table([("WHAT", "COUNT"), *((name, totals[name]) for name in names)]))
        return
    console.show("The run ended well and found no rows to move.")


def _tasks(api: AirflowApi, run_id: str) -> list[dict[str, Any]]:
    return list(api.list(f"{run_path(DAG, run_id)}/taskInstances", "task_instances"))
