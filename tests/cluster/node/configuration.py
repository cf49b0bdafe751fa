"""How the components that every node has are configured and called."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.building.images import PAUSE_IMAGE
from tests.cluster.building.storage import can_overlay
from tests.cluster.certificates import Authority
from tests.cluster.node import network
from tests.cluster.node.control_plane import command, server_url

NODE = "e2e-node"
CNI_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"), Path("/usr/libexec/cni"))
_ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Place:
    """A node's place in the cluster of a folder; the first has the number 0, and its folder is the cluster's."""

    cluster: Path
    number: int = 0

    @property
    def name(self) -> str:
        """The name of the node."""
        return f"{NODE}-{self.number + 1}" if self.number else NODE

    @property
    def folder(self) -> Path:
        """The node's folder."""
        return self.cluster / self.name if self.number else self.cluster

    @property
    def logs(self) -> Path:
        """The folder of its components' logs."""
        return self.cluster / "logs" / self.name if self.number else self.cluster / "logs"

    @property
    def containerd_socket(self) -> Path:
        """Containerd's socket: in the folder, so that it can be reached from outside the namespaces."""
        return self.folder / "containerd.sock"

    @property
    def connections(self) -> Path:
        """The log of connections that `traffic.recorder` writes."""
        return self.logs / "connections.jsonl"


class Configuration:
    """The configuration of a node's components, written when this is made; and the commands that read it."""

    def __init__(self, place: Place, server: str, address: str, cgroup: str, programs: dict[str, str]) -> None:
        self.server = server_url(server)
        self.authority = Authority(place.cluster / "certificates")
        self._place = place
        self._folder = place.folder
        self._address = address
        self._programs = programs
        for path in ("cni", "pod-logs"):
            (self._folder / path).mkdir()
        self._write("kubelet.json", _kubelet(place, cgroup, self.authority))
        self._write("proxy.json", _proxy(place.cluster / "kubeconfigs" / "proxy"))
        self._write("cni/pods.conflist", _pod_network(place))
        # Pods with dnsPolicy Default get no DNS: none is reachable.
        (self._folder / "resolv.conf").touch()
        (self._folder / "containerd.toml").write_text(_containerd(place))
        self.authority.issue(place.name, f"system:node:{place.name}", "system:nodes")
        # As K3s has it: signed by the authority that every pod is given, for the node's name and addresses.
        hosts = (place.name, "localhost", "127.0.0.1", address)
        self.authority.issue(f"{place.name}-serving", place.name, hosts=hosts)
        self.authority.write_kubeconfig(place.name, self.server, self._folder / "kubelet.conf")

    def commands(self) -> Iterator[tuple[str, list[str]]]:
        """The name and the command line of each component, in the order in which they need each other."""
        folder = self._folder
        yield "containerd", command(self._programs, "containerd", config=folder / "containerd.toml")
        yield (
            "kubelet",
            command(
                self._programs,
                "kubelet",
                config=folder / "kubelet.json",
                kubeconfig=folder / "kubelet.conf",
                hostname_override=self._place.name,
                node_ip=self._address,
                root_dir=folder / "kubelet",
                cert_dir=folder / "kubelet-certificates",
            ),
        )
        proxy = {"config": folder / "proxy.json", "hostname_override": self._place.name}
        yield "proxy", command(self._programs, "kube-proxy", **proxy)
        kubeconfig = self._place.cluster / "kubeconfig"
        router = {"kubeconfig": kubeconfig, "node": self._place.name, "services": network.SERVICES}
        yield "kube-router", command(self._programs, "kube-router", **router)
        yield "recording", self._recording()

    def _recording(self) -> list[str]:
        trusted = (self.authority.certificate, self.authority.certificate_of("admin"), self.authority.key_of("admin"))
        arguments = map(str, (self.server, *trusted, self._place.connections))
        # Components are started in the cluster's folder.
        return ["env", f"PYTHONPATH={_ROOT}", sys.executable, "-m", "tests.cluster.traffic.recorder", *arguments]

    def _write(self, file: str, content: dict[str, Any]) -> None:
        (self._folder / file).write_text(json.dumps(content, indent=1))


def _kubelet(place: Place, cgroup: str, authority: Authority) -> dict[str, Any]:
    folder = place.folder
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": f"unix://{place.containerd_socket}",
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
        "tlsCertFile": str(authority.certificate_of(f"{place.name}-serving")),
        "tlsPrivateKeyFile": str(authority.key_of(f"{place.name}-serving")),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroup}",
        "enforceNodeAllocatable": [],
        "failCgroupV1": False,
        "failSwapOn": False,
        # Kernel settings are of the whole machine: `init` mounts the expected values for the kubelet.
        "protectKernelDefaults": True,
        # Lowering it takes a capability that root may lack in a container or a small virtual machine.
        "oomScoreAdj": 0,
        # The disk is shared with other programs: how full it is must not evict pods.
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


def _pod_network(place: Place) -> dict[str, Any]:
    """CNI configuration: a veth pair per pod. On a bridge, Services would need the br_netfilter module."""
    addresses = {
        "type": "host-local",
        "ranges": [[{"subnet": network.pods_of(place.number)}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": str(place.folder / "addresses"),
    }
    return {
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {"type": "ptp", "ipam": addresses},
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def _containerd(place: Place) -> str:
    folder = place.folder
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
address = "{place.containerd_socket}"

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
