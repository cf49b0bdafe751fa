"""Every metric that a real run sends is known: it has its labels, and the table in the documentation has it."""

import os
import re
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from orders_etl import ORDERS
from prometheus_client import Metric

from dev.sandbox.pipeline_fixture import existing_fixture
from dev.sandbox.postgres import Postgres
from dev.sandbox.stack import INIT_SQL, Stack, airflow_environment
from dev.sandbox.waiting import came_true
from tests.cluster.building.binaries import STATSD_EXPORTER, build
from tests.cluster.errors import ClusterError
from tests.harness.metrics.capture import MAPPING, Capture, as_series, capture_run, deployed_settings
from tests.harness.metrics.documented import documented_metrics
from tests.harness.metrics.statsd import Line, run_statsd_exporter, scrape

pytestmark = pytest.mark.timeout(900)
DOCUMENTED = {metric.name: metric for metric in documented_metrics()}


@pytest.fixture(scope="module")
def capture(postgres: Postgres, sink_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Capture]:
    """A real run of Airflow on databases of the module's own."""
    folder = tmp_path_factory.mktemp("metrics")
    suffix = str(os.getpid())
    source_url = postgres.create_database(f"metrics_orders_{suffix}", INIT_SQL)
    metadata_url = postgres.create_database(f"metrics_airflow_{suffix}")
    environment = airflow_environment(folder, metadata_url, source_url, sink_url)
    site = existing_fixture(ORDERS, source_url, sink_url)
    site.claim()
    yield capture_run(Stack(source_url, sink_url, True, environment, folder / "log"), folder)
    site.clean()
    for name in ("metrics_orders", "metrics_airflow"):
        postgres.drop_database(f"{name}_{suffix}")


def label(line: Line, name: str) -> str:
    return dict(line.labels)[name]


def test_metrics_are_deployed_with_tags_and_without_the_old_names() -> None:
    settings = deployed_settings(8125)
    assert settings["AIRFLOW__METRICS__STATSD_ON"] == settings["AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED"] == "True"
    assert settings["AIRFLOW__METRICS__LEGACY_NAMES_ON"] == "False"


def test_the_runs_ended_as_they_should(capture: Capture) -> None:
    assert capture.states == {"orders_etl": "success", "fails": "failed"}


def test_every_series_that_is_sent_is_documented_with_its_labels(capture: Capture) -> None:
    unknown = {series.name for series in capture.series} - set(DOCUMENTED)
    assert not unknown, f"sent, but neither in mapping.yml nor in the table: {sorted(unknown)}"
    for series in capture.series:
        row = DOCUMENTED[series.name]
        assert (series.kind, series.labels) == (row.kind, row.labels), series.name


def test_every_row_of_the_table_is_sent_or_says_when(capture: Capture) -> None:
    missing = {name for name, row in DOCUMENTED.items() if row.is_always_sent} - capture.names
    assert not missing, f"in the table as sent after every run, but not seen: {sorted(missing)}"


def test_failures_are_sent_too(capture: Capture) -> None:
    sent = {series.name for series in capture.series}
    assert {"airflow_ti_failures", "airflow_operator_failures"} <= sent
    states = {label(line, "state") for line in capture.lines if line.name == "airflow.ti.finish"}
    assert {"success", "failed", "up_for_retry"} <= states


def test_no_name_carries_a_dag_or_a_task_in_itself(capture: Capture) -> None:
    for series in capture.series:
        assert not re.search(r"orders_etl|fails|waits|partition|LocalExecutor", series.name)


def test_a_run_that_adds_up_says_so(capture: Capture) -> None:
    told = {line.name: line.value for line in capture.lines if line.name.startswith("airflow.etl.")}
    assert told["airflow.etl.reconciliation_difference"] == 0
    assert 0 <= told["airflow.etl.lag"] < 300


def test_rows_are_counted_by_outcome(capture: Capture) -> None:
    counted: Counter[str] = Counter()
    for line in capture.lines:
        if line.name == "etl.rows" and line.value:
            assert label(line, "pipeline") == "orders"
            counted[label(line, "outcome")] += int(line.value)
    assert counted["extracted"] == counted["kept"] + counted["dropped"] > 0
    assert counted["kept"] == counted["inserted"] + counted["updated"] + counted["unchanged"]


def test_what_the_databases_tell_is_documented(capture: Capture) -> None:
    for metric in capture.databases.values():
        series = as_series(metric)
        # The creation time of a histogram: in OpenMetrics no separate metric.
        if metric.samples and not metric.name.endswith("_created"):
            assert series.name in DOCUMENTED, f"{series.name} is not in the table"
            row = DOCUMENTED[series.name]
            assert (series.kind, series.labels) == (row.kind, row.labels), series.name


def test_the_queue_time_of_every_attempt_is_measured_once(capture: Capture) -> None:
    assert capture.attempts["fails", "fail"] == 2
    assert capture.queue_times == capture.attempts


def test_the_real_exporter_makes_of_it_what_is_documented(capture: Capture, tmp_path: Path) -> None:
    try:
        program = build(STATSD_EXPORTER) / "statsd_exporter"
    except ClusterError as error:
        pytest.skip(f"statsd_exporter cannot be built here: {str(error).splitlines()[-1]}")
    with run_statsd_exporter(program, MAPPING, tmp_path / "log") as (port, url):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall("".join(f"{text}\n" for text in [*capture.texts, "end.of.capture:1|c"]).encode())
        # Lines are counted when they are read, and handled later, in their order.
        assert came_true(lambda: "end_of_capture" in scrape(url), 60)
        metrics = scrape(url)
    for name, metric in metrics.items():
        if re.fullmatch(r"statsd_exporter_\w*(error|conflict)\w*", name):
            assert all(sample.value == 0 for sample in metric.samples), metric
    made = {as_series(metric) for name, metric in metrics.items() if name.startswith(("airflow_", "etl_"))}
    assert made == capture.series
    check_values(metrics, capture)


def check_values(metrics: dict[str, Metric], capture: Capture) -> None:
    """Counters are sums, histograms count every timer, and their sums are seconds."""
    starts = {tuple(sample.labels.values()): sample.value for sample in metrics["airflow_ti_start"].samples}
    assert starts == dict(capture.starts)
    for timer, name, factor in (
        ("airflow.task.duration", "airflow_task_duration_seconds", 0.001),
        # Airflow sends these seconds as milliseconds.
        ("airflow.dag_processing.last_duration", "airflow_dag_processing_last_duration_seconds", 1),
        ("etl.step_duration", "etl_step_duration_seconds", 0.001),
    ):
        sent = [line.value for line in capture.lines if line.name == timer]
        samples = metrics[name].samples
        assert sum(sample.value for sample in samples if sample.name == f"{name}_count") == len(sent)
        total = sum(sample.value for sample in samples if sample.name == f"{name}_sum")
        assert total == pytest.approx(sum(sent) * factor)
