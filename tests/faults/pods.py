"""Faults of single pods: deleted, evicted, killed, out of memory, standing still."""

import json
import signal
from collections.abc import Iterator, Sequence

from tests.faults import processes
from tests.faults.fault import Fault
from tests.faults.target import Scene
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
    """All of them, for every role that they make sense for."""
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
    """Hits a pod of a role."""

    verb: str

    def __init__(self, role: str) -> None:
        super().__init__(f"{self.verb} {role}", place=role)
        self.role = role

    def targets(self, scene: Scene) -> Sequence[Pod]:
        """Pods with a process in them; servers only when they are up again after the last time."""
        return [pod for pod in scene.pods.of(self.role) if pod.ready]


class Delete(PodFault):
    """Deletes a pod without giving it time to end in order."""

    verb = "delete"

    def inject(self, scene: Scene, target: Pod) -> None:
        # To forget a database's pod while it may still write would be to have two on one volume: it gets a second.
        how = ["--grace-period=1"] if self.role in DATABASES else ["--grace-period=0", "--force"]
        scene.kubectl("delete", "pod", target.name, "--wait=false", *how, namespace=target.namespace)


class Evict(PodFault):
    """Has a pod leave, as for the drain of a node."""

    verb = "evict"

    def inject(self, scene: Scene, target: Pod) -> None:
        eviction = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": target.name, "namespace": target.namespace},
        }
        path = f"/api/v1/namespaces/{target.namespace}/pods/{target.name}/eviction"
        scene.kubectl("create", f"--raw={path}", "--filename=-", stdin=json.dumps(eviction))


class Kill(PodFault):
    """Kills the processes of a container; the pod stays."""

    verb = "kill"

    def targets(self, scene: Scene) -> Sequence[Pod]:
        """Not what Kubernetes has begun to start again more and more slowly: Delete gets that out of there."""
        return [pod for pod in super().targets(scene) if pod.restarts < _MOST_RESTARTS]

    def inject(self, scene: Scene, target: Pod) -> None:
        if not processes.kill(processes.of_container(target.container), signal.SIGKILL):
            raise OSError(f"{target} has ended by itself")


class OutOfMemory(Kill):
    """Lets a container have no more memory than it has: the kernel kills what asks for more."""

    verb = "out of memory:"
    longest = _OOM_SECONDS

    def __init__(self, role: str) -> None:
        super().__init__(role)
        self._limit: processes.MemoryLimit | None = None

    def inject(self, scene: Scene, target: Pod) -> None:
        self._limit = processes.MemoryLimit(target.container)
        if not self._limit.squeeze():
            raise OSError(f"{target} has ended by itself")

    def heal(self, scene: Scene) -> None:
        if self._limit:
            self._limit.restore()
            self._limit = None


class Pause(PodFault):
    """Stops the processes of a container for some seconds: nothing answers, and no connection ends."""

    verb = "pause"
    longest = 12.0

    def __init__(self, role: str) -> None:
        super().__init__(role)
        self._stopped: Stopped | None = None

    def inject(self, scene: Scene, target: Pod) -> None:
        self._stopped = Stopped(processes.of_container(target.container))
        if not self._stopped.reached:
            raise OSError(f"{target} has ended by itself")

    def heal(self, scene: Scene) -> None:
        if self._stopped:
            self._stopped.go_on()
            self._stopped = None


class Stopped:
    """Processes that stand still."""

    def __init__(self, ids: list[int]) -> None:
        self._ids = {process: processes.started(process) for process in ids}
        self.reached = processes.kill(ids, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let them go on; one that has ended meanwhile may have left its number to another."""
        still = [process for process, started in self._ids.items() if processes.started(process) == started]
        processes.kill(still, signal.SIGCONT)
