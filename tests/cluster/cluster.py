"""The cluster as tests see it: bring it up, reach it, end it."""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dev.sandbox.process import die_with_parent
from tests.cluster.building import images
from tests.cluster.building.binaries import TRAEFIK_KINDS, build_binaries
from tests.cluster.building.buildah import build_environment, forget_layers
from tests.cluster.errors import ClusterError, end_of
from tests.cluster.machine import check_machine
from tests.cluster.node import network
from tests.cluster.node.configuration import Place
from tests.cluster.nodes import Node
from tests.cluster.supervisor import Supervisor
from tests.cluster.system import DEPLOYMENTS, create_system

_CLONE_NEWNET = 0x40000000
_LONGEST_SOCKET_PATH = 107


@dataclass(frozen=True)
class Cluster:
    """A running cluster."""

    folder: Path
    kubeconfig: Path
    kubectl: Path
    node: Node
    """The first node, which has the control plane."""
    host_address: str
    """This machine, as the cluster's node sees it."""
    node_address: str
    """The cluster's node, as this machine and the pods see it."""
    connections: Path
    """The log of connections (`tests.cluster.traffic.connections`)."""
    build_environment: dict[str, str] = field(repr=False)
    """The environment in which `buildah` builds images for it."""
    system_images: list[Path] = field(repr=False)
    """The archives of the images of system pods, which every node needs."""
    start_node: Callable[[int], Node] = field(repr=False)

    @property
    def import_command(self) -> list[str]:
        """Of the first node."""
        return self.node.import_command

    @property
    def namespaces(self) -> int:
        """A process in the first node's network."""
        return self.node.namespaces

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which programs find `kubectl`, the cluster, and how to build images for it."""
        path = f"{self.kubectl.parent}:{os.environ['PATH']}"
        direct = ",".join(filter(None, (os.environ.get("NO_PROXY"), self.node_address)))
        proxies = {"NO_PROXY": direct, "no_proxy": direct}
        return {**os.environ, **self.build_environment, **proxies, "KUBECONFIG": str(self.kubeconfig), "PATH": path}

    @contextmanager
    def network(self) -> Iterator[None]:
        """Let the present thread, and the processes that it starts, be in the node's network until the block ends.

        A server that listens there on all addresses is to pods what a server beside the cluster is: they reach it at
        `node_address`. It must be stopped before the cluster is.
        """
        ours = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            theirs = os.open(f"/proc/{self.namespaces}/ns/net", os.O_RDONLY)
            try:
                _enter_network(theirs)
            finally:
                os.close(theirs)
            try:
                yield
            finally:
                _enter_network(ours)
        finally:
            os.close(ours)

    def exec(self, *command: str | Path, **options: Any) -> "subprocess.Popen[bytes]":
        """Start a program in the node's network. It ends with the thread that called this, at the latest."""
        with self.network():
            return subprocess.Popen(command, preexec_fn=die_with_parent, **options)

    def add_node(self, number: int = 1) -> Node:
        """Have a further node join, and wait until it is ready. It has the images of the system and no others."""
        node = self.start_node(number)
        node.import_images(self.system_images)
        self.call("wait", f"node/{node.name}", "--for=create", "--timeout=60s")
        _wait_for(self, f"{node.name}/kubelet", f"node/{node.name}", "Ready")
        return node

    def call(self, *arguments: str, stdin: str | None = None) -> str:
        """Output of `kubectl`. Raises ClusterError."""
        ran = subprocess.run(
            [self.kubectl, *arguments], env=self.environment, input=stdin, capture_output=True, text=True, check=False
        )
        if ran.returncode:
            raise ClusterError(f"`kubectl {' '.join(arguments)}` failed: {ran.stderr.strip()}")
        return ran.stdout


@contextmanager
def run_cluster(
    folder: Path, *, logs: Path | None = None, beside: Callable[[dict[str, str]], object] | None = None
) -> Iterator[Cluster]:
    """Run a cluster in a new folder until the block ends; then nothing of it is left, nor of the folder.

    Where `logs` is given, the components' logs are copied there before. `beside` is done while the programs are built:
    something else that takes long the first time; it is given the environment in which `buildah` builds images. Raises
    ClusterError where the cluster cannot be brought up, and after the block where a component ended in the meantime.
    """
    folder = folder.resolve()
    _make_folder(folder)
    try:
        check_machine(folder)
        forget_layers()
        with ThreadPoolExecutor() as pool:
            other = pool.submit(_prepare_builds, beside)
            programs = build_binaries()
            archives = images.system_images(programs)
            environment = other.result()
    except BaseException:
        shutil.rmtree(folder)
        raise
    with Supervisor(folder, programs, logs) as supervisor:
        node, cable = supervisor.first_node(), network.Cable.read(folder)
        cluster = Cluster(
            folder=folder,
            kubeconfig=folder / "kubeconfig",
            kubectl=programs["kubectl"],
            node=node,
            host_address=cable.host_address,
            node_address=cable.node_address,
            connections=node.place.connections,
            build_environment=environment,
            system_images=archives,
            start_node=supervisor.start_node,
        )
        _start_system(cluster, programs[TRAEFIK_KINDS])
        yield cluster


def _prepare_builds(beside: Callable[[dict[str, str]], object] | None) -> dict[str, str]:
    environment = build_environment()
    if beside:
        beside(environment)
    return environment


def _start_system(cluster: Cluster, kinds: Path) -> None:
    """Run the system pods, and wait until they and the node are ready. `kinds` is the file of Traefik's CRDs."""
    cluster.node.import_images(cluster.system_images)
    create_system(cluster.call, kinds, cluster.node_address)
    _wait_for(cluster, "kubelet", f"node/{cluster.node.name}", "Ready")
    for deployment in DEPLOYMENTS:
        _wait_for(cluster, "kubelet", f"deployment/{deployment}", "Available")
    _wait_for(cluster, "apiserver", "apiservice/v1beta1.metrics.k8s.io", "Available")


def _wait_for(cluster: Cluster, component: str, what: str, condition: str) -> None:
    namespaced = "--namespace=kube-system"
    try:
        cluster.call("wait", namespaced, f"--for=condition={condition}", "--timeout=120s", what)
    except ClusterError as error:
        described = cluster.call("describe", namespaced, what)
        events = cluster.call("get", "events", namespaced, "--sort-by=.lastTimestamp")
        log = end_of(cluster.folder / "logs" / f"{component}.log")
        seen = f"{described[-2000:]}\n{events[-2000:]}\nThe {component}'s log ends:\n{log}"
        raise ClusterError(f"{what} is not {condition}: {error}\n{seen}") from error


def _make_folder(folder: Path) -> None:
    socket = Place(folder, number=9).containerd_socket
    if len(f"{socket}.ttrpc") > _LONGEST_SOCKET_PATH:
        raise ClusterError(f"{socket} is too long for the path of a socket. Give the cluster a folder nearer to /.")
    try:
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise ClusterError(f"The cluster needs a new folder in one that is there: {error}.") from error
    (folder / "logs").mkdir()


def _enter_network(namespace: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(namespace, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns failed")
