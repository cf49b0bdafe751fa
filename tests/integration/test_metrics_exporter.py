"""`etl export-metrics` answers in every state of the databases, and shows their metrics."""

import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from etl.config.settings import Settings
from etl.exporter.metadata import metadata_database
from etl.exporter.poller import Poller
from etl.exporter.server import make_server
from etl.exporter.sink import _COUNTERS, _EDITION, _counters, _size_limit, sink_database
from prometheus_client import Metric
from pydantic import SecretStr

from dev.sandbox.pipeline_fixture import PipelineFixture
from dev.sandbox.postgres import Postgres
from dev.sandbox.process import free_port
from tests.doubles.http_server import serving
from tests.harness.metrics.statsd import scrape


def settings(sink_url: str, metadata_url: str) -> Settings:
    return Settings(sink_url=SecretStr(sink_url), metadata_url=SecretStr(metadata_url))


def polled(made: Settings) -> dict[str, Metric]:
    """The metrics after one poll of each database."""
    server, pollers = make_server([sink_database(made), metadata_database(made)], 0)
    for poller in pollers:
        poller.poll()
    with serving(server) as url:
        return scrape(f"{url}/metrics")


def samples(metrics: dict[str, Metric], name: str) -> dict[tuple[str, ...], float]:
    """The values of a metric by its labels' values."""
    return {tuple(sample.labels.values()): sample.value for sample in metrics[name].samples}


def test_both_databases_tell_of_themselves(orders: PipelineFixture, postgres: Postgres) -> None:
    orders.run()
    metrics = polled(settings(orders.sink_url, postgres.url("postgres")))
    assert metrics["sink_up"].samples[0].value == metrics["metadata_up"].samples[0].value == 1
    assert samples(metrics, "etl_audit_rows")[orders.pipeline.name,] == 1
    assert time.time() - samples(metrics, "etl_last_load_timestamp_seconds")[orders.pipeline.name,] < 60
    assert set(samples(metrics, "sink_size_bytes")) == {("data",), ("log",)}
    assert metrics["metadata_size_bytes"].samples[0].value > 1_000_000
    assert metrics["metadata_max_connections"].samples[0].value >= 100


def test_a_query_that_is_refused_leaves_the_others(orders: PipelineFixture, postgres: Postgres) -> None:
    """Here: of Airflow's tables, in a database that has none."""
    metrics = polled(settings(orders.sink_url, postgres.url("postgres")))
    assert samples(metrics, "metadata_query_up")["server",] == 1
    assert samples(metrics, "metadata_query_up")["queued",] == 0
    assert "airflow_task_queued_age_seconds" not in metrics


def test_the_age_of_the_watermark_is_told(orders: PipelineFixture, postgres: Postgres) -> None:
    orders.run()
    names = "[pipeline], [value], [run_id], [advanced_at]"
    values = f"'{orders.pipeline.name}', '2026-01-01T00:00:00', 'run', SYSUTCDATETIME()"
    orders.execute(f"INSERT INTO [etl].[watermark] ({names}) VALUES ({values})")
    metrics = polled(settings(orders.sink_url, postgres.url("postgres")))
    age = samples(metrics, "etl_watermark_age_seconds")[orders.pipeline.name,]
    assert abs(age - (time.time() - 1767225600)) < 60


def test_databases_that_are_down_are_up_0(postgres: Postgres) -> None:
    port = free_port()
    secret = "not-to-be-shown"
    urls = (f"mssql://etl:{secret}@127.0.0.1:{port}/sink", f"postgresql://a:{secret}@127.0.0.1:{port}/airflow")
    metrics = polled(settings(*urls))
    assert {name: metric.samples[0].value for name, metric in metrics.items()} == {"sink_up": 0, "metadata_up": 0}


def test_databases_that_hang_hold_nobody_up() -> None:
    """They take the connection and say nothing: /metrics and the probe answer all the same."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as silent:
        port = silent.getsockname()[1]
        made = settings(f"mssql://etl:word@127.0.0.1:{port}/sink", f"postgresql://a:word@127.0.0.1:{port}/airflow")
        server, pollers = make_server([sink_database(made), metadata_database(made)], 0)
        threads = [threading.Thread(target=poller.poll) for poller in pollers]
        for thread in threads:
            thread.start()
        with serving(server) as url:
            began = time.monotonic()
            metrics = scrape(f"{url}/metrics")
            assert time.monotonic() - began < 2
            assert metrics["sink_up"].samples[0].value == metrics["metadata_up"].samples[0].value == 0
            assert urllib.request.urlopen(f"{url}/healthz").read() == b"ok\n"
        for thread in threads:
            thread.join(timeout=30)
            assert not thread.is_alive(), "no time-out ended it"


def test_a_poller_that_no_time_out_ends_is_told_to_the_probe(sink_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    server, (poller,) = make_server([sink_database(settings(sink_url, ""))], 0)
    poller.poll()
    assert is_up(poller)
    monkeypatch.setattr("etl.exporter.poller._STALE_SECONDS", -1)
    assert not is_up(poller)
    with serving(server) as url, pytest.raises(urllib.error.HTTPError, match="503"):
        urllib.request.urlopen(f"{url}/healthz")


def is_up(poller: Poller) -> bool:
    return next(iter(poller.collect())).samples[0].value == 1


def test_the_counters_of_the_server_are_shown_where_they_may_be_read() -> None:
    """The rows as SQL Server returns them; the double has no counters."""
    rows = [("User Connections", 7), ("Transactions", 1), ("Number of Deadlocks/sec", 3), ("Lock Waits/sec", 12)]
    answers = {_COUNTERS: rows}
    shown = {sample.name: sample.value for metric in _counters(answers.__getitem__) for sample in metric.samples}
    assert shown == {
        "sink_sessions": 7,
        "sink_open_transactions": 1,
        "sink_deadlocks_total": 3,
        "sink_lock_waits_total": 12,
    }


@pytest.mark.parametrize(
    ("edition", "version", "gib"),
    [(4, "16", 10), (4, "13", 10), (4, "17", 50), (3, "17", None), (2, "16", None), (5, "12", None)],
)
def test_express_has_a_size_limit_of_its_version(edition: int, version: str, gib: int | None) -> None:
    """The editions as SERVERPROPERTY numbers them: 4 is Express, 5 Azure SQL Database."""
    metrics = list(_size_limit({_EDITION: [(edition, version)]}.__getitem__))
    limits = [sample.value for metric in metrics for sample in metric.samples]
    assert limits == ([] if gib is None else [gib * 1024**3])


def test_the_edition_is_one_that_the_loader_may_ask_for(orders: PipelineFixture, postgres: Postgres) -> None:
    metrics = polled(settings(orders.sink_url, postgres.url("postgres")))
    assert samples(metrics, "sink_query_up")["edition",] == 1


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({}, "Neither SINK_URL nor METADATA_URL is set"),
        ({"SINK_URL": "mssql://nowhere"}, "SINK_URL is not a URL"),
        ({"METADATA_URL": "mysql://a:b@c/d"}, "METADATA_URL is not a URL such as postgres"),
    ],
)
def test_wrong_settings_end_it_with_a_sentence(environment: dict[str, str], told: str, tmp_path: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if name not in ("SINK_URL", "METADATA_URL")}
    command = [sys.executable, "-m", "etl", "export-metrics", "--port", str(free_port())]
    completed = subprocess.run(
        command, env=clean | environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert completed.returncode == 78
    assert told in completed.stderr
