"""Access to the cluster by kubectl, with objects as JSON."""

import json
import os
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ops.cluster import processes
from ops.cluster.console import DeployError
from ops.cluster.forwarding import ForwardedPort

NAMESPACE = "etl-poc"
OBSERVABILITY = "observability"
NAMESPACES = (NAMESPACE, OBSERVABILITY, "observability-node")
"""The namespaces of the deployment; the first has the pipelines."""
SYSTEM = "kube-system"
_NO_LOG = "unable to retrieve container logs"
"""The beginning of the kubelet's answer for a removed container."""
Object = dict[str, Any]
"""A Kubernetes object as JSON."""


class Kubectl:
    """`kubectl` with KUBECONFIG, else the one inside K3s."""

    def __init__(self, seconds: int = 60) -> None:
        """`seconds`: the default timeout of a call."""
        self.seconds = seconds
        in_k3s = not os.environ.get("KUBECONFIG") and shutil.which("k3s")
        self.command = ["k3s", "kubectl"] if in_k3s else ["kubectl"]

    def run(
        self, *arguments: str, stdin: str | None = None, hide: Collection[str] = (), seconds: int | None = None
    ) -> str:
        """Run kubectl; returns standard output. Raises DeployError."""
        limit = self.seconds if seconds is None else seconds
        command = [*self.command, f"--request-timeout={limit}s", *arguments]
        return processes.run(command, stdin=stdin, hide=hide)

    def forward(self, service: str, port: int, namespace: str = NAMESPACE) -> ForwardedPort:
        """Forward a loopback port to a Service. Raises OSError."""
        return ForwardedPort(self.command, namespace, service, port)

    def get(self, *arguments: str) -> Any:
        """The result of `kubectl get … -o json`; None if a named object does not exist."""
        text = self.run("get", *arguments, "--ignore-not-found", "--output=json")
        return json.loads(text) if text.strip() else None

    def items(self, *arguments: str) -> list[Object]:
        """The objects of a list."""
        listed = self.get(*arguments)
        return list(listed["items"]) if listed else []

    def everywhere(self, kinds: str, *arguments: str) -> list[Object]:
        """The objects of some kinds in all namespaces of the deployment."""
        found = self.items(kinds, "--all-namespaces", *arguments)
        return [item for item in found if item["metadata"]["namespace"] in NAMESPACES]

    def apply(self, objects: Iterable[Object]) -> None:
        """Apply on the server's side: no annotation with a size limit, and no change for the same content."""
        self.run("apply", "--server-side", "--force-conflicts", "--filename=-", stdin=as_list(objects), seconds=120)

    def delete(self, objects: Iterable[Object], seconds: float) -> None:
        """Delete objects and wait until they and their pods are gone; a missing object is no error."""
        flags = ("--ignore-not-found", "--cascade=foreground", "--wait", f"--timeout={seconds:.0f}s")
        # The request time-out would end the wait as well.
        self.run("delete", "--filename=-", *flags, stdin=as_list(objects), seconds=0)

    def container_log(self, pod: Object, container: str, lines: int, runs: Iterable[str]) -> str:
        """The end of a container's log, of the first of its runs ("", "--previous") that has one; else empty."""
        name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
        command = ("--namespace", namespace, "logs", name, f"--container={container}", f"--tail={lines}")
        for run in runs:
            with suppress(DeployError):  # the pod is deleted, or no such container has run
                log = self.run(*command, *filter(None, [run]))
                if log.strip() and not log.startswith(_NO_LOG):
                    return log
        return ""

    @contextmanager
    def temporary_pod(self, pod: Object) -> Iterator[str]:
        """Create a pod, and delete it at the end of the block; its name. Raises DeployError."""
        name = pod["metadata"]["name"]
        flags = ("--ignore-not-found", "--grace-period=1", "--wait=false")
        try:
            self.run("create", "--filename=-", stdin=json.dumps(pod))
            yield name
        finally:
            with suppress(DeployError):
                self.run("--namespace", NAMESPACE, "delete", "pod", name, *flags)

    def render(self, folder: str) -> tuple[str, list[Object]]:
        """Build a kustomization: as YAML, and as objects. Needs no cluster."""
        text = self.run("kustomize", folder)
        # There is no YAML in the standard library; annotating locally turns it into JSON and changes nothing.
        converted = self.run("annotate", "--local", "--filename=-", "--output=json", "none-", stdin=text)
        return text, list(_documents(converted))


def as_list(objects: Iterable[Object]) -> str:
    """Objects as one document that kubectl reads."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})


def name_of(item: Object) -> str:
    """Kind and name of an object."""
    return f"{item['kind']} {item['metadata']['name']}"


def _documents(text: str) -> Iterator[Object]:
    decoder, position = json.JSONDecoder(), 0
    while position < len(text.rstrip()):
        try:
            found, end = decoder.raw_decode(text, position)
        except json.JSONDecodeError:
            raise DeployError("kubectl's rendering of the overlay is not JSON; use kubectl 1.30 or later.") from None
        if not found["metadata"].get("annotations", True):
            del found["metadata"]["annotations"]
        yield found
        position = end + len(text[end:]) - len(text[end:].lstrip())
