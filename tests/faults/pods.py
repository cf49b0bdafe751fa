"""Faults of single pods: deleted, evicted, killed, out of memory, paused."""

import json
import signal
from collections.abc import Iterator, Sequence

from tests.faults import processes
from tests.faults.fault import Fault
from tests.faults.pause import PauseProcesses
from tests.faults.system import SystemUnderTest
from tests.harness.e2e.live_pods import Pod

STEPS = ("extract", "filter", "load", "run")
DATABASES = ("metadata-postgres", "mssql")
SERVERS = (
    "airflow-scheduler",
    "airflow-api-server",
    "airflow-dag-processor",
    "airflow-triggerer",
    *DATABASES,
    "kube-dns",
)
ROLES = (*STEPS, "worker", *SERVERS)
_MOST_RESTARTS = 3
_OOM_SECONDS = 6.0


def pod_faults() -> Iterator[Fault]:
    """All of them, for every role to which they apply."""
    for role in ROLES:
        yield Delete(role)
        yield Kill(role)
    for role in (*STEPS, "worker", "airflow-scheduler", "airflow-api-server", *DATABASES):
        yield Evict(role)
    for role in (*STEPS, "worker", "airflow-scheduler", "airflow-api-server", "mssql"):
        yield OutOfMemory(role)
    for role in ("load", "worker", "airflow-scheduler", *DATABASES):
        yield Pause(role)


class PodFault(Fault):
    """A fault of a pod with a role."""

    verb: str

    def __init__(self, role: str) -> None:
        super().__init__(f"{self.verb} {role}", place=role)
        self.role = role

    def targets(self, system: SystemUnderTest) -> Sequence[Pod]:
        """Ready pods: servers only when they have recovered from the last fault."""
        return [pod for pod in system.pods.of(self.role) if pod.ready]


class Delete(PodFault):
    """Deletes a pod without grace period."""

    verb = "delete"

    def inject(self, system: SystemUnderTest, target: Pod) -> None:
        # Forced deletion of a database's pod that still writes would allow two on one volume: it gets a second.
        how = ["--grace-period=1"] if self.role in DATABASES else ["--grace-period=0", "--force"]
        system.kubectl("delete", "pod", target.name, "--wait=false", *how, namespace=target.namespace)


class Evict(PodFault):
    """Evicts a pod, as the drain of a node does."""

    verb = "evict"

    def inject(self, system: SystemUnderTest, target: Pod) -> None:
        eviction = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": target.name, "namespace": target.namespace},
        }
        path = f"/api/v1/namespaces/{target.namespace}/pods/{target.name}/eviction"
        system.kubectl("create", f"--raw={path}", "--filename=-", stdin=json.dumps(eviction))


class Kill(PodFault):
    """Kills the processes of a container; the pod stays."""

    verb = "kill"

    def targets(self, system: SystemUnderTest) -> Sequence[Pod]:
        """Without pods in a long back-off, which only Delete ends."""
        return [pod for pod in super().targets(system) if pod.restarts < _MOST_RESTARTS]

    def inject(self, system: SystemUnderTest, target: Pod) -> None:
        if not processes.kill(processes.of_container(target.container), signal.SIGKILL):
            raise OSError(f"{target} has ended before")


class OutOfMemory(Kill):
    """Limits a container to the memory that it uses: the kernel kills the process that allocates more."""

    verb = "out of memory:"
    longest = _OOM_SECONDS

    def __init__(self, role: str) -> None:
        super().__init__(role)
        self._limit: processes.MemoryLimit | None = None

    def inject(self, system: SystemUnderTest, target: Pod) -> None:
        self._limit = processes.MemoryLimit(target.container)
        if not self._limit.squeeze():
            raise OSError(f"{target} has ended before")

    def heal(self, system: SystemUnderTest) -> None:
        if self._limit:
            self._limit.restore()
            self._limit = None


class Pause(PodFault, PauseProcesses):
    """Stops the processes of a container for some seconds: it answers nothing, and no connection ends."""

    verb = "pause"
    longest = 12.0

    def processes(self, system: SystemUnderTest, target: Pod) -> list[int]:
        return processes.of_container(target.container)
