"""The targets of faults: the deployment with its pods, the node below it, and the databases on both sides."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dev.sandbox.postgres import Postgres
from dev.sandbox.site import Site, existing_site
from ops.cluster.kubectl import NAMESPACE
from tests.cluster import Cluster
from tests.e2e.dags.chaos_etl import SEPARATE
from tests.harness.e2e.deployment import Deployment, through_loopback
from tests.harness.e2e.live_pods import Pods

CHAIN = "CHAOS"
"""Of the node's firewall; holds nothing but what a fault has put there."""
_STAGING_MEGABYTES = 48


@dataclass(frozen=True)
class Node:
    """The node of a cluster of our own, from inside. What is done here is seen nowhere else on the machine."""

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
        """With a place for rules, and a staging volume that can be filled, until the block ends."""
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
    def staging_seen_from_here(self) -> Path:
        """The folder in the node's mount namespace."""
        return Path(f"/proc/{self.cluster.namespaces}/root", self.staging.relative_to("/"))

    def _call(self, namespace: str, *command: str, check: bool = True) -> str:
        entered = {"--net": "net", "--mount": "mnt"}[namespace]
        into = f"{namespace}=/proc/{self.cluster.namespaces}/ns/{entered}"
        ran = subprocess.run(["nsenter", into, *command], capture_output=True, text=True, check=False)
        assert ran.returncode == 0 or not check, f"`{' '.join(command)}` on the node failed: {ran.stderr}"
        return ran.stdout


@dataclass(frozen=True)
class Scene:
    """Everything that faults and invariants look at."""

    deployment: Deployment
    pods: Pods
    source: Postgres
    node: Node | None
    """None where the cluster is somebody else's."""
    sink_is_stand_in: bool

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
        """Merge something into an object."""
        self.kubectl("patch", what, "--type=merge", f"--patch={json.dumps(content)}")

    @contextmanager
    def sink_as_administrator(self) -> Iterator[Site]:
        """The sink, to have faults happen in the stand-in."""
        password = self.deployment.secret("mssql", "MSSQL_SA_PASSWORD")
        with self.deployment.forwarded("mssql-svc", 1433) as port:
            url = through_loopback("sa", password, port)
            yield existing_site(SEPARATE, self.deployment.source_url, url)


def volume_folder(deployment: Deployment, name: str) -> Path:
    """The folder of a PersistentVolume on its node."""
    return Path(deployment.kubectl("get", "persistentvolume", name, "--output=jsonpath={.spec.local.path}"))
