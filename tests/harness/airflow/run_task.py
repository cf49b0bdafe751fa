"""Runs an attempt of a task as a worker pod does, under Airflow's supervisor, with a mock API server.

    python -m tests.harness.airflow.run_task DAG_FILE DAG_ID TASK_ID --try-number 2 --map-index 1

The supervisor writes the log file, stdout and the lines for Loki.
"""

import argparse
import json
import sys
import uuid
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from airflow.executors.workloads.base import BundleInfo
from airflow.sdk.api.client import Client
from airflow.sdk.api.datamodels._generated import TaskInstance
from airflow.sdk.execution_time.supervisor import supervise_task
from airflow.sdk.log import configure_logging


def main() -> int:
    """Run it; returns the task's exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dag_file", type=Path)
    parser.add_argument("dag_id")
    parser.add_argument("task_id")
    parser.add_argument("--run-id", default="manual__2026-01-01T00:00:00+00:00")
    parser.add_argument("--try-number", type=int, default=1)
    parser.add_argument("--map-index", type=int, default=-1)
    parser.add_argument("--run", type=json.loads, default={}, help="what differs of the DAG run, as JSON")
    parser.add_argument("--xcom", type=json.loads, help="what every task before it has returned, as JSON")
    arguments = parser.parse_args()
    nod = partial(_nod, arguments.run, arguments.xcom)
    # As airflow.sdk.execution_time.execute_workload has it.
    configure_logging(output=sys.stdout.buffer, json_output=True)
    ti = TaskInstance(
        id=uuid.uuid4(),
        dag_id=arguments.dag_id,
        task_id=arguments.task_id,
        run_id=arguments.run_id,
        try_number=arguments.try_number,
        map_index=arguments.map_index,
        dag_version_id=uuid.uuid4(),
        pool_slots=1,
        priority_weight=1,
        queue="default",
    )
    return supervise_task(
        ti=ti,
        bundle_info=BundleInfo(name="dags-folder"),
        dag_rel_path=arguments.dag_file.name,
        token="",
        client=Client(base_url=None, token="", dry_run=True, transport=httpx.MockTransport(nod)),
        log_path=log_path(ti.dag_id, ti.run_id, ti.task_id, ti.try_number, arguments.map_index),
        subprocess_logs_to_stdout=True,
    )


def _nod(changes: dict[str, Any], xcom: Any, request: httpx.Request) -> httpx.Response:
    """The API server's answers; the states that are reported to it are written to stderr."""
    if request.url.path.endswith("/run"):
        time = "2026-01-01T00:00:00Z"
        run = {"dag_id": "any", "run_id": "any", "run_type": "manual", "state": "running", "consumed_asset_events": []}
        times = {"logical_date": None, "data_interval_start": None, "data_interval_end": None, "end_date": None}
        dag_run = {**run, **times, "run_after": time, "start_date": time, "partition_key": None, **changes}
        return httpx.Response(200, json={"dag_run": dag_run, "max_tries": 0, "start_date": time})
    if request.method == "GET" and "xcoms" in request.url.path:
        return httpx.Response(200, json={"key": "return_value", "value": xcom})
    if request.url.path.endswith("/state"):
        print("reported:", json.loads(request.content).get("state"), file=sys.stderr, flush=True)
    return httpx.Response(200, json={})


def log_path(dag_id: str, run_id: str, task_id: str, try_number: int, map_index: int = -1) -> str:
    """The log's path as [logging] log_filename_template has it."""
    mapped = f"map_index={map_index}/" if map_index >= 0 else ""
    return f"dag_id={dag_id}/run_id={run_id}/task_id={task_id}/{mapped}attempt={try_number}.log"


if __name__ == "__main__":
    sys.exit(main())
