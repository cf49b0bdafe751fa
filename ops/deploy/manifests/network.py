"""The networks of pods and Services, and the addresses of the Kubernetes API, in network policies."""

import ipaddress
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ops.cluster.console import DeployError
from ops.cluster.kubectl import Kubectl
from ops.cluster.nodes import Node
from ops.cluster.objects import endpoint_addresses

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
PODS_NETWORK = "10.42.0.0/16"
"""K3s's default, which the manifests name; `apply-all.sh` replaces it by the cluster's."""
SERVICES_NETWORK = "10.43.0.0/16"
API_PORT = 6443
"""K3s's default, which the manifests name likewise."""
_EVERYWHERE = "0.0.0.0/0"
_WHOLE = {4: 16, 6: 56}
"""The prefix length assumed for the network of all pods if only the nodes' subnets are known."""


@dataclass(frozen=True)
class Networks:
    """The networks of pods and Services; empty if unknown."""

    pods: tuple[Network, ...] = ()
    services: tuple[Network, ...] = ()


@dataclass(frozen=True)
class ApiServers:
    """Addresses and ports of the API servers; empty if unknown."""

    addresses: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()


def read_networks(kubectl: Kubectl, nodes: Sequence[Node]) -> Networks:
    """The networks by the arguments of K3s, else by nodes and API."""
    shares = [ipaddress.ip_network(share) for node in nodes for share in node.pod_networks]
    pods = _argument(nodes, "--cluster-cidr") or tuple(dict.fromkeys(map(_whole, shares)))
    services = _argument(nodes, "--service-cidr") or _service_networks(kubectl)
    if not services and ipaddress.ip_network(PODS_NETWORK) in pods:
        services = (ipaddress.ip_network(SERVICES_NETWORK),)
    return Networks(pods, services)


def source_problems(address: str, networks: Networks) -> Iterator[str]:
    """Why pods cannot reach a source at this address."""
    source = ipaddress.ip_address(address)
    if networks.pods and source.version not in {network.version for network in networks.pods}:
        yield (
            f"The source's address {address} is of IPv{source.version}, and the cluster's pods have none of that kind:"
            f" give --source-address its IPv{10 - source.version} address, or install K3s with both"
            " (cluster-cidr and service-cidr)."
        )
    for whose, found in (("pods", networks.pods), ("Services", networks.services)):
        for network in found:
            if source in network:
                yield (
                    f"The source's address {address} lies in {network}, the network of the cluster's {whose}: give"
                    " --source-address the one at which it is reached from other machines."
                )


def set_pods_network(objects: list[dict[str, Any]], pods: Sequence[Network]) -> None:
    """Replace K3s's default network of pods by the cluster's."""
    if pods and [str(network) for network in pods] != [PODS_NETWORK]:
        for item in objects:
            _replace(item, pods)


def read_api_servers(kubectl: Kubectl) -> ApiServers:
    """The endpoints of the Service `kubernetes`, by which pods reach the API."""
    selector = "--selector=kubernetes.io/service-name in (kubernetes)"
    slices = kubectl.items("endpointslices", "--namespace", "default", selector)
    addresses = [one for item in slices for one in endpoint_addresses(item)]
    ports = [port["port"] for item in slices for port in item.get("ports") or []]
    return ApiServers(tuple(sorted(set(addresses))), tuple(sorted(set(ports))))


def set_api_servers(objects: list[dict[str, Any]], servers: ApiServers) -> None:
    """Restrict policies that allow port 6443 everywhere to the API servers."""
    if not servers.addresses:
        return
    for item in objects:
        if item["kind"] != "NetworkPolicy":
            continue
        for rule in item.get("spec", {}).get("egress") or []:
            blocks = [peer.get("ipBlock", {}).get("cidr") for peer in rule.get("to") or []]
            if blocks == [_EVERYWHERE] and rule.get("ports") == [{"port": API_PORT}]:
                rule["to"] = [{"ipBlock": {"cidr": str(ipaddress.ip_network(one))}} for one in servers.addresses]
                rule["ports"] = [{"port": port} for port in servers.ports]


def _replace(found: Any, pods: Sequence[Network]) -> None:
    entries = found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list) else ()
    for key, value in list(entries):
        if value == [PODS_NETWORK]:  # an exception in a block of IPv4 addresses
            found[key] = [str(network) for network in pods if network.version == 4]
        elif value == PODS_NETWORK:
            found[key] = ",".join(map(str, pods))
        else:
            _replace(value, pods)


def _argument(nodes: Sequence[Node], option: str) -> tuple[Network, ...]:
    """An argument of K3s, which it records on its server nodes."""
    for node in nodes:
        words = [part for word in node.arguments for part in word.split("=", 1)]
        for name, value in pairwise(words):
            if name == option:
                return tuple(ipaddress.ip_network(one.strip()) for one in value.split(","))
    return ()


def _whole(share: Network) -> Network:
    usual = ipaddress.ip_network(PODS_NETWORK)
    if isinstance(share, ipaddress.IPv4Network) and isinstance(usual, ipaddress.IPv4Network) and share.subnet_of(usual):
        return usual
    return share.supernet(new_prefix=min(share.prefixlen, _WHOLE[share.version]))


def _service_networks(kubectl: Kubectl) -> tuple[Network, ...]:
    try:
        found = json.loads(kubectl.run("get", "servicecidrs", "--output=json"))["items"]
    except DeployError:  # none before Kubernetes 1.33
        return ()
    return tuple(ipaddress.ip_network(one) for item in found for one in item["spec"]["cidrs"])
