"""Metrics of a real run of Airflow: sent over StatsD, and read from the databases afterwards."""

import os
import shutil
import sys
import urllib.error
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from orders_etl import ORDERS
from prometheus_client import Metric

from dev.sandbox.airflow_server import AirflowServer, run_airflow
from dev.sandbox.process import free_port
from dev.sandbox.stack import ROOT, Stack
from dev.sandbox.waiting import came_true
from tests.harness.metrics.documented import documented_metrics
from tests.harness.metrics.statsd import Line, Listener, Mapping, Series, scrape
from tests.harness.server import running

MAPPING = ROOT / "k8s" / "base" / "observability" / "statsd-exporter" / "mapping.yml"
LONGEST_SECONDS = 240
DEFERS = "waits"
"""A DAG whose task begins twice in an attempt: it waits in the triggerer in between."""


@dataclass(frozen=True)
class Capture:
    """The lines sent, the database exporter's metrics a moment later, and the states of the runs."""

    texts: list[str] = field(repr=False)
    databases: dict[str, Metric] = field(repr=False)
    states: dict[str, str]

    @property
    def lines(self) -> list[Line]:
        """The lines sent."""
        return [Line.parse(text) for text in self.texts]

    @property
    def series(self) -> set[Series]:
        """The lines as Prometheus gets them."""
        mapping = Mapping(MAPPING)
        return {series for line in self.lines if (series := mapping.series(line))}

    @property
    def names(self) -> set[str]:
        """The names of all metrics."""
        return {series.name for series in self.series} | {as_series(metric).name for metric in self.databases.values()}

    @property
    def starts(self) -> Counter[tuple[str, str]]:
        """How often each task began, as Airflow counts it."""
        started = [dict(line.labels) for line in self.lines if line.name == "airflow.ti.start"]
        return Counter((labels["dag_id"], labels["task_id"]) for labels in started)

    @property
    def attempts(self) -> dict[tuple[str, str], int]:
        """How often each task began that begins once an attempt."""
        return {task: count for task, count in self.starts.items() if task[0] != DEFERS}

    @property
    def queue_times(self) -> dict[tuple[str, str], int]:
        """How many queue times were measured of each such task."""
        metric = self.databases.get("airflow_task_queued_duration_seconds")
        return {
            (sample.labels["dag_id"], sample.labels["task_id"]): int(sample.value)
            for sample in (metric.samples if metric else [])
            if sample.name.endswith("_count") and sample.labels["dag_id"] != DEFERS
        }


def capture_run(stack: Stack, folder: Path) -> Capture:
    """Run Airflow as `make dev` does, with metrics as they are deployed: the orders, and a DAG that fails."""
    dags = folder / "dags"
    shutil.copytree(ROOT / "dags", dags)
    shutil.copy(ROOT / "tests" / "harness" / "airflow" / "dags" / "measured.py", dags)
    metadata_url = stack.environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].replace("+psycopg2", "")
    with (
        Listener() as statsd,
        run_database_exporter(
            folder / "exporter.log", METADATA_URL=metadata_url, SINK_URL=stack.sink_url
        ) as metrics_url,
        run_airflow(
            stack,
            free_port(),
            **deployed_settings(statsd.port),
            AIRFLOW__CORE__DAGS_FOLDER=str(dags),
            AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION="False",
        ) as airflow,
    ):
        if not airflow.wait_until_up():
            raise RuntimeError(f"Airflow did not start:\n{stack.log_end()}")
        states = run_dags(airflow, f"{ORDERS.name}_etl", "fails")
        return wait_until_complete(lambda: Capture(list(statsd.texts), scrape(metrics_url), states))


def deployed_settings(port: int) -> dict[str, str]:
    """The deployed settings of metrics, except for the server's address."""
    lines = (ROOT / "k8s" / "base" / "airflow" / "common.env").read_text().splitlines()
    deployed = dict(line.split("=", 1) for line in lines if line.startswith("AIRFLOW__METRICS__"))
    ours = {"AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1", "AIRFLOW__METRICS__STATSD_PORT": str(port)}
    return {**deployed, **ours, "STATSD_HOST": "127.0.0.1", "STATSD_PORT": str(port)}


@contextmanager
def run_database_exporter(log: Path, **environment: str) -> Iterator[str]:
    """`etl export-metrics`, once it has asked; yields the URL of its metrics."""
    port = free_port()
    command = [sys.executable, "-m", "etl", "export-metrics", "--port", str(port)]
    url = f"http://127.0.0.1:{port}/metrics"

    def is_up() -> bool:
        return scrape(url)["metadata_up"].samples[0].value == 1

    with running(command, log, is_up, env=os.environ | environment):
        yield url


def run_dags(airflow: AirflowServer, *dag_ids: str) -> dict[str, str]:
    """Trigger a run of each DAG once it is there, and wait until all have ended; returns their states."""
    token = airflow.log_in()
    runs: dict[str, str] = {}

    def all_are_triggered() -> bool:
        for dag_id in set(dag_ids) - set(runs):
            try:
                run = airflow.call("POST", f"/api/v2/dags/{dag_id}/dagRuns", {"logical_date": None}, token)
            except urllib.error.HTTPError as error:
                if error.code != 404:  # the DAG processor has not come to it yet
                    raise
            else:
                runs[dag_id] = run["dag_run_id"]
        return len(runs) == len(dag_ids)

    def states() -> dict[str, str]:
        paths = {dag_id: f"/api/v2/dags/{dag_id}/dagRuns/{run_id}" for dag_id, run_id in runs.items()}
        return {dag_id: airflow.call("GET", path, token=token)["state"] for dag_id, path in paths.items()}

    came_true(all_are_triggered, LONGEST_SECONDS)
    came_true(lambda: set(states().values()) <= {"success", "failed"}, LONGEST_SECONDS)
    return states()


def wait_until_complete(take: Callable[[], Capture]) -> Capture:
    """The capture, once all documented metrics are there or the time is up: the tests report missing ones."""
    needed = {metric.name for metric in documented_metrics() if metric.is_always_sent}
    taken = [take()]

    def is_complete() -> bool:
        taken.append(take())
        return needed <= taken[-1].names and taken[-1].attempts == taken[-1].queue_times

    came_true(is_complete, LONGEST_SECONDS)
    return taken[-1]


def as_series(metric: Metric) -> Series:
    """A metric that was scraped, as the table has it."""
    labels = frozenset(name for sample in metric.samples for name in sample.labels) - {"le"}
    has_total = any(sample.name == f"{metric.name}_total" for sample in metric.samples)
    return Series(f"{metric.name}_total" if has_total else metric.name, metric.type, labels)
