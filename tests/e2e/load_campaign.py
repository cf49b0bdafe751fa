"""50 pipelines with a schedule of a minute on one node, for half an hour: `make load`.

A node of two cores cannot run each of them every minute. What has to hold is that each has its turn, that nothing piles
up or grows, and that everything adds up. The figures are written to docs/benchmarks.
"""

import json
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from tests.bench.speed.document import Claim, Section, Table
from tests.bench.speed.report import FOLDER, write_section
from tests.harness.e2e import many_pipelines
from tests.harness.e2e.deployment import Airflow, Deployment, wait_for
from tests.harness.e2e.images import loki_description
from tests.harness.e2e.live_pods import Pod, read_pod
from tests.harness.e2e.observability import watching
from tests.harness.e2e.one_more_table import pipeline_of
from tests.harness.e2e.panels_picture import draw_panels
from tests.harness.e2e.usage import Usage, usage_of_pods

PICTURE = "load.svg"
MOST_WAIT = 2.0
"""How much longer than the median one pipeline may wait for its turn."""
MOST_GROWTH = 1.15
"""Of the memory of a server of Airflow's, from the middle third of the time to its last."""
_SETUP = timedelta(minutes=5)
_EVERY = 20.0
"""Seconds between two looks."""
_SERVERS = ("airflow-api-server", "airflow-scheduler", "airflow-dag-processor", "airflow-triggerer")


