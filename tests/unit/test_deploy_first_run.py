"""`apply-all.sh --wait-for-first-run`: triggers the DAG over Airflow's API, follows it, shows what it reconciled."""

import json
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from typing import Any

import pytest

from ops.deploy.cli import main
from tests.doubles.fake_cluster import FakeCluster
from tests.doubles.http_server import Handler, serving

RECONCILED = {"extracted": 4000, "kept": 1600, "verdict": "adds up"}


class FakeAirflow(ThreadingHTTPServer):
    """Answers as Airflow's API does: one run of one DAG, which ends as `ends` says."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.ends = "success"
        self.unparsed = 1
        self.reconciled: dict[str, Any] | None = RECONCILED
        self.calls: list[tuple[str, str, Any]] = []
        self.run_id = ""
        self.polls = 0

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        path = path.removeprefix("/api/v2")
        if (method, path) == ("POST", "/auth/token"):
            return 201, {"access_token": "the-token"}
        if (method, path) == ("POST", "/dags/orders_etl/dagRuns"):
            self.run_id = body["dag_run_id"]
            return 200, {}
        if path == "/dags/orders_etl":
            self.unparsed -= 1
            return (404, {"detail": "no such DAG"}) if self.unparsed >= 0 else (200, {})
        if path == "/importErrors":
            return 200, {"import_errors": []}
        if "/taskInstances?" in path:
            return 200, self._tasks()
        if "/logs/" in path:
            return 200, {"content": [{"event": "the sink is full"}]}
        if "/xcomEntries/" in path:
            return (200, {"value": self.reconciled}) if self.reconciled else (404, {"detail": "no such entry"})
        if path.startswith("/dags/orders_etl/dagRuns?"):
            return 200, {"dag_runs": [{"dag_run_id": self.run_id}]}
        self.polls += 1
        return 200, {"dag_run_id": self.run_id, "state": self.ends if self.polls > 2 else "running"}

    def _tasks(self) -> dict[str, Any]:
        state = self.ends if self.polls > 2 else "running"
        tasks = [{"task_id": "partition.load", "map_index": 1, "try_number": 4, "state": state}]
        return {"task_instances": tasks, "total_entries": 1}


class _Handler(Handler):
    server: FakeAirflow

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        authorised = self.path == "/auth/token" or self.headers["Authorization"] == "Bearer the-token"
        self.server.calls.append((self.command, self.path, body))
        refusal = 401, {"detail": "no token"}
        code, answer = self.server.answer(self.command, self.path, body) if authorised else refusal
        self.answer(code, answer)

    do_GET = do_POST = do_PATCH = _serve


@pytest.fixture
def airflow() -> Iterator[FakeAirflow]:
    with serving(server := FakeAirflow()):
        yield server


@pytest.fixture
def cluster(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, airflow: FakeAirflow) -> FakeCluster:
    # A proxy of the environment is not asked for what is on this machine.
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    cluster.set(port=airflow.server_address[1])
    return cluster


def test_the_run_is_triggered_followed_and_its_reconciliation_shown(cluster: FakeCluster, airflow: FakeAirflow) -> None:
    assert main(cluster.arguments("--wait-for-first-run")) == 0
    told = cluster.said().out
    assert "extracted  4000" in told
    assert "verdict    adds up" in told
    calls = [(method, path) for method, path, _ in airflow.calls if method != "GET"]
    assert calls == [
        ("POST", "/auth/token"),
        ("POST", "/api/v2/dags/orders_etl/dagRuns"),
        ("PATCH", "/api/v2/dags/orders_etl"),
    ]
    login, trigger, resume = (body for method, _, body in airflow.calls if method != "GET")
    assert login["username"] == "admin"
    assert login["password"] not in told
    assert trigger.pop("run_after") < "2" + airflow.run_id.partition("__2")[2]  # before any of the schedule
    assert trigger == {"dag_run_id": airflow.run_id, "logical_date": None}
    assert resume == {"is_paused": False}


def test_a_run_that_fails_names_its_tasks_shows_their_logs_and_fails(
    cluster: FakeCluster, airflow: FakeAirflow
) -> None:
    airflow.ends = "failed"
    assert main(cluster.arguments("--wait-for-first-run")) == 1
    told = cluster.said()
    assert "the sink is full" in told.out
    assert told.err == f"The run {airflow.run_id} of orders_etl failed: partition.load[1].\n"


def test_a_run_that_finds_nothing_new_is_no_failure(cluster: FakeCluster, airflow: FakeAirflow) -> None:
    airflow.reconciled = None
    assert main(cluster.arguments("--wait-for-first-run")) == 0
    assert "found no rows to move" in cluster.said().out
