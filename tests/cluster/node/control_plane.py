"""How the control plane, which runs on the first node, is configured and called."""

from collections.abc import Iterator
from pathlib import Path

from tests.cluster.certificates import Authority
from tests.cluster.node import network

API_PORT = 6443
_AUDIT_POLICY = Path(__file__).resolve().parents[3] / "ops" / "k3s" / "audit-policy.yaml"
_AGGREGATOR = "system:auth-proxy"
"""The API server's user towards aggregated API servers such as metrics-server."""
_USERS = {
    # The name of a kubeconfig and certificate: the user, and the group that gives it its rights.
    "admin": ("admin", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
    "proxy": ("system:kube-proxy", ""),
}


class ControlPlane:
    """The control plane of a cluster in a folder: its certificates, and the commands of its components."""

    def __init__(self, folder: Path, address: str, programs: dict[str, str]) -> None:
        self.server = server_url(address)
        self.authority = Authority(folder / "certificates")
        self._folder = folder
        self._address = address
        self._programs = programs
        for path in ("kubeconfigs", "tmp"):
            (folder / path).mkdir()
        self._write_certificates()

    def commands(self) -> Iterator[tuple[str, list[str]]]:
        """The name and the command line of each component, in the order in which they need each other."""
        etcd = {"data_dir": self._folder / "etcd", "unsafe_no_fsync": True, "log_level": "warn"}
        yield "etcd", command(self._programs, "etcd", **etcd)
        yield "apiserver", self._api_server()
        yield "controller-manager", self._controller_manager()
        scheduler = {"kubeconfig": self._kubeconfig("scheduler"), "leader_elect": False}
        yield "scheduler", command(self._programs, "kube-scheduler", **scheduler)

    def _api_server(self) -> list[str]:
        authority = self.authority
        return command(
            self._programs,
            "kube-apiserver",
            advertise_address=self._address,
            secure_port=API_PORT,
            etcd_servers="http://127.0.0.1:2379",
            client_ca_file=authority.certificate,
            tls_cert_file=authority.certificate_of("apiserver"),
            tls_private_key_file=authority.key_of("apiserver"),
            kubelet_client_certificate=authority.certificate_of("admin"),
            kubelet_client_key=authority.key_of("admin"),
            # The node's name resolves nowhere.
            kubelet_preferred_address_types="InternalIP",
            service_account_issuer="https://kubernetes.default.svc.cluster.local",
            service_account_key_file=authority.certificate_of("service-accounts"),
            service_account_signing_key_file=authority.key_of("service-accounts"),
            service_cluster_ip_range=network.SERVICES,
            authorization_mode="Node,RBAC",
            enable_admission_plugins="NodeRestriction",
            requestheader_client_ca_file=authority.certificate,
            requestheader_allowed_names=_AGGREGATOR,
            requestheader_extra_headers_prefix="X-Remote-Extra-",
            requestheader_group_headers="X-Remote-Group",
            requestheader_username_headers="X-Remote-User",
            proxy_client_cert_file=authority.certificate_of("aggregator"),
            proxy_client_key_file=authority.key_of("aggregator"),
            allow_privileged=True,
            # As install-k3s.sh has it.
            audit_policy_file=_AUDIT_POLICY,
            audit_log_path=self._folder / "audit.log",
            audit_log_maxsize=100,
            audit_log_maxbackup=2,
            cert_dir=self._folder / "apiserver",
        )

    def _controller_manager(self) -> list[str]:
        authority = self.authority
        return command(
            self._programs,
            "kube-controller-manager",
            kubeconfig=self._kubeconfig("controller-manager"),
            service_account_private_key_file=authority.key_of("service-accounts"),
            root_ca_file=authority.certificate,
            cluster_signing_cert_file=authority.certificate,
            cluster_signing_key_file=authority.key,
            cluster_cidr=network.PODS,
            use_service_account_credentials=True,
            leader_elect=False,
        )

    def _write_certificates(self) -> None:
        names = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost")
        hosts = (*names, "127.0.0.1", network.API_SERVICE, self._address)
        self.authority.issue("apiserver", "kube-apiserver", hosts=hosts)
        self.authority.issue("service-accounts", "service-accounts")
        self.authority.issue("aggregator", _AGGREGATOR)
        for name, (user, group) in _USERS.items():
            self.authority.issue(name, user, group)
            self.authority.write_kubeconfig(name, self.server, self._kubeconfig(name))
        self.authority.write_kubeconfig("admin", self.server, self._folder / "kubeconfig")

    def _kubeconfig(self, name: str) -> Path:
        return self._folder / "kubeconfigs" / name


def server_url(address: str) -> str:
    """URL of the API server on the node with an address."""
    return f"https://{address}:{API_PORT}"


def command(programs: dict[str, str], program: str, **flags: object) -> list[str]:
    """The command line of a program, with its flags in Python's spelling."""
    values = {name: str(value).lower() if isinstance(value, bool) else value for name, value in flags.items()}
    return [programs[program], *(f"--{name.replace('_', '-')}={value}" for name, value in values.items())]
