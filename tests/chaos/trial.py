"""A whole campaign on a deployment: orders change, runs follow each other, faults come, and nothing may be wrong."""

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
from tests.chaos.campaign import Campaign, Happened
from tests.chaos.orders import LONGEST_TRANSACTION, Rows, Traffic, make_tables, must_be_after_run, must_be_in_sink
from tests.chaos.runs import LONGEST_OUTAGE, Run, Runs, patiently, running, signed_in
from tests.cluster import Cluster
from tests.e2e.dags.chaos_etl import FUSED, LONGEST_RUN, LONGEST_TASK, SEPARATE
from tests.faults import all_faults
from tests.faults.target import Node, Scene, volume_folder
from tests.harness.e2e.deployment import Airflow, Deployment, wait_for
from tests.harness.e2e.live_pods import watching_pods

PIPELINES = (SEPARATE, FUSED)
RETENTION = timedelta(minutes=20)
"""Of files in staging, so that a campaign sees them go."""
_LEFTOVERS_SECONDS = 180.0


def endure(
    deployment: Deployment,
    source: Postgres,
    cluster: Cluster | None,
    seed: int,
    count: int,
    folder: Path,
    names: Sequence[str] = (),
) -> None:
    """Inject `count` faults drawn from `names` (all by default), let everything heal, and check the invariants.

    Raises AssertionError where one does not hold.
    """
    known = all_faults()
    faults = {name: known[name] for name in names} or known
    url = deployment.source_url
    make_tables(url)
    with scene_of(deployment, source, cluster) as scene, signed_in() as airflow, Traffic(url, seed) as traffic:
        for pipeline in PIPELINES:
            airflow.await_dag(f"{pipeline.name}_etl")
            airflow.pause(f"{pipeline.name}_etl", False)
        runs = Runs(airflow, LONGEST_RUN, Looks(scene, traffic))
        for pipeline in PIPELINES:  # what is not disturbed goes well
            runs.until_green(pipeline, tries=1)
        # Twice as often in three steps: there is more of that to be hit.
        with running(runs, (SEPARATE, SEPARATE, FUSED)) as background:
            log = folder / "faults.jsonl"
            campaign = Campaign(scene, faults, lambda: runs.under_way_since, background.check, log)
            happened = campaign.run(seed, count)
        traffic.stop()
        wait_for("all servers to be up", lambda: servers_are_up(scene), seconds=LONGEST_OUTAGE)
        last = [runs.until_green(pipeline) for pipeline in PIPELINES]
        _summarise(folder, seed, happened, runs, traffic)
        for run in last:
            look_at_the_end(scene, run)
        wait_for(
            f"the pods of ended runs to be gone; there are still {invariants.leftover_pods(scene.pods.all())}",
            lambda: not invariants.leftover_pods(scene.pods.all()),
            seconds=_LEFTOVERS_SECONDS,
        )
        _leave(airflow)


class Looks:
    """Looks at a run that has ended: what it says against what is in the sink."""

    def __init__(self, scene: Scene, traffic: Traffic) -> None:
        self._scene, self._traffic = scene, traffic
        self._last_green: dict[str, datetime] = {}

    def __call__(self, run: Run) -> None:
        print(f"            run {run.run_id} of {run.pipeline.name}: {run.state}", flush=True)
        url = self._scene.deployment.source_url
        expected = patiently(lambda: must_be_after_run(url, run.pipeline, run.began, run.ended))
        audits, rows = patiently(lambda: self._sink(run.pipeline))
        invariants.check_audit(run, audits)
        invariants.check_rows(run, rows, expected)
        invariants.check_times(run, LONGEST_TASK)
        if run.state == "success":
            self._last_green[run.pipeline.name] = run.began
        if len(self._last_green) == len(PIPELINES):
            self._traffic.read_until = min(self._last_green.values()) - LONGEST_TRANSACTION

    def _sink(self, pipeline: Pipeline) -> tuple[list[dict[str, object]], Rows]:
        with self._scene.deployment.site(pipeline) as site:
            return site.audits(), site.sink_rows() if site.sink_exists() else {}


def look_at_the_end(scene: Scene, run: Run) -> None:
    """Look at all that a pipeline has left, when nothing is under way; `run` is its last."""
    expected = must_be_in_sink(scene.deployment.source_url, run.pipeline)
    with scene.deployment.site(run.pipeline) as site:
        invariants.check_equal(site, expected)
        invariants.check_sink_is_tidy(site)
    if scene.node:
        invariants.check_staging(scene.node.staging_seen_from_here, run.pipeline, RETENTION, run.began)


def servers_are_up(scene: Scene) -> bool:
    """Whether every pod that stays is ready."""
    servers = [pod for pod in scene.pods.all() if not pod.of_a_run and pod.phase != "Succeeded"]
    return bool(servers) and all(pod.ready and not pod.going for pod in servers)


@contextmanager
def scene_of(deployment: Deployment, source: Postgres, cluster: Cluster | None) -> Iterator[Scene]:
    """The deployment as faults see it, put right at the end: where files in staging are kept for minutes only."""
    node = Node(cluster, volume_folder(deployment, "etl-poc-staging")) if cluster else None
    with watching_pods([NAMESPACE, "kube-system"], deployment.environment) as pods:
        scene = Scene(deployment, pods, source, node, sink_is_stand_in=deployment.overlay == "e2e")
        keep = {"data": {"STAGING_RETENTION": f"PT{RETENTION.total_seconds():.0f}S"}}
        scene.patch("configmap/etl-connections", keep)
        try:
            if node:
                with node.prepared():
                    yield scene
            else:
                yield scene
        finally:
            scene.patch("configmap/etl-connections", {"data": {"STAGING_RETENTION": None}})


def _leave(airflow: Airflow) -> None:
    for pipeline in PIPELINES:
        airflow.pause(f"{pipeline.name}_etl", True)


def _summarise(folder: Path, seed: int, happened: list[Happened], runs: Runs, traffic: Traffic) -> None:
    """Log a summary of the campaign, and write it to a file."""
    states = Counter(run.state for run in runs.ended)
    kinds = Counter(fault.fault for fault in happened)
    told = {"seed": seed, "faults": len(happened), "runs": states, "changes": traffic.done, "kinds": kinds}
    (folder / "summary.json").write_text(json.dumps(told, indent=1) + "\n")
    print(f"Seed {seed}: {len(happened)} faults of {len(kinds)} kinds, {traffic.done} changes, runs: {dict(states)}")
