"""The final report: workloads, the URLs of Airflow and Grafana, and commands that show their passwords."""

from ops.cluster.airflow_api import ADMIN_KEY, ADMIN_USER
from ops.cluster.console import Console, table
from ops.cluster.ingresses import entry_points, url_of
from ops.cluster.kubectl import Kubectl, Object
from ops.cluster.secret_keys import namespace_of
from ops.deploy.manifests.identity import settings_of
from ops.deploy.manifests.rendering import Rendering


def show_workloads(console: Console, kubectl: Kubectl) -> None:
    """Print a table of the workloads, with ready pods and images."""
    workloads = kubectl.everywhere("deployments,statefulsets,daemonsets")
    rows = [
        (
            item["kind"].lower(),
            item["metadata"]["name"],
            _ready(item),
            ", ".join(container["image"] for container in item["spec"]["template"]["spec"]["containers"]),
        )
        for item in workloads
    ]
    console.show()
    console.show(table([("KIND", "NAME", "READY", "IMAGE"), *rows]))


def show_access(
    console: Console, kubectl: Kubectl, rendering: Rendering, address: str, name: str | None = None
) -> None:
    """Print URLs (by `name` if given) and users; passwords are not shown."""
    issuer = settings_of(rendering).get("OIDC_ISSUER")
    show = '{{index .data "' + ADMIN_KEY + '" | base64decode}}{{"\\n"}}'
    for ingress in rendering.of_kind("Ingress"):
        part = ingress["metadata"]["name"]
        if entry_points(ingress) == ["web"]:
            continue  # it redirects to the other one
        secret = f"{part}-admin"
        command = f"{' '.join(kubectl.command)} --namespace {namespace_of(secret)} get secret {secret}"
        title = f"{part.capitalize()}:".ljust(10)
        who = f"sign in at {issuer}" if issuer else f"user {ADMIN_USER}"
        console.show(f"\n{title} {url_of(ingress, name or address)}   ({who}; the node is {address})")
        if issuer:
            continue
        console.show(f"Password:  {command} --output=go-template='{show}'")


def _ready(item: Object) -> str:
    status = item.get("status", {})
    if item["kind"] == "DaemonSet":
        return f"{status.get('numberReady', 0)}/{status.get('desiredNumberScheduled', 0)}"
    return f"{status.get('readyReplicas', 0)}/{item['spec'].get('replicas', 1)}"
