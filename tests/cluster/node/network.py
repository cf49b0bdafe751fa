"""The cluster's network: a cable by which the machine outside reaches the first node, and one to each further node.

Only the machine itself can use the first: the cluster has no route to anywhere else. Pods of different nodes reach each
other by static routes, as with the backend host-gw of flannel.
"""

import ipaddress
import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.errors import ClusterError

PODS = "10.42.0.0/16"
SERVICES = "10.43.0.0/16"
API_SERVICE = "10.43.0.1"
DNS = "10.43.0.10"
_CABLES = ipaddress.IPv4Network("10.99.0.0/24")
_BETWEEN_NODES = ipaddress.IPv4Network("10.98.0.0/24")
"""Of use in the cluster's namespaces only."""


@dataclass(frozen=True)
class Cable:
    """Its end outside, its end inside, and the name of the interface outside."""

    interface: str
    host_address: str
    node_address: str

    @classmethod
    def read(cls, folder: Path) -> "Cable":
        """The cable of the cluster in a folder, as `write` left it."""
        return cls(**json.loads(cls._file(folder).read_text()))

    def write(self, folder: Path) -> None:
        """Leave it for those outside to find."""
        self._file(folder).write_text(json.dumps(self.__dict__))

    @staticmethod
    def _file(folder: Path) -> Path:
        return folder / "network.json"


def pods_of(node: int) -> str:
    """The addresses of the pods of a node, which are counted from 0."""
    return str(list(ipaddress.IPv4Network(PODS).subnets(new_prefix=24))[node])


def connect(outside: int, owner: str) -> Cable:
    """Set up the present network namespace and connect it with the one of the file descriptor `outside`.

    The interface outside says, as its alias, who the owner is.
    """
    cable = _plug_in(outside)
    _ip("address", "add", f"{cable.node_address}/30", "dev", "outside")
    _ip("link", "set", "outside", "up")
    _ip("address", "add", f"{cable.host_address}/30", "dev", cable.interface, outside=outside)
    _ip("link", "set", cable.interface, "up", "alias", owner, outside=outside)
    # kube-proxy rewrites the address of a service only after a route for it was found.
    _ip("route", "add", SERVICES, "dev", "outside")
    _forward()
    return cable


def join(first: int, node: int) -> str:
    """Set up the present network namespace as a further node's, and connect it with the first's (a file descriptor).

    Returns the node's address.
    """
    far, near = map(str, list(_BETWEEN_NODES.subnets(new_prefix=30))[node].hosts())
    interface = f"node-{node}"
    _ip("link", "add", "outside", "type", "veth", "peer", "name", interface, "netns", _path(first), lent=first)
    _ip("address", "add", f"{near}/30", "dev", "outside")
    _ip("link", "set", "outside", "up")
    _ip("address", "add", f"{far}/30", "dev", interface, outside=first)
    _ip("link", "set", interface, "up", outside=first)
    _ip("route", "add", pods_of(node), "via", near, outside=first)
    _ip("route", "add", "default", "via", far)
    _forward()
    return near


def unplug(node: int) -> None:
    """Cut off the node of this namespace: packets to it are lost, as on a power failure."""
    _ip("link", "set", "outside", "down", outside=node)


def remove(owner: str) -> None:
    """Remove an owner's cable from outside.

    The kernel does so too, but only when the last connection that processes left open when they were killed is gone.
    """
    for interface, other in owners().items():
        if other == owner:
            subprocess.run(["ip", "link", "delete", interface], capture_output=True, check=False)


def owners() -> dict[str, str]:
    """The owner of each interface of this machine that has one."""
    return {link["ifname"]: link["ifalias"] for link in json.loads(_ip("-json", "link")) if "ifalias" in link}


def _forward() -> None:
    """Let pods reach other nodes' pods by their own addresses, and everything else by the node's."""
    _ip("link", "set", "lo", "up")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    _run("iptables", "--table", "nat", "--append", "POSTROUTING", "--out-interface", "outside", "!", "--destination",
         PODS, "--jump", "MASQUERADE")  # fmt: skip


def _plug_in(outside: int) -> Cable:
    """Create the veth pair; the first free name decides the addresses too."""
    taken = _taken(outside)
    said = ""
    for number, network in enumerate(_CABLES.subnets(new_prefix=30)):
        if any(network.overlaps(other) for other in taken):
            continue
        host_address, node_address = map(str, network.hosts())
        cable = Cable(f"orders-e2e{number}", host_address, node_address)
        command = ["ip", "link", "add", "outside", "type", "veth", "peer", "name", cable.interface]
        added = subprocess.run(
            [*command, "netns", _path(outside)], pass_fds=[outside], capture_output=True, text=True, check=False
        )
        if added.returncode == 0:
            return cable
        said = added.stderr.strip()
        if "exists" not in said:
            break
    reason = f"ip says: {said}" if said else "this machine uses all of that network"
    raise ClusterError(f"No part of {_CABLES} is free to reach the cluster by: {reason}.")


def _taken(outside: int) -> list[ipaddress.IPv4Network]:
    """Networks that the machine outside routes to, or has addresses in."""
    routes = json.loads(_ip("-json", "-4", "route", "show", "table", "all", outside=outside))
    destinations = (route["dst"] for route in routes if route["dst"] not in ("default", "0.0.0.0/0"))
    return [ipaddress.IPv4Network(destination, strict=False) for destination in destinations]


def _ip(*arguments: str, outside: int | None = None, lent: int | None = None) -> str:
    """Call `ip` here or in the namespace `outside`; `lent` is one that its arguments name."""
    elsewhere = [] if outside is None else ["nsenter", f"--net={_path(outside)}"]
    return _run(*elsewhere, "ip", *arguments, lent=[one for one in (outside, lent) if one is not None])


def _run(*command: str, lent: Sequence[int] = ()) -> str:
    ran = subprocess.run(command, pass_fds=lent, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise ClusterError(f"The cluster's network could not be set up: `{' '.join(command)}`: {ran.stderr}")
    return ran.stdout


def _path(namespace: int) -> str:
    return f"/proc/self/fd/{namespace}"
