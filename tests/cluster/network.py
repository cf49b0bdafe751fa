"""The cluster's network, and the one cable by which the machine outside reaches it.

Only the machine itself can use that cable: the cluster has no route to anywhere else.
"""

import ipaddress
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.errors import ClusterError

PODS = "10.42.0.0/16"
PODS_OF_NODE = "10.42.0.0/24"
SERVICES = "10.43.0.0/16"
API_SERVICE = "10.43.0.1"
DNS = "10.43.0.10"
_CABLES = ipaddress.IPv4Network("10.99.0.0/24")


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


def connect(outside: int, owner: str) -> Cable:
    """Set up the present network namespace and connect it with the one of the file descriptor `outside`.

    The interface outside says, as its alias, who the owner is.
    """
    _ip("link", "set", "lo", "up")
    cable = _plug_in(outside)
    _ip("address", "add", f"{cable.node_address}/30", "dev", "outside")
    _ip("link", "set", "outside", "up")
    _ip("address", "add", f"{cable.host_address}/30", "dev", cable.interface, outside=outside)
    _ip("link", "set", cable.interface, "up", "alias", owner, outside=outside)
    # kube-proxy rewrites the address of a service only after a route for it was found.
    _ip("route", "add", SERVICES, "dev", "outside")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    return cable


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


def _plug_in(outside: int) -> Cable:
    """Make the pair of interfaces; the first name that nobody has taken decides the addresses too."""
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
    """What the machine outside has routes to, or uses itself."""
    routes = json.loads(_ip("-json", "-4", "route", "show", "table", "all", outside=outside))
    destinations = (route["dst"] for route in routes if route["dst"] not in ("default", "0.0.0.0/0"))
    return [ipaddress.IPv4Network(destination, strict=False) for destination in destinations]


def _ip(*arguments: str, outside: int | None = None) -> str:
    elsewhere = [] if outside is None else ["nsenter", f"--net={_path(outside)}"]
    ran = subprocess.run(
        [*elsewhere, "ip", *arguments],
        pass_fds=[] if outside is None else [outside], capture_output=True, text=True, check=False,
    )  # fmt: skip
    if ran.returncode:
        raise ClusterError(f"The cluster's network could not be set up: `ip {' '.join(arguments)}`: {ran.stderr}")
    return ran.stdout


def _path(namespace: int) -> str:
    return f"/proc/self/fd/{namespace}"
