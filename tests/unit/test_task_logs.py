"""Lines reach Loki while the task runs, once and in order; what Loki does not take is not lost and not waited for."""

import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import structlog
from etl_airflow.task_logs.identity import Identity
from etl_airflow.task_logs.log_file import LINE_BYTES, OLDEST, LogFile, nanoseconds, prepare
from etl_airflow.task_logs.loki import LokiRefusedError, LokiUnavailableError, Value
from etl_airflow.task_logs.remote import LokiTaskLog
from etl_airflow.task_logs.sender import Sender

from dev.sandbox import waiting
from dev.sandbox.stack import ROOT

PATH = "dag_id=orders_etl/run_id=manual__2026-01-01T00:00:00+00:00/task_id=partition.load/map_index=3/attempt=2.log"


class Recorder:
    """A Loki that keeps pushed lines, and can be made unavailable or to refuse some."""

    def __init__(self) -> None:
        self.away = False
        self.refuses = "nothing is refused"
        self.pushes: list[list[Value]] = []
        self.tried: list[list[Value]] = []
        self.identities: set[Identity] = set()

    def push(self, identity: Identity, values: Sequence[Value]) -> None:
        self.tried.append(list(values))
        if self.away:
            raise LokiUnavailableError("http://loki:3100 does not answer: Connection refused")
        if any(self.refuses in line for _, line in values):
            raise LokiRefusedError("http://loki:3100 answers 400: no")
        self.pushes.append(list(values))
        self.identities.add(identity)

    @property
    def lines(self) -> list[str]:
        return [json.loads(line)["event"] for push in self.pushes for _, line in push]

    @property
    def times(self) -> list[int]:
        return [at for push in self.pushes for at, _ in push]


@pytest.fixture
def loki() -> Recorder:
    return Recorder()


