"""Every workload: selects its own pods, has cheap probes, and may be evicted."""

import re
from itertools import pairwise
from typing import Any

import pytest
from kubernetes.utils import parse_quantity

from tests.harness.manifests.pods import (
    JOBS,
    SERVERS,
    Container,
    Pod,
    controller,
    distinct_pods,
    pods_of,
    selected,
    specification,
    step,
    worker,
)
from tests.harness.manifests.rendering import Manifest, distinct, manifests, rendering

RUN_FOR_EVER = [pod for pod in distinct_pods() if pod.kind in SERVERS]
KINDS_OF_PROBES = ("startupProbe", "livenessProbe", "readinessProbe")

each_server = pytest.mark.parametrize("pod", RUN_FOR_EVER, ids=str)
each_container = pytest.mark.parametrize(
    "container",
    [one for pod in RUN_FOR_EVER for one in pod.containers if one.content in pod.spec["containers"]],
    ids=str,
)
each_cron_job = pytest.mark.parametrize("cron_job", distinct(manifests("CronJob")), ids=str)
each_job = pytest.mark.parametrize("pod", [pod for pod in distinct_pods() if pod.kind in JOBS], ids=str)


def probes(container: Container) -> dict[str, Any]:
    return {kind: container.content[kind] for kind in KINDS_OF_PROBES if kind in container.content}


def patience(probe: dict[str, Any]) -> int:
    """For how many seconds a probe may fail before the container is ended."""
    return int(probe.get("initialDelaySeconds", 0) + probe.get("periodSeconds", 10) * probe.get("failureThreshold", 3))


@each_server
def test_a_selector_matches_its_own_pods_and_no_others(pod: Pod) -> None:
    found = selected(pod.rendering, controller(pod).spec["selector"]["matchLabels"])
    assert [str(one) for one in found] == [str(pod)]


@each_container
def test_a_server_that_hangs_is_started_again(container: Container) -> None:
    assert "livenessProbe" in container.content


@each_container
def test_a_server_behind_a_service_gets_no_request_before_it_is_ready(container: Container) -> None:
    services = [item["spec"].get("selector") or {} for item in container.pod.rendering.of_kind("Service")]
    if any(container.pod in selected(container.pod.rendering, labels) for labels in services):
        assert "readinessProbe" in container.content


@each_container
def test_a_server_has_more_time_to_start_than_it_may_wait_for_others(container: Container) -> None:
    first = container.content.get("startupProbe") or container.content["livenessProbe"]
    words = container.content.get("args", [])
    waits = int(words[words.index("--wait") + 1]) if "--wait" in words else 0
    assert patience(first) >= waits + 60


@each_container
def test_no_probe_starts_airflow_which_takes_seconds_of_cpu(container: Container) -> None:
    for probe in probes(container).values():
        command = " ".join(probe.get("exec", {}).get("command", []))
        assert not re.search(r"(?:^|[\s/'\"])airflow(?:\s|$)", command)


@each_container
def test_a_probe_asks_at_a_port_that_the_container_has_or_by_its_number_one_of_its_pod(container: Container) -> None:
    ports = {port["name"] for port in container.content.get("ports", [])}
    ports |= {port["containerPort"] for one in container.pod.containers for port in one.content.get("ports", [])}
    for probe in probes(container).values():
        for kind in {"httpGet", "tcpSocket"} & probe.keys():
            assert probe[kind]["port"] in ports


@each_container
def test_a_probe_is_one_question(container: Container) -> None:
    for probe in probes(container).values():
        assert len({"exec", "httpGet", "tcpSocket", "grpc"} & probe.keys()) == 1


@each_server
def test_replicas_are_spread_over_nodes_by_their_own_labels(pod: Pod) -> None:
    for constraint in pod.spec.get("topologySpreadConstraints", []):
        assert constraint["labelSelector"]["matchLabels"].items() <= pod.labels.items()
        # Those that a new version replaces are not to count.
        assert constraint["matchLabelKeys"] == ["pod-template-hash"]


def test_where_there_are_several_nodes_what_may_run_elsewhere_leaves_one_that_is_lost() -> None:
    several = rendering("multi-node")
    movable = [pod for pod in pods_of(several) if pod.kind == "Deployment"]
    for pod in (*movable, worker(several), step(several)):
        waits = {one["key"]: one.get("tolerationSeconds") for one in pod.spec["tolerations"]}
        assert waits == {"node.kubernetes.io/not-ready": 30, "node.kubernetes.io/unreachable": 30}, pod


@each_job
def test_a_job_ends_and_is_cleared_away(pod: Pod) -> None:
    job = specification(controller(pod).object)
    assert {"activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished"} <= job.keys()
    assert pod.spec["restartPolicy"] == "Never"


@each_cron_job
def test_what_is_done_every_night_is_done_once_and_made_up_for(cron_job: Manifest) -> None:
    assert re.fullmatch(r"\d+ \d+ \* \* \*", cron_job.spec["schedule"])
    assert cron_job.spec["timeZone"] == "Etc/UTC"
    assert cron_job.spec["concurrencyPolicy"] == "Forbid"
    # Long enough for a machine that was off, short enough for the next night.
    assert 6 * 3600 <= cron_job.spec["startingDeadlineSeconds"] < 24 * 3600
    assert {"successfulJobsHistoryLimit", "failedJobsHistoryLimit"} <= cron_job.spec.keys()


def test_the_jobs_of_a_night_come_one_after_the_other() -> None:
    """So that the machine needs room for one of them, and a copy has the backups of the same night."""
    due: dict[str, int] = {}
    for cron_job in manifests("CronJob"):
        minute, hour, *_ = map(int, cron_job.spec["schedule"].split()[:2])
        due[cron_job.name] = 60 * hour + minute
    times = sorted(due.values())
    assert [later - earlier >= 60 for earlier, later in pairwise(times)] == [True] * (len(times) - 1)
    assert due["backup-copy"] == max(times)


@pytest.mark.parametrize("budget", manifests("PodDisruptionBudget"), ids=str)
def test_a_disruption_budget_is_about_one_workload_and_lets_a_node_be_drained(budget: Manifest) -> None:
    assert len(selected(budget.rendering, budget.spec["selector"]["matchLabels"])) == 1
    assert budget.spec["maxUnavailable"] >= 1


@pytest.mark.parametrize("autoscaler", manifests("HorizontalPodAutoscaler"), ids=str)
def test_an_autoscaler_alone_decides_how_many_there_are(autoscaler: Manifest) -> None:
    target = autoscaler.spec["scaleTargetRef"]
    scaled = autoscaler.rendering.find(target["kind"], target["name"])
    assert scaled
    assert scaled["apiVersion"] == target["apiVersion"]
    assert "replicas" not in scaled["spec"]


@each_container
def test_sql_server_knows_that_it_may_not_use_all_of_its_memory(container: Container) -> None:
    """It uses up to a quarter more than its memory setting."""
    if "mssql/server" in container.content["image"]:
        own = int(container.environment()["MSSQL_MEMORY_LIMIT_MB"]) * 2**20
        assert own * 5 / 4 <= parse_quantity(container.content["resources"]["limits"]["memory"])
