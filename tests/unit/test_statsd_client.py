"""Airflow's metrics arrive although DNS does not answer at first, and although the exporter's address changes."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import etl_airflow.statsd_client
import pytest
from airflow.observability import stats as server_stats
from airflow.observability.metrics import stats_utils as server_factory
from airflow.sdk.observability import stats as task_stats
from airflow.sdk.observability.metrics import stats_utils as task_factory

from dev.sandbox.stack import ROOT
from dev.sandbox.waiting import wait_for
from tests.harness.metrics.capture import deployed_settings
from tests.harness.metrics.statsd import Listener

EXPORTER = "statsd-exporter.observability"
SIDES = {"servers": (server_stats, server_factory), "tasks": (task_stats, task_factory)}
"""Airflow has its own code for metrics twice."""


class Dns:
    """The resolver's answer for the exporter: an error while `address` is None, and nothing while it `hangs`."""

    def __init__(self) -> None:
        self.address: tuple[str, int] | None = None
        self.answers = threading.Event()
        self.answers.set()
        self.asked = 0

    def look_up(self, host: str, port: int, *_: object) -> list[Any]:
        assert (host, port) == (EXPORTER, 8125)
        self.asked += 1
        self.answers.wait()
        if self.address is None:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [(socket.AF_INET, socket.SOCK_DGRAM, 17, "", self.address)]


@pytest.fixture
def dns(monkeypatch: pytest.MonkeyPatch) -> Iterator[Dns]:
    made = Dns()
    monkeypatch.setattr(socket, "getaddrinfo", made.look_up)
    monkeypatch.setattr(etl_airflow.statsd_client, "RETRY_SECONDS", 0.05)
    monkeypatch.setattr(etl_airflow.statsd_client, "LOOK_UP_SECONDS", 0.05)
    monkeypatch.setattr(etl_airflow.statsd_client, "FIRST_SECONDS", 0.05)
    yield made
    made.answers.set()


@pytest.fixture
def exporter() -> Iterator[Listener]:
    with Listener() as listener:
        yield listener


@pytest.fixture(params=SIDES)
def stats(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Airflow's metrics with the settings that are deployed."""
    for name, value in deployed_settings(8125).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AIRFLOW__METRICS__STATSD_HOST", EXPORTER)
    module, factory = SIDES[request.param]
    module.initialize(factory=factory.get_stats_factory(), export_legacy_names=False)
    yield module
    monkeypatch.undo()
    module.initialize(factory=factory.get_stats_factory(), export_legacy_names=False)


def test_what_was_counted_before_dns_answers_arrives_once_it_does_and_in_order(
    stats: Any, dns: Dns, exporter: Listener
) -> None:
    for number in range(5):
        stats.gauge("number", number)
    assert dns.asked
    dns.address = ("127.0.0.1", exporter.port)
    wait_for(lambda: stats.incr("scheduler_heartbeat") or "airflow.scheduler_heartbeat:1|c" in exporter.texts)
    assert exporter.texts[:5] == [f"airflow.number:{number}|g" for number in range(5)]


def test_a_dns_that_hangs_does_not_hold_up_what_is_counted(stats: Any, dns: Dns, exporter: Listener) -> None:
    dns.answers.clear()
    for _ in range(101):
        stats.incr("more")  # returns
    assert not dns.answers.is_set()
    dns.address = ("127.0.0.1", exporter.port)
    dns.answers.set()
    wait_for(lambda: len(exporter.texts) == 101)


def test_metrics_follow_the_exporter_to_another_address_and_stay_when_dns_goes_away(
    stats: Any, dns: Dns, exporter: Listener
) -> None:
    with Listener() as another:
        dns.address = ("127.0.0.1", another.port)
        wait_for(lambda: stats.incr("before") or another.texts)
        dns.address = ("127.0.0.1", exporter.port)
        wait_for(lambda: stats.incr("after") or exporter.texts)
        dns.address, asked = None, dns.asked
        wait_for(lambda: stats.incr("last") or dns.asked > asked + 1)
        wait_for(lambda: "airflow.last:1|c" in exporter.texts)


def test_of_what_waits_too_long_the_newest_is_kept(
    stats: Any, dns: Dns, exporter: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(etl_airflow.statsd_client, "KEPT_LINES", 3)
    for number in range(10):
        stats.gauge("number", number)
    dns.address = ("127.0.0.1", exporter.port)
    wait_for(lambda: stats.gauge("number", 10) or "airflow.number:10|g" in exporter.texts)
    assert exporter.texts[0] in {f"airflow.number:{number}|g" for number in (7, 8, 9)}


def test_a_process_that_is_forked_during_a_look_up_looks_up_itself(exporter: Listener, dns: Dns) -> None:
    client = etl_airflow.statsd_client.RetryingStatsClient(EXPORTER, 8125)
    dns.answers.clear()
    client.incr("before")  # this process is looking up from now on
    child = os.fork()
    if not child:
        dns.answers, dns.address = threading.Event(), ("127.0.0.1", exporter.port)
        dns.answers.set()
        client.incr("forked")
        os._exit(0)
    os.waitpid(child, 0)
    wait_for(lambda: "forked:1|c" in exporter.texts)


def test_a_process_that_ends_with_its_last_line_has_sent_it(exporter: Listener) -> None:
    """As a task's process does, which runs no exit handlers."""
    code = (
        "import os, etl_airflow.statsd_client\n"
        f"etl_airflow.statsd_client.RetryingStatsClient('localhost', {exporter.port}).incr('only')\n"
        "os._exit(0)\n"
    )
    environment = os.environ | {"PYTHONPATH": f"{ROOT}/airflow_image/config"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    wait_for(lambda: exporter.texts == ["only:1|c"])