@pytest.fixture
def remote(loki: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LokiTaskLog:
    monkeypatch.setenv("AIRFLOW__LOGGING__BASE_LOG_FOLDER", str(tmp_path))
    sender = Sender(lambda: loki, interval=0.01)  # type: ignore[arg-type, return-value]
    return LokiTaskLog("http://loki:3100", exit_seconds=0.3, sender=sender)


@pytest.fixture
def log(remote: LokiTaskLog, tmp_path: Path) -> Iterator[Any]:
    """A task's logger as the supervisor makes it: our processor, then JSON, then the file."""
    yield from opened(remote, tmp_path / PATH)


def opened(remote: LokiTaskLog, path: Path, mode: str = "ab") -> Iterator[Any]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open(mode) as file:
        stamp = structlog.processors.MaybeTimeStamper(fmt="iso")
        processors = [stamp, *remote.processors, structlog.processors.JSONRenderer()]
        yield structlog.wrap_logger(structlog.BytesLogger(file), processors=encoded(processors))  # type: ignore[arg-type]


wait_for = partial(waiting.wait_for, seconds=10, pause=0.005)


def encoded(processors: list[Any]) -> list[Any]:
    return [*processors, lambda _, __, text: text.encode()]


def undelivered(printed: str) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    return [record for record in records if record.get("undelivered")]


def test_lines_are_sent_while_the_task_runs(log: Any, loki: Recorder) -> None:
    log.info("first")
    wait_for(lambda: loki.lines == ["first"])
    log.info("second")
    wait_for(lambda: loki.lines == ["first", "second"])


def test_every_line_has_the_identity_that_the_path_says_also_of_stdout(log: Any, loki: Recorder) -> None:
    log.info("printed by the task", logger="task.stdout")
    wait_for(lambda: bool(loki.lines))
    (identity,) = loki.identities
    assert identity.labels == {"job": "airflow-task", "dag_id": "orders_etl", "task_id": "partition.load"}
    assert identity.metadata == {
        "run_id": "manual__2026-01-01T00:00:00+00:00", "map_index": "3", "try_number": "2", "path": PATH
    }  # fmt: skip


def test_only_the_logs_of_tasks_are_sent(remote: LokiTaskLog, tmp_path: Path, loki: Recorder) -> None:
    for log in opened(remote, tmp_path / "dag_processor" / "2026-01-01" / "orders_etl.py.log"):
        log.info("parsed")
    remote.upload("dag_processor/2026-01-01/orders_etl.py.log")
    assert loki.tried == []


def test_equal_lines_of_equal_times_stay_apart_and_in_order(log: Any, loki: Recorder, remote: LokiTaskLog) -> None:
    now = datetime.now(UTC).isoformat()
    for _ in range(3):
        log.info("the same", timestamp=now)
    log.info("older, but written later", timestamp=(datetime.now(UTC) - timedelta(seconds=5)).isoformat())
    remote.upload(PATH)
    assert loki.lines == ["the same"] * 3 + ["older, but written later"]
    first = nanoseconds(datetime.fromisoformat(now))
    assert loki.times == [first, first + 1, first + 2, first + 3]


def test_while_loki_is_away_lines_wait_and_then_come_in_order_once(
    log: Any, loki: Recorder, remote: LokiTaskLog
) -> None:
    loki.away = True
    for number in range(5000):
        log.info(str(number))
    wait_for(lambda: len(loki.tried) >= 2)
    # What is tried again is the same to the nanosecond, so that Loki keeps it once, had it taken it.
    assert loki.tried[0] == loki.tried[1]
    loki.away = False
    for number in range(5000, 6000):
        log.info(str(number))
    wait_for(lambda: len(loki.lines) == 6000)
    remote.upload(PATH)
    assert loki.lines == [str(number) for number in range(6000)]
    assert loki.times == sorted(set(loki.times))


def test_a_task_that_comes_back_after_a_deferral_sends_only_its_own_part(
    remote: LokiTaskLog, tmp_path: Path, loki: Recorder
) -> None:
    (tmp_path / PATH).parent.mkdir(parents=True)
    (tmp_path / PATH).write_text('{"event": "sent by the process before"}\n')
    for log in opened(remote, tmp_path / PATH):
        log.info("mine")
        remote.upload(PATH)
    assert loki.lines == ["mine"]


def test_what_is_left_at_the_end_is_printed_with_its_identity_and_a_word_on_why(
    log: Any, loki: Recorder, remote: LokiTaskLog, capsys: pytest.CaptureFixture[str]
) -> None:
    log.info("delivered")
    wait_for(lambda: loki.lines == ["delivered"])
    loki.away = True
    log.info("left", rows=4000)
    log.info("left too")
    started = time.monotonic()
    remote.upload(PATH)
    assert time.monotonic() - started < 5
    left, left_too, why = undelivered(capsys.readouterr().out)
    assert (left["event"], left["rows"], left_too["event"]) == ("left", 4000, "left too")
    for record in (left, left_too, why):
        assert record["dag_id"] == "orders_etl"
        assert record["task_id"] == "partition.load"
        assert record["path"] == PATH
        assert (record["map_index"], record["try_number"]) == ("3", "2")
    assert "within 0.3 s after the task ended" in why["event"]
    assert "Connection refused" in why["event"]
    loki.away = False
    time.sleep(0.1)
    assert loki.lines == ["delivered"]  # and nothing twice


def test_what_is_left_at_the_end_is_counted_for_the_alert(
    log: Any, loki: Recorder, remote: LokiTaskLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as statsd:
        statsd.bind(("127.0.0.1", 0))
        statsd.settimeout(10)
        settings = {"ON": "True", "HOST": "127.0.0.1", "PORT": str(statsd.getsockname()[1]), "INFLUXDB_ENABLED": "True"}
        for name, value in settings.items():
            monkeypatch.setenv(f"AIRFLOW__METRICS__STATSD_{name}", value)
        loki.away = True
        log.info("left")
        remote.upload(PATH)
        counted = statsd.recv(1000).decode()
    assert counted == "airflow.task_logs.undelivered,dag_id=orders_etl,task_id=partition.load:2|c"


def test_a_pod_that_is_told_to_end_prints_what_is_left_at_once(
    loki: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AIRFLOW__LOGGING__BASE_LOG_FOLDER", str(tmp_path))
    patient = LokiTaskLog("http://loki:3100", 600, Sender(lambda: loki, interval=0.01))  # type: ignore[arg-type, return-value]
    loki.away = True
    for log in opened(patient, tmp_path / PATH):
        log.info("left")
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
    patient.upload(PATH)
    left, why = undelivered(capsys.readouterr().out)
    assert left["event"] == "left"
    assert "was terminated" in why["event"]


def test_a_pod_that_was_told_to_end_while_its_task_ran_prints_what_is_left_before_it_is_killed(
    loki: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AIRFLOW__LOGGING__BASE_LOG_FOLDER", str(tmp_path))
    monkeypatch.setattr("etl_airflow.task_logs.remote.TERMINATION_MARK", tmp_path / "told-to-end")
    monkeypatch.setattr("etl_airflow.task_logs.remote._LAST_SECONDS", 0.3)
    (tmp_path / "told-to-end").touch()
    patient = LokiTaskLog("http://loki:3100", 600, Sender(lambda: loki, interval=0.01))  # type: ignore[arg-type, return-value]
    loki.away = True
    for log in opened(patient, tmp_path / PATH):
        log.info("left")
    patient.upload(PATH)
    left, why = undelivered(capsys.readouterr().out)
    assert left["event"] == "left"
    assert "was terminated" in why["event"]


def test_the_triggerer_never_waits_for_loki(
    remote: LokiTaskLog, tmp_path: Path, loki: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    loki.away = True
    path = f"{PATH}.trigger.7.log"
    for log in opened(remote, tmp_path / path, "wb"):
        log.info("waiting for the event")
        started = time.monotonic()
        remote.upload(path)
        assert time.monotonic() - started < 0.2
    assert undelivered(capsys.readouterr().out) == []
    loki.away = False
    wait_for(lambda: loki.lines == ["waiting for the event"])
    assert {identity.path for identity in loki.identities} == {path}


def test_a_line_that_loki_refuses_is_printed_and_the_others_arrive(
    log: Any, loki: Recorder, remote: LokiTaskLog, capsys: pytest.CaptureFixture[str]
) -> None:
    loki.refuses = '"line 37"'
    loki.away = True
    for number in range(100):
        log.info(f"line {number}")
    loki.away = False
    remote.upload(PATH)
    assert loki.lines == [f"line {number}" for number in range(100) if number != 37]
    (refused,) = undelivered(capsys.readouterr().out)
    assert refused["event"] == "line 37"
    assert refused["reason"] == "http://loki:3100 answers 400: no"


@pytest.mark.parametrize("text", ["x" * 400_000, "é" * 300_000, "\x00" * 100_000, "🙂" * 100_000, '"' * 200_000])
def test_a_line_longer_than_loki_takes_is_cut_and_says_so(text: str) -> None:
    line = json.dumps({"timestamp": "2026-01-01T00:00:00Z", "level": "info", "event": text, "rows": 5})
    sent, _ = prepare(line.encode() + b"\n")
    assert len(sent.encode()) <= LINE_BYTES
    record = json.loads(sent)
    assert record["rows"] == 5
    assert record["event"].startswith(text[:10_000])
    assert f"[cut: the line had {len(line) + 1} bytes" in record["event"]


def test_a_line_of_very_many_fields_keeps_its_text() -> None:
    fields = {f"field_{number}": "x" * 900 for number in range(500)}
    sent, _ = prepare(json.dumps({"event": "text", **fields}).encode())
    assert json.loads(sent)["event"].startswith("text… [cut")


def test_lines_are_filed_where_loki_takes_them(tmp_path: Path) -> None:
    """Loki refuses what is three days behind a stream's newest line, and what is ahead of its clock."""
    configuration = (ROOT / "k8s/base/observability/loki/loki.yaml").read_text()
    assert timedelta(hours=int(re.findall(r"max_chunk_age: (\d+)h", configuration)[0]) / 2) > OLDEST
    now = datetime.now(UTC)
    file = tmp_path / "attempt=1.log"
    stamps = [now - OLDEST - timedelta(hours=1), now - timedelta(minutes=1), now + timedelta(hours=1)]
    file.write_text("".join(json.dumps({"timestamp": at.isoformat(), "event": "x"}) + "\n" for at in stamps))
    identity = Identity.of(PATH)
    assert identity is not None
    batch = LogFile(file, identity, 0).next_batch(now)
    assert batch is not None
    assert [at for at, _ in batch.values] == [nanoseconds(at) for at in (now - OLDEST, stamps[1], now)]
    assert [json.loads(line)["timestamp"] for _, line in batch.values] == [at.isoformat() for at in stamps]


def test_a_line_that_is_half_written_is_sent_when_it_is_whole(tmp_path: Path) -> None:
    file, identity = tmp_path / "attempt=1.log", Identity.of(PATH)
    assert identity is not None
    file.write_text('{"event": "whole"}\n{"event": "ha')
    log_file = LogFile(file, identity, 0)
    batch = log_file.next_batch(datetime.now(UTC))
    assert batch is not None
    assert [line for _, line in batch.values] == ['{"event": "whole"}']
    log_file.advance(batch)
    assert log_file.next_batch(datetime.now(UTC)) is None
    with file.open("a") as handle:
        handle.write('lf"}\n')
    batch = log_file.next_batch(datetime.now(UTC))
    assert batch is not None
    assert [line for _, line in batch.values] == ['{"event": "half"}']


def test_a_forked_process_sends_what_is_its_own(remote: LokiTaskLog, tmp_path: Path, loki: Recorder, log: Any) -> None:
    """LocalExecutor's workers are forked; the parent's thread is not in them."""
    log.info("of the parent")
    wait_for(lambda: loki.lines == ["of the parent"])
    child = os.fork()
    if child == 0:
        try:
            path = tmp_path / PATH.replace("attempt=2", "attempt=3")
            for own in opened(remote, path):
                own.info("of the child")
            remote.upload(PATH.replace("attempt=2", "attempt=3"))
            os._exit(0 if loki.lines == ["of the parent", "of the child"] else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
