"""The last line of a failed task's log is the sentence a person needs, under Airflow's own supervisor."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dev.sandbox.pipelines import whole
from dev.sandbox.process import free_port
from dev.sandbox.stack import ROOT, airflow_environment
from tests.harness.airflow.run_task import log_path

PORT = free_port()
RUN_ID = "manual__2026-01-01T00:00:00+00:00"
NOT_THERE = f"127.0.0.1:{PORT}"
NO_SINK = (
    f"The sink {NOT_THERE}/sink cannot be reached: 127.0.0.1 (127.0.0.1) does not answer on port {PORT}:"
    " Connection refused."
)


def run(folder: Path, task: str, map_index: int = -1, **facts: Any) -> list[dict[str, Any]]:
    """Run an attempt of a task of orders_etl without a reachable source or sink; returns the lines of its log."""
    source, sink = f"postgresql://orders@{NOT_THERE}/orders", f"mssql://etl@{NOT_THERE}/sink?encrypt=no"
    environment = airflow_environment(folder, "sqlite://", source, sink)
    logs = {"AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(folder / "logs"), "LOKI_URL": ""}
    connection = {"conn_type": "mssql", "host": "127.0.0.1", "port": PORT, "schema": "sink", "login": "etl"}
    extra = {"extra": {"encryption": "off"}, "password": "of-no-server"}
    command = [
        sys.executable, "-m", "tests.harness.airflow.run_task", "orders_etl.py", "orders_etl", task,
        f"--run-id={RUN_ID}", f"--map-index={map_index}", f"--run={json.dumps(facts)}",
        f"--xcom={json.dumps([whole().model_dump_json()])}",
    ]  # fmt: skip
    completed = subprocess.run(
        command,
        env=os.environ | environment | logs | {"AIRFLOW_CONN_SINK": json.dumps(connection | extra)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    file = folder / "logs" / log_path("orders_etl", RUN_ID, task, 1, map_index)
    assert file.exists(), completed.stdout + completed.stderr
    return [json.loads(line) for line in file.read_text().splitlines()]


def shown_last(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """The last line that Airflow's UI shows without a click: lines of a group that is open are folded up."""
    shown, depth = [], 0
    for line in lines:
        depth += line["event"].startswith("::group::")
        depth -= line["event"] == "::endgroup::" and depth > 0
        if depth == 0 and line["event"] != "::endgroup::":
            shown.append(line)
    return shown[-1]


@pytest.mark.parametrize(
    ("task", "map_index", "facts", "told"),
    [
        ("plan", -1, {"conf": {"ful_refresh": True}}, "Did you mean full_refresh?"),
        ("plan", -1, {}, NO_SINK),
        ("reconcile", -1, {}, NO_SINK),
        ("partition.extract", 0, {}, f"{NOT_THERE}"),
    ],
    ids=["plan of an unknown key", "plan", "reconcile", "a step"],
)
def test_the_last_line_of_a_failed_tasks_log_is_the_sentence(
    tmp_path: Path, task: str, map_index: int, facts: dict[str, Any], told: str
) -> None:
    lines = run(tmp_path, task, map_index, **facts)
    last = shown_last(lines)
    assert told in last["event"]
    assert "\n" not in last["event"]
    assert last["level"] == "error"
    assert "error_detail" not in last
    assert not [line for line in lines if "too short" in line["event"]]