@dataclass
class Seen:
    """Observations during the load."""

    pipelines: list[str]
    began: datetime
    runs: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    """Of the pipelines, by DAG and run."""
    usage: list[tuple[datetime, dict[str, Usage]]] = field(default_factory=list)
    pods_of_runs: list[int] = field(default_factory=list)

    def look(self, deployment: Deployment, airflow: Airflow) -> None:
        """Observe once, and print a line."""
        self.look_at_runs(airflow)
        used, now = usage_of_pods(deployment), datetime.now(UTC)
        self.pods_of_runs.append(len(pods_of_runs(deployment)))
        self.usage.append((now, used))
        counts = self.green_runs().values()
        servers = sum(one.memory for name, one in used.items() if name.startswith(_SERVERS)) / 2**20
        print(
            f"  {(now - self.began).total_seconds() / 60:5.1f} min   {sum(counts):4} runs, of a pipeline"
            f" {min(counts)} to {max(counts)}   {self.pods_of_runs[-1]:2} pods of runs   Airflow's servers"
            f" {servers:,.0f} MiB",
            flush=True,
        )

    def look_at_runs(self, airflow: Airflow) -> None:
        """Take in how the runs stand; those that the clean-up has removed since stay as they were."""
        for run in airflow.all_runs(many_pipelines.PREFIX):
            if run["run_type"] == "scheduled":
                self.runs[run["dag_id"], run["dag_run_id"]] = run

    def green_runs(self) -> dict[str, int]:
        """How many each pipeline had."""
        green = [dag for (dag, _), run in self.runs.items() if run["state"] == "success"]
        return {name: green.count(f"{name}_etl") for name in self.pipelines}

    def waits(self, until: datetime) -> dict[str, list[float]]:
        """Seconds from one start to the next of each pipeline; from the beginning and to the end as well."""
        starts: dict[str, list[datetime]] = defaultdict(list)
        for (dag, _), run in self.runs.items():
            if run["start_date"]:
                starts[dag].append(datetime.fromisoformat(run["start_date"]))
        return {
            name: [
                (after - before).total_seconds()
                for before, after in pairwise([self.began, *sorted(starts[f"{name}_etl"]), until])
            ]
            for name in self.pipelines
        }

    def memory(self, third: int) -> dict[str, float]:
        """The median MiB of each pod that was there all the time, in one third of it."""
        looks = [used for _, used in self.usage]
        stayed = set.intersection(*(set(used) for used in looks))
        part = looks[third * len(looks) // 3 : (third + 1) * len(looks) // 3]
        return {name: statistics.median(used[name].memory for used in part) / 2**20 for name in stayed}

    def growth(self) -> dict[str, float]:
        """By how much the memory of each of Airflow's servers grew from the middle third to the last."""
        before, after = self.memory(1), self.memory(2)
        return {name: after[name] / before[name] for name in before if name.startswith(_SERVERS)}


@pytest.fixture(scope="module")
def count(pytestconfig: pytest.Config) -> int:
    return int(pytestconfig.getoption("--pipelines"))


@pytest.fixture(scope="module")
def until(pytestconfig: pytest.Config) -> datetime:
    """When the load ends. It begins as soon as the pipelines are there, which takes some minutes."""
    return datetime.now(UTC) + _SETUP + timedelta(minutes=float(pytestconfig.getoption("--minutes")))


@pytest.fixture(scope="module")
def airflow(first_run: str, deployment: Deployment, count: int, until: datetime) -> Iterator[Airflow]:
    """With those pipelines, before their first run."""
    many_pipelines.make_tables(deployment.source_url, count)
    (deployment.checkout / "dags" / "many_etl.py").write_text(many_pipelines.dag_file(count, until))
    deployment.apply_all()
    with deployment.airflow() as made:
        for name in many_pipelines.names(count):
            made.await_dag(f"{name}_etl")
        yield made


@pytest.fixture(scope="module")
def seen(deployment: Deployment, airflow: Airflow, count: int, until: datetime) -> Seen:
    """The load. In its second half nothing changes at the source; the clean-up comes when much has ended."""
    found = Seen(many_pipelines.names(count), datetime.now(UTC))
    for name in found.pipelines:
        airflow.pause(f"{name}_etl", False)
    whole = until - found.began
    with many_pipelines.changing(deployment.source_url, count):
        _go_on(found, deployment, airflow, until - whole / 2)
    _go_on(found, deployment, airflow, until - whole / 6)
    clean_up(deployment, kept=whole / 3)
    _go_on(found, deployment, airflow, until)
    return found


def test_every_pipeline_has_its_turn(seen: Seen, deployment: Deployment, until: datetime) -> None:
    waits = seen.waits(until)
    everybody = statistics.median(wait for each in waits.values() for wait in each[1:-1])
    longest = max(max(each) for each in waits.values())
    _write(seen, everybody, longest)
    with watching(deployment) as watch:
        draw_panels(lambda query: watch.metrics_since(query, seen.began.timestamp()), FOLDER / PICTURE)
    assert longest <= MOST_WAIT * everybody, waits
    failed = [key for key, run in seen.runs.items() if run["state"] == "failed"]
    assert failed == []


def test_everything_adds_up(seen: Seen, deployment: Deployment, airflow: Airflow) -> None:
    def running() -> list[Any]:
        return [run for run in airflow.all_runs(many_pipelines.PREFIX) if run["state"] in ("queued", "running")]

    wait_for("the end of what was under way", lambda: not running(), seconds=900)
    for name in seen.pipelines:
        with deployment.site(pipeline_of(name)) as site:
            assert site.sink_rows() == site.source_rows("active"), name
            assert site.staging_tables() == []
    wait_for("the pods of runs to be gone", lambda: not pods_of_runs(deployment), seconds=240)


def test_no_server_of_airflow_grows(seen: Seen) -> None:
    servers = seen.growth()
    assert len(servers) == len(_SERVERS), f"One of Airflow's servers was replaced; these stayed: {sorted(servers)}"
    assert {name: growth for name, growth in servers.items() if growth > MOST_GROWTH} == {}


def test_no_container_was_started_again(seen: Seen, deployment: Deployment) -> None:
    again = {
        pod["metadata"]["name"]: status["restartCount"]
        for pod in deployment.objects("pods")
        for status in pod["status"].get("containerStatuses", [])
        if status["restartCount"]
    }
    assert again == {}


def test_the_metadata_database_is_cleaned_beside_it(seen: Seen, airflow: Airflow) -> None:
    kept = {(run["dag_id"], run["dag_run_id"]) for run in airflow.all_runs(many_pipelines.PREFIX)}
    assert len(seen.runs.keys() - kept) >= len(seen.pipelines) / 2


def clean_up(deployment: Deployment, kept: timedelta) -> None:
    """Run the clean-up of the metadata database, with a memory shorter than 90 days, and wait for its end."""
    (job,) = deployment.objects("cronjobs", "--field-selector=metadata.name=airflow-clean")
    template = json.dumps(job["spec"]["jobTemplate"]).replace("90 days ago", f"{kept.total_seconds():.0f} seconds ago")
    assert "seconds ago" in template
    metadata = {"name": "airflow-clean-now", "namespace": "etl-poc"}
    deployment.apply({"apiVersion": "batch/v1", "kind": "Job", **json.loads(template), "metadata": metadata})
    deployment.kubectl("wait", "--for=condition=complete", "job/airflow-clean-now", "--timeout=240s")


def _go_on(seen: Seen, deployment: Deployment, airflow: Airflow, until: datetime) -> None:
    """Look from time to time, until then."""
    while datetime.now(UTC) < until:
        time.sleep(_EVERY)
        seen.look(deployment, airflow)


def pods_of_runs(deployment: Deployment) -> list[Pod]:
    """The pods that are there for one task each."""
    return [pod for pod in map(read_pod, deployment.objects("pods")) if pod.of_a_run]


def _write(seen: Seen, everybody: float, longest: float) -> None:
    green, minutes = seen.green_runs(), (seen.usage[-1][0] - seen.began).total_seconds() / 60
    before, after = seen.memory(1), seen.memory(2)
    growth = max(seen.growth().values())
    claims = [
        Claim(
            claim=f"No pipeline waits longer for its turn than {MOST_WAIT:.0f} times what is usual",
            measured=f"{longest / everybody:.2f}",
            holds=longest <= MOST_WAIT * everybody,
        ),
        Claim(
            claim=f"Airflow's servers do not grow: at most {MOST_GROWTH:.2f} from the middle third to the last",
            measured=f"{growth:.2f}",
            holds=growth <= MOST_GROWTH,
        ),
    ]
    text = (
        f"{len(seen.pipelines)} pipelines of 120 rows, each with a schedule of a minute and all of them in one pool of"
        f" four, for {minutes:.0f} minutes: {sum(green.values())} runs, {sum(green.values()) / minutes:.1f} a minute. A"
        f" pipeline ran {min(green.values())} to {max(green.values())} times, every {everybody / 60:.1f} minutes, and"
        f" waited {longest / 60:.1f} minutes at most. At most {max(seen.pods_of_runs)} pods of runs were there at once."
        " The cluster, the databases and the test itself share two cores. That is more work than they can do, on"
        " purpose: CPU stays at 100 %, tasks wait longer and longer for a slot of the pool (*scheduled*), and what"
        " counts is that no pipeline waits much longer than the others. The source changes in the first half only. The"
        " picture shows panels of the dashboards: their queries and Prometheus's answers, drawn without Grafana."
        " Written by `make load`."
    )
    rows = [
        [name, f"{before[name]:,.0f}", f"{after[name]:,.0f}", f"{after[name] / before[name]:.2f}"]
        for name in sorted(after, key=lambda name: -after[name])
    ]
    columns = ["pod", "middle third, MiB", "last third, MiB", "ratio"]
    title = "Memory of the pods that ran all the time, the largest first; that of databases includes cached files"
    table = Table(title=title, columns=columns, rows=rows)
    texts = [text, loki_description()]
    section = Section(title="Many pipelines at once", text=texts, claims=claims, plot=PICTURE, tables=[table])
    write_section("load.json", section)
