"""Queries Airflow: its health without a login, the rest as administrator."""

import json
import re
from typing import Any

from ops.cluster.airflow_api import AirflowApi, LoginRefusedError, run_path, task_name
from ops.cluster.console import DeployError
from ops.cluster.kubectl import Kubectl
from ops.cluster.log_lines import last_message, reason
from ops.doctor import http
from ops.doctor.snapshot import Airflow, FailedRun

TAG = "etl"
"""The tag of DAGs made by etl_airflow.dag.factory."""
_MOST_LOGS = 3
"""The number of failed runs whose log is read."""
_SOURCE = re.compile(r"(\S+) → \S+ where ")
"""The beginning of the description of such a DAG."""


def query_airflow(kubectl: Kubectl) -> Airflow:
    """Query everything. If Airflow does not answer, the result says why."""
    found, api = Airflow(), AirflowApi(kubectl, http.SECONDS)
    try:
        found.health = api.get("/monitor/health")
        with api:
            _ask(api, found)
    except LoginRefusedError as error:
        found.refused = str(error)
    except (DeployError, ValueError) as error:
        found.down = reason(error)
    finally:
        api.close()
    return found


def source_tables(dags: list[dict[str, Any]]) -> list[str]:
    """The source tables of the DAGs, from their descriptions."""
    matches = (_SOURCE.match(dag.get("description") or "") for dag in dags if is_ours(dag))
    return sorted({match[1] for match in matches if match})


def is_ours(dag: dict[str, Any]) -> bool:
    """Whether a DAG is a pipeline of this project."""
    return TAG in {tag["name"] for tag in dag.get("tags") or []}


def _ask(api: AirflowApi, found: Airflow) -> None:
    found.import_errors = list(api.list("/importErrors", "import_errors"))
    found.pools = list(api.list("/pools", "pools"))
    found.dags = list(api.list("/dags", "dags"))
    waiting = "/dags/~/dagRuns/~/taskInstances?state=queued&state=scheduled"
    found.waiting = list(api.list(waiting, "task_instances"))
    for dag in found.dags:
        if dag["is_paused"]:
            continue  # dag_paused reports it; its runs do not go on
        ended = api.get(f"{run_path(dag['dag_id'])}?state=success&state=failed&order_by=-end_date&limit=1")["dag_runs"]
        if ended and ended[0]["state"] == "failed":
            run_id = ended[0]["dag_run_id"]
            read = len(found.failed) < _MOST_LOGS
            found.failed[dag["dag_id"]] = _failed(api, run_path(dag["dag_id"], run_id), run_id, read)


def _failed(api: AirflowApi, run: str, run_id: str, read: bool) -> FailedRun:
    tasks = api.get(f"{run}/taskInstances?state=failed&order_by=end_date&limit=1")["task_instances"]
    if not tasks:
        return FailedRun(run_id, "", "")
    task = tasks[0]
    message = ""
    if read:
        try:
            message = last_message("\n".join(json.dumps(line) for line in api.log(run, task)))
        except DeployError as error:
            message = f"(its log cannot be read: {error})"
    return FailedRun(run_id, task_name(task), message)
