"""A log of any length is read in order, without gaps, once; if Loki does not answer, the UI says so."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from types import GeneratorType
from typing import Any

import pytest
from etl_airflow.task_logs import reader
from etl_airflow.task_logs.identity import Identity
from etl_airflow.task_logs.loki import Entry, Loki, LokiUnavailableError
from etl_airflow.task_logs.remote import LokiTaskLog

from dev.sandbox.stack import ROOT
from tests.harness.airflow.task_log import attempt, read_log, reading_from

PATH = "dag_id=orders_etl/run_id=a+b/task_id=partition.load/attempt=1.log"
NOWHERE = "http://127.0.0.1:1"


class Shelf:
    """In the place of Loki's queries: lines, and the most bytes that an answer may have."""

    def __init__(self, entries: list[Entry], most: int = 10**9) -> None:
        self._entries, self._most = sorted(entries), most

    def query(self, query: str, start: int, end: int, limit: int) -> list[Entry]:
        page = [entry for entry in self._entries if start <= entry.nanoseconds < end][:limit]
        if sum(len(entry.line) for entry in page) > self._most:
            raise LokiUnavailableError("grpc: received message larger than max")
        return page


def read(entries: list[Entry], *, most: int = 10**9, end: int = 10**6) -> list[str]:
    shelf: Any = Shelf(entries, most)
    return [entry.line for page in reader.read_pages(shelf, "", 0, end) for entry in page]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10, 100])
def test_pages_of_any_size_join_without_gaps_or_doubles_also_where_times_are_equal(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines of two processes, the pod's and the trigger's, may have one time."""
    monkeypatch.setattr(reader, "FIRST_PAGE", size)
    monkeypatch.setattr(reader, "PAGE", size)
    entries = [Entry(number // 3, f"path {number % 2}", f"line {number:02}") for number in range(50)]
    found = read(entries)
    assert sorted(found) == [f"line {number:02}" for number in range(50)]
    assert found == [entry.line for entry in sorted(entries)]


def test_a_page_of_more_bytes_than_loki_manages_is_asked_for_in_smaller_ones() -> None:
    """Short lines make the pages large; then come long ones."""
    lines = ["x" * 10] * 3000 + ["x" * 100_000] * 200
    entries = [Entry(number, "", f"{number:04}{line}") for number, line in enumerate(lines)]
    assert read(entries, most=10_000_000) == [entry.line for entry in entries]


def test_a_time_longer_than_loki_answers_for_is_asked_for_in_parts() -> None:
    day = 86_400 * 10**9
    entries = [Entry(number * day, "", f"day {number}") for number in range(100)]
    assert read(entries, end=200 * day) == [f"day {number}" for number in range(100)]


def test_the_query_finds_the_attempt_and_its_triggers_and_no_other() -> None:
    identity = Identity.of(PATH)
    assert identity is not None
    assert reader.select(identity) == (
        '{job="airflow-task", dag_id="orders_etl", task_id="partition.load"}'
        r' | path=~"dag_id=orders_etl/run_id=a\\+b/task_id=partition\\.load/attempt=1\\.log(\\.trigger.*)?"'
    )


def test_the_time_is_that_of_the_attempt_with_a_margin() -> None:
    now = datetime.now(UTC)
    ended = attempt()
    start, end = reader.time_range(ended, now) or (now, now)
    assert start == ended.dag_run.start_date - reader.MARGIN  # a sensor that was rescheduled began long before
    assert end == ended.end_date + reader.MARGIN
    running = attempt(state="running", end_date=None)
    assert (reader.time_range(running, now) or (now, now))[1] == now + reader.MARGIN
    cleared = attempt(state="queued", start_date=None, end_date=now - timedelta(days=2))
    assert (reader.time_range(cleared, now) or (now, now))[1] == now + reader.MARGIN
    assert reader.time_range(attempt(queued_dttm=None, start_date=None), now) is None


def test_airflow_takes_what_stream_gives_only_as_generators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Loki, "query", lambda *_: [])
    _, streams = LokiTaskLog("http://loki").stream(PATH, attempt())
    assert [type(stream) for stream in streams] == [GeneratorType]


def test_a_finished_attempt_without_lines_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Loki, "query", lambda *_: [])
    with reading_from("http://loki"):
        (told,) = read_log(attempt())
        assert "Loki has no line of this attempt" in told["event"]
        assert read_log(attempt(state="running", end_date=None)) == []


def test_the_lines_of_a_running_task_show_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow would show the pod's last lines beside those of Loki."""
    lines = [json.dumps({"timestamp": f"2026-01-01T00:00:0{n}Z", "level": "info", "event": f"line {n}"}) for n in "123"]
    entries = [Entry(number, PATH, line) for number, line in enumerate(lines)]
    monkeypatch.setattr(Loki, "query", lambda *_: entries)
    with reading_from("http://loki", pod_lines="\n".join([*lines, "of the supervisor"])):
        shown = read_log(attempt(state="running", end_date=None))
    assert [line["event"] for line in shown] == ["line 1", "line 2", "line 3"]


def test_loki_that_does_not_answer_is_told_in_words_beside_what_airflow_has_itself() -> None:
    with reading_from(NOWHERE, pod_lines='{"event": "of the pod", "timestamp": "2026-01-01T00:00:00Z"}'):
        told, of_the_pod = read_log(attempt(state="running", end_date=None))
        (told_too,) = read_log(attempt())
    assert told["level"] == "error"
    assert told["event"].startswith(f"The log could not be read from Loki: {NOWHERE} does not answer")
    assert of_the_pod["event"] == "of the pod"
    assert told_too["event"].startswith("The log could not be read from Loki")


def test_loki_that_stops_answering_between_two_pages_is_told_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [Entry(number, PATH, json.dumps({"event": str(number)})) for number in range(reader.FIRST_PAGE)]
    answers = iter([entries])

    def query(*_: Any) -> list[Entry]:
        if page := next(answers, None):
            return page
        raise LokiUnavailableError("gone")

    monkeypatch.setattr(Loki, "query", query)
    with reading_from("http://loki"):
        *lines, told = read_log(attempt())
    assert len(lines) == reader.FIRST_PAGE
    assert told["event"] == "The log continues, but Loki stopped answering: gone. Open it again later."


_WHAT_AIRFLOW_TAKES = """
import airflow.settings, airflow.sdk.log, airflow.logging_config, json
from airflow.utils.log.log_reader import TaskLogReader
core, sdk = airflow.logging_config.get_remote_task_log(), airflow.sdk.log.load_remote_log_handler()
print(json.dumps([type(core).__name__, core is sdk, type(TaskLogReader().log_handler).__name__]))
"""


@pytest.mark.parametrize(
    ("url", "taken"),
    [("http://loki:3100", ["LokiTaskLog", True, "LokiTaskHandler"]), ("", ["NoneType", True, "FileTaskHandler"])],
)
def test_airflow_takes_the_handler_where_loki_url_is_set_and_its_own_where_not(url: str, taken: list[Any]) -> None:
    environment = {
        **os.environ,
        "AIRFLOW__LOGGING__LOGGING_CONFIG_CLASS": "etl_airflow.task_logs.config.LOGGING_CONFIG",
        "LOKI_URL": url,
        "PYTHONPATH": f"{ROOT}/airflow_image/config",
    }
    command = [sys.executable, "-c", _WHAT_AIRFLOW_TAKES]
    completed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(completed.stdout.splitlines()[-1]) == taken
