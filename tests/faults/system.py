"""The system under test: the deployment with its pods, the node below it, source and sink."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dev.sandbox.postgres import Postgres
from ops.cluster.kubectl import NAMESPACE
from tests.cluster import Cluster
from tests.harness.e2e.deployment import Deployment
from tests.harness.e2e.live_pods import Pods

CHAIN = "CHAOS"
"""Chain of the node's firewall that holds the rules of faults only."""
_STAGING_MEGABYTES = 48


@dataclass(frozen=True)
class Node:
    """The node of our own cluster. Changes in its namespaces do not affect the machine."""

    cluster: Cluster
    staging: Path = Path("/proc/none")
    """The folder of the staging volume."""

    def firewall(self, *arguments: str, check: bool = True) -> str:
        """Call iptables in the node's network."""
        return self._call("--net", "iptables", "--wait", *arguments, check=check)

    def rules(self) -> list[str]:
        """The rules of the firewall."""
        return self.firewall("--list-rules").splitlines()

    @contextmanager
    def prepared(self) -> Iterator[None]:
        """With a chain for rules, and a small staging volume that can be filled, until the block ends."""
        options = f"size={_STAGING_MEGABYTES}m,mode=2770,uid=10001,gid=10001"
        self.firewall("--new-chain", CHAIN)
        self.firewall("--insert", "FORWARD", "--jump", CHAIN)
        self._call("--mount", "mount", "-t", "tmpfs", "-o", options, "chaos", str(self.staging))
        try:
            yield
        finally:
            self._call("--mount", "umount", "--lazy", str(self.staging), check=False)
            self.firewall("--delete", "FORWARD", "--jump", CHAIN, check=False)
            self.firewall("--flush", CHAIN, check=False)
            self.firewall("--delete-chain", CHAIN, check=False)

    @property
    def staging_from_outside(self) -> Path:
        """The staging folder in the node's mount namespace, as a path of the machine."""
        return Path(f"/proc/{self.cluster.namespaces}/root", self.staging.relative_to("/"))

    def _call(self, namespace: str, *command: str, check: bool = True) -> str:
        entered = {"--net": "net", "--mount": "mnt"}[namespace]
        into = f"{namespace}=/proc/{self.cluster.namespaces}/ns/{entered}"
        ran = subprocess.run(["nsenter", into, *command], capture_output=True, text=True, check=False)
        assert ran.returncode == 0 or not check, f"`{' '.join(command)}` on the node failed: {ran.stderr}"
        return ran.stdout


@dataclass(frozen=True)
class SystemUnderTest:
    """The parts that faults and invariants access."""

    deployment: Deployment
    pods: Pods
    source: Postgres
    node: Node | None
    """None on a given cluster."""
    sink_is_double: bool

    def kubectl(self, *arguments: str, namespace: str = NAMESPACE, stdin: str | None = None) -> str:
        """Output of kubectl. Raises OSError on failure or timeout: faults hit what it needs as well."""
        command = ["kubectl", "--namespace", namespace, "--request-timeout=20s", *arguments]
        try:
            ran = subprocess.run(
                command,
                env=self.deployment.environment,
                input=stdin,
                capture_output=True,
                text=True,
                check=False,
                timeout=30,
            )
        except subprocess.TimeoutExpired as error:
            raise OSError(f"`{' '.join(command)}` took more than 30 s") from error
        if ran.returncode:
            raise OSError(f"`{' '.join(command)}` failed: {ran.stderr.strip()}")
        return ran.stdout

    def patch(self, what: str, content: dict[str, Any]) -> None:
        """Merge a patch into an object."""
        self.kubectl("patch", what, "--type=merge", f"--patch={json.dumps(content)}")


def volume_folder(deployment: Deployment, name: str) -> Path:
    """The folder of a PersistentVolume on its node."""
    return Path(deployment.kubectl("get", "persistentvolume", name, "--output=jsonpath={.spec.local.path}"))
