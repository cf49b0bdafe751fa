"""Task logs in Loki, written under Airflow's own supervisor and read by Airflow's own log reader."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow import logging_config
from airflow.jobs.triggerer_job_runner import TriggerLoggingFactory
from airflow.sdk import log as sdk_log

from dev.sandbox.process import kill_session
from dev.sandbox.stack import ROOT
from dev.sandbox.waiting import wait_for
from tests.harness.airflow.run_task import log_path
from tests.harness.airflow.task_log import RUN_ID, attempt, read_log, reading_from
from tests.harness.logs.loki import LokiServer, loki_of_our_own

MANY = 10_000


class Worker:
    """Runs attempts of the tasks of tests/harness/airflow/dags/counting.py as worker pods do."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen[bytes]] = []
        (folder / "dags").mkdir()
        shutil.copy(ROOT / "tests" / "harness" / "airflow" / "dags" / "counting.py", folder / "dags")
        self._environment = {
            "AIRFLOW_HOME": str(folder),
            "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "dags"),
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(folder / "logs"),
            "AIRFLOW__LOGGING__LOGGING_CONFIG_CLASS": "etl_airflow.task_logs.config.LOGGING_CONFIG",
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
            "LOKI_URL": url,
            "PYTHONPATH": f"{ROOT}:{ROOT}/airflow_image/config",
        }

    def start(self, task: str = "count", try_number: int = 1, map_index: int = -1, **environment: Any) -> Any:
        """Start an attempt in a new session, as in a pod."""
        command = [
            sys.executable, "-m", "tests.harness.airflow.run_task", "counting.py", "counting", task,
            f"--run-id={RUN_ID}", f"--try-number={try_number}", f"--map-index={map_index}",
        ]  # fmt: skip
        given = {name: str(value) for name, value in environment.items()}
        with (self.folder / "stdout").open("wb") as out, (self.folder / "stderr").open("wb") as err:
            process = subprocess.Popen(
                command,
                env={**os.environ, **self._environment, **given},
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def wait(self, process: Any) -> str:
        """Wait for the attempt's good end; returns what it printed to stdout."""
        code = process.wait(timeout=240)
        stdout, stderr = ((self.folder / name).read_text() for name in ("stdout", "stderr"))
        assert code == 0, stderr + stdout
        assert "reported: success" in stderr
        return stdout

    def run(self, *what: Any, **environment: Any) -> str:
        """Run an attempt to its end; returns what it printed to stdout."""
        return self.wait(self.start(*what, **environment))

    def remove_logs(self) -> None:
        """Remove the logs, as the end of the pod does."""
        shutil.rmtree(self.folder / "logs")

    def written(self, task: str = "count") -> list[dict[str, Any]]:
        """The lines of the log file."""
        file = self.folder / "logs" / log_path("counting", RUN_ID, task, 1)
        whole = file.read_text().rpartition("\n")[0] if file.exists() else ""
        return [json.loads(line) for line in whole.splitlines()]


@pytest.fixture
def worker(loki: LokiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    """A worker whose dag, for this test alone, has its own lines in Loki: it is the run's id that differs."""
    monkeypatch.setattr("tests.integration.test_task_logs.RUN_ID", f"manual__{datetime.now(UTC).isoformat()}")
    made = Worker(tmp_path, loki.url)
    yield made
    for process in made.started:
        kill_session(process.pid)
        process.wait()


def this(task: str = "count", **facts: Any) -> Any:
    return attempt(task, run_id=RUN_ID, **facts)


def numbers(lines: list[dict[str, Any]]) -> list[int]:
    events = [str(line["event"]) for line in lines]
    return [int(event.split()[1]) for event in events if event.startswith("line ")]


def test_ten_thousand_lines_in_ten_thousand_out_in_order_once_after_the_pod_is_gone(
    loki: LokiServer, worker: Worker
) -> None:
    printed = worker.run(LINES=MANY)
    assert '"undelivered"' not in printed
    written = worker.written()
    worker.remove_logs()
    with reading_from(loki.url):
        shown = read_log(this())
    assert numbers(shown) == list(range(MANY))
    # Airflow orders lines by time, so that lines of stdout may come between others in flight.
    assert sorted(line["event"] for line in shown) == sorted(line["event"] for line in written)
    stdout, stderr = (
        next(line for line in shown if line.get("logger") == f"task.std{name}") for name in ("out", "err")
    )
    assert (stdout["event"], stderr["event"]) == ("on stdout", "on stderr")


def test_every_line_carries_its_identity_and_its_own_time(loki: LokiServer, worker: Worker) -> None:
    worker.run(LINES=5)
    found = loki.lines(f'{{job="airflow-task", dag_id="counting", task_id="count"}} | run_id="{RUN_ID}"')
    written = worker.written()
    assert [json.loads(line) for _, line, _ in found] == written
    for at, line, labels in found:
        assert labels["path"] == log_path("counting", RUN_ID, "count", 1)
        assert (labels["map_index"], labels["try_number"]) == ("-1", "1")
        own = datetime.fromisoformat(json.loads(line)["timestamp"])
        assert abs(at / 1e9 - own.timestamp()) < 0.01


@loki_of_our_own
def test_with_loki_stopped_in_the_middle_and_back_every_line_is_there_once(loki: LokiServer, worker: Worker) -> None:
    process = worker.start(LINES=MANY, SECONDS=12)
    query = f'{{job="airflow-task"}} | run_id="{RUN_ID}"'
    wait_for(lambda: len(loki.lines(query)) > 1000)
    loki.stop()
    try:
        seen = len(worker.written())
        wait_for(lambda: len(worker.written()) > seen + MANY // 5)
    finally:
        loki.start()
    printed = worker.wait(process)
    assert '"undelivered"' not in printed
    assert "Loki does not take task logs now" in printed
    with reading_from(loki.url):
        assert numbers(read_log(this())) == list(range(MANY))


def test_a_killed_worker_loses_at_most_the_last_second_and_a_running_one_shows_each_line_once(
    loki: LokiServer, worker: Worker
) -> None:
    process = worker.start(LINES=100_000, SECONDS=1000)
    wait_for(lambda: len(worker.written()) > 300)
    with reading_from(loki.url, pod_lines="\n".join(json.dumps(line) for line in worker.written()[-100:])):
        running = numbers(read_log(this(state="running", end_date=None)))
        kill_session(process.pid)
        process.wait()
        shown = read_log(this(state="failed"))
    assert len(running) > 100
    assert running == list(range(len(running)))
    assert numbers(shown) == list(range(len(numbers(shown))))
    last_shown, last_written = (datetime.fromisoformat(lines[-1]["timestamp"]) for lines in (shown, worker.written()))
    assert (last_written - last_shown).total_seconds() <= 1


def test_tries_and_mapped_tasks_have_logs_of_their_own(loki: LokiServer, worker: Worker) -> None:
    """A cleared task goes on counting its tries, so that its earlier log stays."""
    attempts = {(0, 1): 3, (0, 2): 5, (1, 1): 7}
    for (map_index, try_number), lines in attempts.items():
        worker.run("part", try_number, map_index, LINES=lines)
    worker.remove_logs()
    with reading_from(loki.url):
        for (map_index, try_number), lines in attempts.items():
            shown = read_log(this("part", map_index=map_index, try_number=try_number))
            assert numbers(shown) == list(range(lines))


@loki_of_our_own
def test_a_log_is_there_when_loki_was_started_again(loki: LokiServer, worker: Worker) -> None:
    worker.run(LINES=100)
    loki.stop()
    loki.start()
    with reading_from(loki.url):
        assert numbers(read_log(this())) == list(range(100))


def test_lines_of_the_trigger_are_part_of_the_log(loki: LokiServer, worker: Worker, tmp_path: Path) -> None:
    """The triggerer writes a file for each trigger, all in one process."""
    worker.run(LINES=3)
    with reading_from(loki.url), pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__LOGGING__BASE_LOG_FOLDER", str(tmp_path / "triggerer"))
        remote: Any = logging_config.get_remote_task_log()
        patch.setattr(sdk_log, "load_remote_log_handler", lambda: remote)
        sdk_log.logging_processors.cache_clear()
        path = f"{log_path('counting', RUN_ID, 'count', 1)}.trigger.7.log"
        factory: Any = TriggerLoggingFactory(log_path=path, ti=SimpleNamespace())  # type: ignore[arg-type]
        for number in (3, 4):
            factory(sdk_log.logging_processors(json_output=True)).info(f"line {number}")
        factory.upload_to_remote()
        factory.close()
        sdk_log.logging_processors.cache_clear()
        wait_for(lambda: numbers(read_log(this())) == [0, 1, 2, 3, 4])


def test_very_long_lines_come_back_whole(loki: LokiServer, tmp_path: Path) -> None:
    """A page of them is more bytes than Loki sends at once."""
    from etl_airflow.task_logs.remote import LokiTaskLog

    path = log_path("counting", f"long__{datetime.now(UTC).isoformat()}", "count", 1)
    file = tmp_path / path
    file.parent.mkdir(parents=True)
    lengths = [10] * 2000 + [200_000] * 150 + [10] * 10
    lines = [f"line {number} " + "x" * length for number, length in enumerate(lengths)]
    file.write_text("".join(json.dumps({"event": line}) + "\n" for line in lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__LOGGING__BASE_LOG_FOLDER", str(tmp_path))
        LokiTaskLog(loki.url).upload(path)
    with reading_from(loki.url):
        shown = read_log(attempt(run_id=path.split("/")[1].removeprefix("run_id=")))
    assert [line["event"] for line in shown] == lines


@pytest.fixture(params=["refuses connections", "takes connections and says nothing"])
def unreachable(request: pytest.FixtureRequest) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        if request.param == "refuses connections":
            server.close()
        yield f"http://127.0.0.1:{port}"


def test_an_unreachable_loki_neither_fails_nor_slows_the_task_and_is_told_in_words(
    worker: Worker, tmp_path: Path, unreachable: str
) -> None:
    lines = 2000
    printed = worker.run(LINES=lines, LOKI_URL=unreachable, LOKI_EXIT_SECONDS=2)
    written = worker.written()
    first, last = (datetime.fromisoformat(line["timestamp"]) for line in (written[0], written[-1]))
    assert (last - first).total_seconds() < 20
    records = [json.loads(line) for line in printed.splitlines()]
    undelivered = [record for record in records if record.get("undelivered")]
    assert numbers(undelivered) == list(range(lines))
    assert {record["path"] for record in undelivered} == {log_path("counting", RUN_ID, "count", 1)}
    assert "came by way of the pod's output" in undelivered[-1]["event"]
    with reading_from(unreachable):
        (told,) = read_log(this())
    assert told["event"].startswith(f"The log could not be read from Loki: {unreachable} does not answer")
