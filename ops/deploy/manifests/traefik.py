"""Settings of K3s's Traefik: left out if the cluster has none, or has been configured otherwise."""

import json
import time
from typing import Any

from ops.cluster.console import Console
from ops.cluster.kubectl import SYSTEM, Kubectl, Object
from ops.cluster.names import PART_OF
from ops.cluster.objects import labels_of
from ops.deploy.manifests.rendering import Rendering

LOCAL = "externalTrafficPolicy: Local"
POLL_SECONDS = 2.0
TIMEOUT_SECONDS = 120.0
"""How long K3s may take to install its Traefik after its start."""
_STORES = "tlsstores.traefik.io"
_CHARTS, _CHART_CONFIGS = "helmcharts.helm.cattle.io", "helmchartconfigs.helm.cattle.io"
_GROUPS = ("traefik.io", "helm.cattle.io")
_NOT_YET = (
    f"K3s has not installed its Traefik yet, so nobody reaches the UI: `kubectl --namespace {SYSTEM} get pods` shows"
    " why helm-install-traefik waits. Run this again when it has ended."
)


def fit(kubectl: Kubectl, rendering: Rendering) -> list[str]:
    """Remove objects from a rendering that this cluster cannot take; returns warnings."""
    special = [item for item in rendering.objects if _group(item) in _GROUPS]
    if not special:
        return []
    served, warnings = _served(kubectl), []
    for item in special:
        is_unfit, warning = _check(kubectl, item, served)
        if is_unfit:
            rendering.objects.remove(item)
        warnings += [warning] if warning else []
    return warnings


def await_kinds(console: Console, kubectl: Kubectl, rendering: Rendering) -> None:
    """Wait until K3s has installed its Traefik and its kinds."""
    wanted = {item["apiVersion"] for item in rendering.objects if _group(item) == "traefik.io"}
    if not wanted:
        return
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not wanted <= (served := _served(kubectl)) and time.monotonic() < deadline:
        if not _is_packaged(kubectl, served):
            return
        console.say_once("Waiting for K3s to install Traefik …")
        time.sleep(POLL_SECONDS)


def _check(kubectl: Kubectl, item: Object, served: set[str]) -> tuple[bool, str]:
    """Whether an object has to be left out, and a warning."""
    if item["apiVersion"] not in served:
        return True, _NOT_YET if _is_packaged(kubectl, served) else ""
    if item["kind"] == "TLSStore":
        stores = kubectl.items(_STORES, "--all-namespaces")
        others = [_where(one) for one in stores if one["metadata"]["name"] == "default" and _where(one) != _where(item)]
        if others:
            return True, (
                f"The namespace {others[0][0]} has a TLSStore `default` already, and Traefik takes only one: a client"
                " that connects by address, without a name, gets that one's certificate."
            )
    if item["kind"] == "HelmChartConfig":
        if not _is_packaged(kubectl, served):
            return True, ""
        live: Any = kubectl.get(_CHART_CONFIGS, item["metadata"]["name"], "--namespace", SYSTEM)
        if live and PART_OF not in labels_of(live):
            warning = "" if LOCAL in live["spec"].get("valuesContent", "") else (
                f"K3s's Traefik is set up by a HelmChartConfig of yours ({SYSTEM}/traefik), which is left as it is: add"
                f" `service: {{spec: {{{LOCAL}}}}}` to its valuesContent, or all people have one address, and fifty"
                " failed logins of one lock out who has not logged in before."
            )  # fmt: skip
            return True, warning
    return False, ""


def _is_packaged(kubectl: Kubectl, served: set[str]) -> bool:
    """Whether Traefik is the one packaged with K3s."""
    if "helm.cattle.io/v1" not in served:
        return False
    return kubectl.get(_CHARTS, "traefik", "--namespace", SYSTEM) is not None


def _served(kubectl: Kubectl) -> set[str]:
    # `kubectl api-versions` fails while an API does not answer, such as metrics-server's after the start of K3s.
    groups = json.loads(kubectl.run("get", "--raw=/apis"))["groups"]
    return {version["groupVersion"] for group in groups for version in group["versions"]}


def _group(item: Object) -> str:
    return str(item["apiVersion"]).partition("/")[0] if "apiVersion" in item else ""


def _where(item: Object) -> tuple[str, str]:
    return item["metadata"]["namespace"], item["metadata"]["name"]
