"""Airflow: whether it answers, every part of it is alive, and its DAGs run."""

from collections.abc import Callable, Iterator
from typing import Any

from ops.cluster.kubectl import NAMESPACE
from ops.cluster.log_lines import shorten
from ops.cluster.names import API_SERVER
from ops.doctor.airflow import is_ours
from ops.doctor.checks.cluster import DNS
from ops.doctor.findings import Finding
from ops.doctor.snapshot import Snapshot, format_duration, subject

LATE_SECONDS = 900
"""The threshold of the alert DagLate."""
STUCK_SECONDS = 600
"""The threshold of the alert TaskStuckQueued."""
_LOG = f"`kubectl --namespace {NAMESPACE} logs deployment/"


def api_server_down(seen: Snapshot) -> Iterator[Finding]:
    """The API server does not answer although its pods are ready."""
    if seen.airflow.down:
        yield Finding(
            "Airflow",
            f"Airflow's API server does not answer as it should: {seen.airflow.down}",
            f"{_LOG}{API_SERVER} --tail=50` says why.",
            explained_by={
                *(DNS, "metadata", f"secret {NAMESPACE}/airflow-admin"),
                *(subject(kind, API_SERVER, NAMESPACE) for kind in ("Deployment", "Service")),
            },
        )


def admin_login(seen: Snapshot) -> Iterator[Finding]:
    """Airflow does not accept the administrator's password."""
    if seen.airflow.refused:
        yield Finding(
            "Airflow's administrator",
            seen.airflow.refused,
            f"Put it into the Secret airflow-admin (ADMIN_PASSWORD); or give Airflow the Secret's: `kubectl --namespace"
            f" {NAMESPACE} exec --stdin --tty deployment/airflow-scheduler -- airflow users reset-password --username"
            " admin`.",
            explained_by={f"secret {NAMESPACE}/airflow-admin"},
        )


def import_error(seen: Snapshot) -> Iterator[Finding]:
    """A DAG file that cannot be read."""
    for error in seen.airflow.import_errors:
        lines = [line for line in str(error["stack_trace"]).splitlines() if line.strip()]
        name = str(error["filename"]).rpartition("/")[2]
        places = [line.strip() for line in lines if line.strip().startswith("File ") and name in line]
        at = f", {places[-1].split(', ')[1]}" if places and ", " in places[-1] else ""
        yield Finding(
            f"file {error['filename']}",
            f"Airflow cannot import {error['filename']}{at}: {shorten(lines[-1] if lines else 'it does not say why')}",
            "Mend the file (`make test` finds the same) and run scripts/apply-all.sh, or push it where DAGs come from"
            " git. Until then its DAGs run as they were read last.",
        )


def pool_without_slots(seen: Snapshot) -> Iterator[Finding]:
    """A pool with 0 slots."""
    for pool in seen.airflow.pools:
        if pool["slots"] == 0:
            yield Finding(
                f"pool {pool['name']}",
                f"The pool {pool['name']} has 0 slots, so none of its tasks starts.",
                "Give it some: Airflow, Admin, Pools. As installed default_pool has 4.",
            )


def pool_full(seen: Snapshot) -> Iterator[Finding]:
    """A full pool for whose slots tasks have waited long."""
    for pool in seen.airflow.pools:
        waiting = [task for task in _stuck(seen, "scheduled") if task["pool"] == pool["name"]]
        if pool["slots"] > 0 and pool["open_slots"] <= 0 and waiting:
            yield Finding(
                f"pool {pool['name']}",
                f"The pool {pool['name']} is full ({pool['occupied_slots']} of {pool['slots']} slots), and"
                f" {len(waiting)} tasks have waited for more than {format_duration(STUCK_SECONDS)}.",
                "Airflow, Admin, Pools shows what holds the slots: wait for it, end what hangs, or give the pool more"
                " slots with more nodes.",
            )


