"""A whole campaign on a deployment: orders change, runs follow each other, faults are injected, invariants checked."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from etl.model.pipeline import Pipeline

from dev.sandbox.postgres import Postgres
from ops.cluster.kubectl import NAMESPACE
from tests.chaos import invariants
from tests.chaos.campaign import Campaign, Injected
from tests.chaos.orders import LONGEST_TRANSACTION, Rows, Traffic, expected_after_run, expected_in_sink, make_tables
from tests.chaos.runs import LONGEST_OUTAGE, Run, Runs, retrying, running, signed_in
from tests.cluster import Cluster
from tests.faults import all_faults
from tests.faults.system import Node, SystemUnderTest, volume_folder
from tests.harness.e2e.dags.chaos_etl import FUSED, LONGEST_RUN, LONGEST_TASK, SEPARATE
from tests.harness.e2e.deployment import Airflow, Deployment, wait_for
from tests.harness.e2e.live_pods import watching_pods

PIPELINES = (SEPARATE, FUSED)
RETENTION = timedelta(minutes=20)
"""Of files in staging: short, so that they expire during a campaign."""
_LEFTOVERS_SECONDS = 180.0


def run_campaign(
    deployment: Deployment,
    source: Postgres,
    cluster: Cluster | None,
    seed: int,
    count: int,
    folder: Path,
    names: Sequence[str] = (),
) -> None:
    """Inject `count` faults drawn from `names` (all by default), let everything heal, and check the invariants.

    Raises AssertionError on a violation.
    """
    known = all_faults()
    faults = {name: known[name] for name in names} or known
    url = deployment.source_url
    make_tables(url)
    with (
        system_under_test(deployment, source, cluster) as system,
        signed_in() as airflow,
        Traffic(url, seed) as traffic,
    ):
        for pipeline in PIPELINES:
            airflow.await_dag(f"{pipeline.name}_etl")
            airflow.pause(f"{pipeline.name}_etl", False)
        runs = Runs(airflow, LONGEST_RUN, RunChecks(system, traffic))
        for pipeline in PIPELINES:  # undisturbed runs succeed
            runs.until_green(pipeline, tries=1)
        # Twice as often in three steps: they offer more targets.
        with running(runs, (SEPARATE, SEPARATE, FUSED)) as background:
            log = folder / "faults.jsonl"
            campaign = Campaign(system, faults, lambda: runs.under_way_since, background.check, log)
            injected = campaign.run(seed, count)
        traffic.stop()
        wait_for("all servers to be up", lambda: servers_are_up(system), seconds=LONGEST_OUTAGE)
        last = [runs.until_green(pipeline) for pipeline in PIPELINES]
        _summarise(folder, seed, injected, runs, traffic)
        for run in last:
            check_final_state(system, run)
        wait_for(
            f"the pods of ended runs to be gone; there are still {invariants.leftover_pods(system.pods.all())}",
            lambda: not invariants.leftover_pods(system.pods.all()),
            seconds=_LEFTOVERS_SECONDS,
        )
        _leave(airflow)


class RunChecks:
    """Checks a run that has ended against the sink."""

    def __init__(self, system: SystemUnderTest, traffic: Traffic) -> None:
        self._system, self._traffic = system, traffic
        self._last_green: dict[str, datetime] = {}

    def __call__(self, run: Run) -> None:
        print(f"            run {run.run_id} of {run.pipeline.name}: {run.state}", flush=True)
        url = self._system.deployment.source_url
        expected = retrying(lambda: expected_after_run(url, run.pipeline, run.began, run.ended))
        audits, rows = retrying(lambda: self._sink(run.pipeline))
        invariants.check_audit(run, audits)
        invariants.check_rows(run, rows, expected)
        invariants.check_times(run, LONGEST_TASK)
        if run.state == "success":
            self._last_green[run.pipeline.name] = run.began
        if len(self._last_green) == len(PIPELINES):
            self._traffic.read_until = min(self._last_green.values()) - LONGEST_TRANSACTION

    def _sink(self, pipeline: Pipeline) -> tuple[list[dict[str, object]], Rows]:
        with self._system.deployment.site(pipeline) as site:
            return site.audits(), site.sink_rows() if site.sink_exists() else {}


def check_final_state(system: SystemUnderTest, run: Run) -> None:
    """Check sink and staging of a pipeline, with no run under way; `run` is its last."""
    expected = expected_in_sink(system.deployment.source_url, run.pipeline)
    with system.deployment.site(run.pipeline) as site:
        invariants.check_equal(site, expected)
        invariants.check_sink_is_tidy(site)
    if system.node:
        invariants.check_staging(system.node.staging_from_outside, run.pipeline, RETENTION, run.began)


def servers_are_up(system: SystemUnderTest) -> bool:
    """Whether every pod of a server is ready."""
    servers = [pod for pod in system.pods.all() if not pod.of_a_run and pod.phase != "Succeeded"]
    return bool(servers) and all(pod.ready and not pod.going for pod in servers)


@contextmanager
def system_under_test(deployment: Deployment, source: Postgres, cluster: Cluster | None) -> Iterator[SystemUnderTest]:
    """The deployment with a retention of minutes for staging, which is reset at the end."""
    node = Node(cluster, volume_folder(deployment, "etl-poc-staging")) if cluster else None
    with watching_pods([NAMESPACE, "kube-system"], deployment.environment) as pods:
        system = SystemUnderTest(deployment, pods, source, node, sink_is_double=deployment.overlay == "e2e")
        keep = {"data": {"STAGING_RETENTION": f"PT{RETENTION.total_seconds():.0f}S"}}
        system.patch("configmap/etl-connections", keep)
        try:
            if node:
                with node.prepared():
                    yield system
            else:
                yield system
        finally:
            system.patch("configmap/etl-connections", {"data": {"STAGING_RETENTION": None}})


def _leave(airflow: Airflow) -> None:
    for pipeline in PIPELINES:
        airflow.pause(f"{pipeline.name}_etl", True)


def _summarise(folder: Path, seed: int, injected: list[Injected], runs: Runs, traffic: Traffic) -> None:
    """Log a summary of the campaign, and write it to a file."""
    states = Counter(run.state for run in runs.ended)
    kinds = Counter(fault.fault for fault in injected)
    summary = {"seed": seed, "faults": len(injected), "runs": states, "changes": traffic.done, "kinds": kinds}
    (folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    print(f"Seed {seed}: {len(injected)} faults of {len(kinds)} kinds, {traffic.done} changes, runs: {dict(states)}")
