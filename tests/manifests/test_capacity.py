"""Resource requests: the namespace's quota admits them, and one small machine has room for them."""

from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple, Self

import pytest
from kubernetes.utils import parse_quantity

from tests.harness.manifests.kustomizations import DEFAULT
from tests.harness.manifests.pods import JOBS, Pod, controller, pods_of, step, worker
from tests.harness.manifests.rendering import NAMESPACE, Manifest, Rendering, renderings
from tests.harness.manifests.rendering import rendering as overlay

each_rendering = pytest.mark.parametrize("rendering", renderings(), ids=str)


class Amount(NamedTuple):
    """Pods, cores and bytes."""

    pods: int = 0
    cpu: Decimal = Decimal(0)
    memory: Decimal = Decimal(0)

    @classmethod
    def of(cls, pod: Pod, count: int = 1) -> Self:
        """The requests of so many pods: of the containers together, or the largest of the init containers."""
        cpu, memory = (max(_asked(pod, name)) for name in ("cpu", "memory"))
        return cls(count, count * cpu, count * memory)

    def fits(self, room: "Amount") -> bool:
        """Whether it fits."""
        return self.pods <= room.pods and self.cpu <= room.cpu and self.memory <= room.memory


def _asked(pod: Pod, name: str) -> list[Decimal]:
    kinds = (pod.spec.get(kind, []) for kind in ("containers", "initContainers"))
    together, before = ([parse_quantity(one["resources"]["requests"][name]) for one in found] for found in kinds)
    return [sum(together, Decimal(0)), *before]


MACHINE = Amount(110, Decimal(2), Decimal(8 * 10**9))
K3S = Amount(6, Decimal("0.2"), Decimal(1100 * 2**20))
"""CoreDNS and metrics-server ask for 100m and 70Mi each; K3s itself asks for nothing and takes about 900 MiB."""


def total(amounts: Iterable[Amount]) -> Amount:
    return Amount(*(sum(one) for one in zip(*amounts, strict=True)))


def replicas(pod: Pod) -> int:
    """How many of it there may be at most."""
    for autoscaler in pod.rendering.of_kind("HorizontalPodAutoscaler"):
        if pod.owner == "{kind}/{name}".format_map(autoscaler["spec"]["scaleTargetRef"]):
            return int(autoscaler["spec"]["maxReplicas"])
    return int(controller(pod).spec.get("replicas", 1))


def deployed(pods: list[Pod]) -> Amount:
    """The servers, and the largest Job: apply-all.sh waits for the end of one before it goes on to the next.

    Those of the night are an hour apart.
    """
    jobs = [Amount.of(pod) for pod in pods if pod.kind in JOBS]
    largest = Amount(1, max(job.cpu for job in jobs), max(job.memory for job in jobs))
    return total([*(Amount.of(pod, replicas(pod)) for pod in pods if pod.kind not in JOBS), largest])


def tasks(rendering: Rendering) -> Amount:
    """As many tasks as run at once, each a worker and the pod of a step."""
    scheduler = next(pod for pod in pods_of(rendering) if pod.owner == "Deployment/airflow-scheduler")
    count = int(scheduler.containers[0].environment()["AIRFLOW__CORE__DEFAULT_POOL_TASK_SLOT_COUNT"])
    return total([Amount.of(worker(rendering), count), Amount.of(step(rendering), count)])


def surge(pods: Iterable[Pod]) -> Amount:
    """A pod more of each Deployment while a new version is rolled out: a quarter of them, rounded up."""
    rolled = [pod for pod in pods if pod.kind == "Deployment"]
    return total(Amount.of(pod, -(-replicas(pod) // 4)) for pod in rolled)


@each_rendering
def test_the_quota_admits_all_pods_with_as_many_tasks_as_run_at_once_also_while_rolling_out(
    rendering: Rendering,
) -> None:
    (quota,) = (Manifest(rendering, item).spec["hard"] for item in rendering.of_kind("ResourceQuota"))
    room = Amount(int(quota["pods"]), parse_quantity(quota["requests.cpu"]), parse_quantity(quota["requests.memory"]))
    pods = [pod for pod in pods_of(rendering) if pod.namespace == NAMESPACE]
    needed = total([deployed(pods), tasks(rendering), surge(pods)])
    assert needed.fits(room), f"{needed} in {room}"


@each_rendering
def test_workers_that_wait_for_loki_leave_room_for_tasks(rendering: Rendering) -> None:
    scheduler = next(pod for pod in pods_of(rendering) if pod.owner == "Deployment/airflow-scheduler")
    environment = scheduler.containers[0].environment()
    at_once = int(environment["AIRFLOW__CORE__DEFAULT_POOL_TASK_SLOT_COUNT"])
    assert int(environment["AIRFLOW__CORE__PARALLELISM"]) >= 2 * at_once


def test_a_machine_of_two_cores_and_8_gb_has_room_for_everything() -> None:
    single = overlay(DEFAULT)
    needed = total([deployed(pods_of(single)), tasks(single), K3S])
    assert needed.fits(MACHINE), f"{needed} on {MACHINE}"
