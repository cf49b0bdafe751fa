"""Metrics of a step are sent as one datagram, and never hold the step up; those of the DAG add up."""

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from airflow.sdk.observability import stats
from etl.config.settings import Settings
from etl.metrics import Metrics
from etl.model.outcome import COUNTS, check_audit
from etl_airflow import metrics as dag_metrics
from structlog.testing import capture_logs

from dev.sandbox.pipelines import ORDERS, make, whole


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind(("127.0.0.1", 0))
        made.settimeout(5)
        yield made


def sent_to(server: socket.socket) -> Metrics:
    return sent_to_port(server.getsockname()[1])


def sent_to_port(port: int) -> Metrics:
    settings = Settings(statsd_host="127.0.0.1", statsd_port=port)
    return Metrics(settings, pipeline="orders", step="load: x")


def test_all_of_a_step_is_one_datagram_with_tags_in_the_names(server: socket.socket) -> None:
    with sent_to(server) as metrics:
        metrics.rows("inserted", 7)
        metrics.bytes(1000)
        metrics.seconds(1.5)
    assert server.recv(1000).decode().splitlines() == [
        "etl.rows,pipeline=orders,step=load__x,outcome=inserted:7|c",
        "etl.bytes,pipeline=orders,step=load__x:1000|c",
        "etl.step_duration,pipeline=orders,step=load__x:1500.000|ms",
    ]


def test_a_step_that_fails_sends_nothing(server: socket.socket) -> None:
    with suppress(RuntimeError), sent_to(server) as metrics:
        metrics.rows("inserted", 7)
        raise RuntimeError
    server.settimeout(0.2)
    with pytest.raises(TimeoutError):
        server.recv(1000)


def test_what_was_sent_has_left_when_the_step_goes_on(server: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel is asked until nothing waits: here it says twice that something does."""
    waiting = iter([42, 42, 0])
    monkeypatch.setattr("etl.metrics._waiting", lambda _: next(waiting))
    with sent_to(server) as metrics:
        metrics.bytes(1)
    assert list(waiting) == []
    assert server.recv(1000)


def test_a_dns_that_does_not_answer_at_first_is_asked_again(
    server: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, answers = socket.getaddrinfo, iter([False, False, True])

    def look_up(*what: Any, **how: Any) -> Any:
        if next(answers):
            return real(*what, **how)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with sent_to(server) as metrics:
        metrics.bytes(1)
    assert server.recv(1000)


def test_what_is_refused_at_first_is_sent_again(server: socket.socket) -> None:
    """As with network policies that do not know the pod yet: no server listens until a moment later."""
    address = server.getsockname()
    server.close()
    metrics = sent_to_port(address[1])
    metrics.rows("inserted", 7)
    with ThreadPoolExecutor() as pool, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as later:
        sending = pool.submit(metrics.__exit__, None)
        time.sleep(0.3)
        assert not sending.done()
        later.bind(address)
        later.settimeout(5)
        assert later.recv(1000).decode().endswith("outcome=inserted:7|c")
        sending.result(timeout=5)


def test_a_server_that_refuses_for_good_is_told_of_and_fails_nothing(
    server: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etl.metrics._LONGEST_WAIT", 0.3)
    port = server.getsockname()[1]
    server.close()
    with capture_logs() as told, sent_to_port(port) as metrics:
        metrics.bytes(1)
    (line,) = told
    assert "No metrics are sent: STATSD_HOST (127.0.0.1) cannot be reached" in line["event"]


def test_without_a_server_metrics_go_nowhere() -> None:
    with Metrics(Settings(), pipeline="orders") as metrics:
        metrics.rows("kept", 1)


def test_the_difference_is_in_rows() -> None:
    """Of 100 rows that were expected the first partition has none; the second lost 3 that it kept, and rejected 2."""
    first = whole().model_copy(update={"id": "0001", "expected_rows": 100})
    second = whole().model_copy(update={"id": "0002", "expected_rows": 50})
    counts = dict.fromkeys(COUNTS, 0) | {"extracted": 50, "kept": 30, "dropped": 18, "rejected": 2}
    audits = {"0002": counts | {"inserted": 27, "standing": 30}}
    problems = check_audit(make(ORDERS), [first, second], audits)
    assert [problem.rows for problem in problems] == [100, 3, 2]


def test_what_the_dag_measures_goes_with_the_metrics_of_airflow(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[str, float, dict[str, str]]] = []
    monkeypatch.setattr(stats, "gauge", lambda name, value, tags: sent.append((name, value, tags)))
    pipeline = make(ORDERS, tolerated_rejects=5)
    dag_metrics.gauge(dag_metrics.LAG, pipeline, -0.5)  # the worker's clock is behind the source's
    dag_metrics.gauge(dag_metrics.RECONCILIATION_DIFFERENCE, pipeline, 7)
    dag_metrics.gauge(dag_metrics.TOLERATED_REJECTS, pipeline, pipeline.tolerated_rejects)
    dag_metrics.gauge(dag_metrics.UNREACHABLE_VERSIONS, pipeline, 3)
    tags = {"pipeline": "orders"}
    assert sent == [
        ("etl.lag", 0.0, tags),
        ("etl.reconciliation_difference", 7, tags),
        ("etl.tolerated_rejects", 5, tags),
        ("etl.unreachable_versions", 3, tags),
    ]