def task_stuck(seen: Snapshot) -> Iterator[Finding]:
    """A queued task whose worker does not start."""
    for task in _stuck(seen, "queued"):
        yield Finding(
            f"task {task['dag_id']}.{task['task_id']}",
            f"The task {task['task_id']} of {task['dag_id']} (run {task['dag_run_id']}) has been queued for"
            f" {format_duration(seen.age(task['queued_when']))}: its worker does not start.",
            f"`kubectl --namespace {NAMESPACE} get pods --selector kubernetes_executor=True` shows its pod, if there is"
            f" one; else {_LOG}airflow-scheduler --tail=50`.",
            explained_by={"scheduler", f"resourcequota {NAMESPACE}/etl-poc", f"pool {task['pool']}"},
        )


def dag_paused(seen: Snapshot) -> Iterator[Finding]:
    """A paused DAG."""
    for dag in seen.airflow.dags:
        if dag["is_paused"] and is_ours(dag):
            yield Finding(
                f"DAG {dag['dag_id']}",
                f"The DAG {dag['dag_id']} is paused: no run of it begins, and no task of one that has begun.",
                "Switch it on in Airflow, left of its name. After an installation every DAG is paused.",
            )


def dag_late(seen: Snapshot) -> Iterator[Finding]:
    """A DAG whose next run is overdue."""
    for dag in seen.airflow.dags:
        late = seen.age(dag.get("next_dagrun_run_after"))
        if not dag["is_paused"] and late > LATE_SECONDS:
            yield Finding(
                f"DAG {dag['dag_id']}",
                f"The next run of {dag['dag_id']} was due {format_duration(late)} ago and has not begun.",
                "Airflow shows whether the run before it still goes on (there is one at a time): wait for it, or mark"
                " it failed where it hangs.",
                explained_by={"scheduler", "metadata", *(f"pool {pool['name']}" for pool in seen.airflow.pools)},
            )


def run_failed(seen: Snapshot) -> Iterator[Finding]:
    """A DAG whose last run failed."""
    for dag_id, run in seen.airflow.failed.items():
        detail = f": the task {run.task} failed. It last said: {run.message or 'nothing'}" if run.task else "."
        yield Finding(
            f"run of {dag_id}",
            f"The last run of {dag_id} ({run.run_id}) failed{detail}",
            "Mend what it says. The next run reads the same rows again; or clear the failed task with what follows, in"
            " Airflow.",
        )


def _silent(part: str, meaning: str) -> Callable[[Snapshot], Iterator[Finding]]:
    """The check for heartbeats of a part of Airflow."""
    name, words = part.replace("_", "-"), part.replace("_", " ")

    def find(seen: Snapshot) -> Iterator[Finding]:
        health = seen.airflow.health.get(part)
        if health and health.get("status") != "healthy":
            heartbeat = health.get(f"latest_{part}_heartbeat")
            ago = f"for {format_duration(seen.age(heartbeat))}" if heartbeat else "at all"
            yield Finding(
                words,
                f"Airflow's {words} has given no sign of life {ago}: {meaning}.",
                f"{_LOG}airflow-{name} --tail=50` says what it does; `kubectl --namespace {NAMESPACE} rollout restart"
                f" deployment/airflow-{name}` starts it anew.",
                explained_by={"metadata", subject("Deployment", f"airflow-{name}", NAMESPACE)},
            )

    return find


scheduler_silent = _silent("scheduler", "no run begins and no task starts")
dag_processor_silent = _silent("dag_processor", "new and changed DAG files are not seen")
triggerer_silent = _silent("triggerer", "deferred tasks do not go on")


def _stuck(seen: Snapshot, state: str) -> list[dict[str, Any]]:
    since = {"queued": "queued_when", "scheduled": "scheduled_when"}[state]
    return [task for task in seen.airflow.waiting if task["state"] == state and seen.age(task[since]) > STUCK_SECONDS]
