"""How each component of the cluster is configured and called."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.cluster import network
from tests.cluster.certificates import Authority
from tests.cluster.images import PAUSE_IMAGE
from tests.cluster.network import Cable
from tests.cluster.storage import can_overlay

NODE = "e2e-node"
CNI_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"), Path("/usr/libexec/cni"))
API_PORT = 6443
_AGGREGATOR = "system:auth-proxy"
"""As whom the API server speaks to servers that answer for a part of the API, as metrics-server."""
_ROOT = Path(__file__).resolve().parents[2]
_USERS = {
    # The name of a kubeconfig and certificate: the user, and the group that gives it its rights.
    "admin": ("admin", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
    "kubelet": (f"system:node:{NODE}", "system:nodes"),
    "proxy": ("system:kube-proxy", ""),
}


class Configuration:
    """The configuration of a cluster in a folder, written when this is made; and the commands that read it."""

    def __init__(self, folder: Path, cable: Cable, cgroup: str, programs: dict[str, str]) -> None:
        self.server = f"https://{cable.node_address}:{API_PORT}"
        self.authority = Authority(folder / "certificates")
        self._folder = folder
        self._cable = cable
        self._programs = programs
        for path in ("kubeconfigs", "cni", "tmp", "pod-logs"):
            (folder / path).mkdir()
        self._write_certificates()
        self._write("kubelet.json", _kubelet(folder, cgroup, self.authority))
        self._write("proxy.json", _proxy(self._kubeconfig("proxy")))
        self._write("cni/pods.conflist", _pod_network(folder))
        # Pods that ask for the node's own DNS get none: there is none to be reached.
        (folder / "resolv.conf").touch()
        (folder / "containerd.toml").write_text(_containerd(folder))

    def commands(self) -> Iterator[tuple[str, list[str]]]:
        """The name and the command line of each component, in the order in which they need each other."""
        folder = self._folder
        yield "etcd", self._command("etcd", data_dir=folder / "etcd", unsafe_no_fsync=True, log_level="warn")
        yield "containerd", self._command("containerd", config=folder / "containerd.toml")
        yield "apiserver", self._api_server()
        yield "controller-manager", self._controller_manager()
        yield (
            "scheduler",
            self._command("kube-scheduler", kubeconfig=self._kubeconfig("scheduler"), leader_elect=False),
        )
        yield (
            "kubelet",
            self._command(
                "kubelet",
                config=folder / "kubelet.json",
                kubeconfig=self._kubeconfig("kubelet"),
                hostname_override=NODE,
                node_ip=self._cable.node_address,
                root_dir=folder / "kubelet",
                cert_dir=folder / "kubelet-certificates",
            ),
        )
        yield "proxy", self._command("kube-proxy", config=folder / "proxy.json", hostname_override=NODE)
        yield (
            "kube-router",
            self._command("kube-router", kubeconfig=self._folder / "kubeconfig", node=NODE, services=network.SERVICES),
        )
        yield "recording", self._recording()

    def _api_server(self) -> list[str]:
        authority = self.authority
        return self._command(
            "kube-apiserver",
            advertise_address=self._cable.node_address,
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
            cert_dir=self._folder / "apiserver",
        )

    def _controller_manager(self) -> list[str]:
        authority = self.authority
        return self._command(
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

    def _recording(self) -> list[str]:
        trusted = (self.authority.certificate, self.authority.certificate_of("admin"), self.authority.key_of("admin"))
        arguments = map(str, (self.server, *trusted, connections_file(self._folder)))
        # Components are started in the cluster's folder.
        return ["env", f"PYTHONPATH={_ROOT}", sys.executable, "-m", "tests.cluster.recording", *arguments]

    def _command(self, program: str, **flags: object) -> list[str]:
        values = {name: str(value).lower() if isinstance(value, bool) else value for name, value in flags.items()}
        return [self._programs[program], *(f"--{name.replace('_', '-')}={value}" for name, value in values.items())]

    def _write_certificates(self) -> None:
        names = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost")
        hosts = (*names, "127.0.0.1", network.API_SERVICE, self._cable.node_address)
        self.authority.issue("apiserver", "kube-apiserver", hosts=hosts)
        self.authority.issue("service-accounts", "service-accounts")
        # As K3s has it: signed by the authority that every pod is given, for the node's name and addresses.
        self.authority.issue("kubelet-serving", NODE, hosts=(NODE, "localhost", "127.0.0.1", self._cable.node_address))
        for name, (user, group) in _USERS.items():
            self.authority.issue(name, user, group)
            self.authority.write_kubeconfig(name, self.server, self._kubeconfig(name))
        self.authority.write_kubeconfig("admin", self.server, self._folder / "kubeconfig")
        self.authority.issue("aggregator", _AGGREGATOR)

    def _kubeconfig(self, name: str) -> Path:
        return self._folder / "kubeconfigs" / name

    def _write(self, file: str, content: dict[str, Any]) -> None:
        (self._folder / file).write_text(json.dumps(content, indent=1))


def containerd_socket(folder: Path) -> Path:
    """Where containerd listens: in the folder, so that it can be reached from outside of the namespaces."""
    return folder / "containerd.sock"


def connections_file(folder: Path) -> Path:
    """Where `recording` notes who talked to whom."""
    return folder / "logs" / "connections.jsonl"


def _kubelet(folder: Path, cgroup: str, authority: Authority) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": f"unix://{containerd_socket(folder)}",
        "clusterDNS": [network.DNS],
        "clusterDomain": "cluster.local",
        "resolvConf": str(folder / "resolv.conf"),
        "podLogsDir": str(folder / "pod-logs"),
        "volumePluginDir": str(folder / "volume-plugins"),
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(authority.certificate)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(authority.certificate_of("kubelet-serving")),
        "tlsPrivateKeyFile": str(authority.key_of("kubelet-serving")),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroup}",
        "enforceNodeAllocatable": [],
        "failCgroupV1": False,
        "failSwapOn": False,
        # Settings of the kernel belong to the whole machine: `node` shows the kubelet what it wants to see.
        "protectKernelDefaults": True,
        # Lowering it takes a capability that root may lack in a container or a small virtual machine.
        "oomScoreAdj": 0,
        # A test's disk is somebody else's disk: how full that is must not evict pods.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {},
    }


def _proxy(kubeconfig: Path) -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "mode": "iptables",
        "clusterCIDR": network.PODS,
        "oomScoreAdj": 0,
        # These limits belong to the whole machine.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }


def _pod_network(folder: Path) -> dict[str, Any]:
    """A cable of its own for each pod. Between ports of one bridge, services would take a module of the kernel."""
    addresses = {
        "type": "host-local",
        "ranges": [[{"subnet": network.PODS_OF_NODE}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": str(folder / "addresses"),
    }
    return {
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {"type": "ptp", "ipMasq": True, "ipam": addresses},
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def _containerd(folder: Path) -> str:
    plugins = json.dumps([str(path) for path in CNI_FOLDERS])
    return f"""
version = 3
root = "{folder}/containerd"
state = "/run/containerd"
imports = []
disabled_plugins = [
  "io.containerd.image-verifier.v1.bindir",
  "io.containerd.internal.v1.opt",
  "io.containerd.nri.v1.nri",
  "io.containerd.snapshotter.v1.blockfile",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.erofs",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.tracing.processor.v1.otlp",
]

[grpc]
address = "{containerd_socket(folder)}"

[plugins."io.containerd.cri.v1.images"]
snapshotter = "{"overlayfs" if can_overlay(folder) else "native"}"

[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{PAUSE_IMAGE}"

[plugins."io.containerd.cri.v1.runtime"]
# Profiles would be loaded into the machine's kernel, and stay there.
disable_apparmor = true
# Lowering it takes a capability that root may lack in a container or a small virtual machine.
restrict_oom_score_adj = true

[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = {plugins}
conf_dir = "{folder}/cni"
"""
