"""The components that K3s adds to Kubernetes: CoreDNS, Traefik, and metrics-server."""

import json
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dev.sandbox.waiting import wait_for
from tests.cluster.building import images
from tests.cluster.node import network

_MANIFESTS = Path(__file__).with_name("manifests")
DEPLOYMENTS = ("coredns", "traefik", "metrics-server")


def create_system(kubectl: Callable[..., str], traefik_kinds: Path, node_address: str) -> None:
    """Create it in a new cluster, whose node has this address."""
    kubectl("create", f"--filename={traefik_kinds}", f"--filename={_MANIFESTS / 'helm-controller.yaml'}")
    wait_for(lambda: _are_established(json.loads(kubectl("get", "customresourcedefinitions", "--output=json"))), 60)
    values = {
        "coredns_image": images.COREDNS_IMAGE,
        "traefik_image": images.TRAEFIK_IMAGE,
        "metrics_image": images.METRICS_IMAGE,
        "dns": network.DNS,
    }
    for part in DEPLOYMENTS:
        manifest = string.Template((_MANIFESTS / f"{part}.yaml").read_text()).substitute(values)
        kubectl("create", "--filename=-", stdin=manifest)
    # As K3s's load balancer: the Service gets the node's address, from which kube-proxy forwards.
    status = {"status": {"loadBalancer": {"ingress": [{"ip": node_address}]}}}
    place = ("service", "traefik", "--namespace=kube-system", "--subresource=status", "--type=merge")
    kubectl("patch", *place, f"--patch={json.dumps(status)}")


def _are_established(kinds: Any) -> bool:
    """`kubectl wait` fails, instead of waiting, for a kind that has no condition yet."""
    conditions = [kind.get("status", {}).get("conditions") or [] for kind in kinds["items"]]
    return all(any((one["type"], one["status"]) == ("Established", "True") for one in of) for of in conditions)
