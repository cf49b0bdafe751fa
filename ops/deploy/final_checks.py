"""Checks at the end of a deployment: network policies and login pages, whose failures would go unnoticed."""

import time
from collections.abc import Sequence

from ops.cluster import policy_probe
from ops.cluster.certificates import public_certificate
from ops.cluster.console import Console, DeployError
from ops.cluster.kubectl import Kubectl
from ops.cluster.names import MODEL, UI_SECRET
from ops.cluster.nodes import Node
from ops.cluster.objects import images_of
from ops.cluster.pages import PageProblem, login_pages, missing_class, page_problems
from ops.cluster.policy_probe import probe_policies
from ops.deploy.manifests.rendering import Rendering

TIMEOUT_SECONDS = 60.0
"""How long the pages may take to open: Traefik may be restarting."""
_POLL_SECONDS = 2.0


def run_final_checks(console: Console, kubectl: Kubectl, rendering: Rendering, node: Node, ui_name: str) -> None:
    """Run the checks and print the results. Problems do not fail the deployment: the pipelines run."""
    _try_policies(console, kubectl, rendering)
    ingresses = rendering.of_kind("Ingress")
    shown = login_pages(ingresses)
    if lacking := missing_class(kubectl.items("ingressclasses"), ingresses):
        console.warn(f"{lacking.what} {lacking.do}")
    elif shown:
        _try_pages(console, kubectl, node.address, list(dict.fromkeys([ui_name or node.name, node.address])), shown)


def _try_policies(console: Console, kubectl: Kubectl, rendering: Rendering) -> None:
    images = [
        image
        for item in rendering.of_kind("Deployment")
        if item["metadata"]["name"] == MODEL
        for image in images_of(item["spec"]["template"]["spec"])
    ]
    if not images:
        return
    try:
        tried = probe_policies(kubectl, images[0])
    except DeployError as error:
        console.warn(f"Whether network policies are enforced could not be tested: {error}")
        return
    well = [one.node for one in tried if one.is_enforced]
    if well:
        console.say(f"Network policies are enforced on {', '.join(well)}: a pod reached the DNS and nothing else.")
    for one in tried:
        if one.opened:
            console.warn(f"{one.what} {policy_probe.DO}")
        elif one.reason:
            console.warn(f"Whether network policies are enforced could not be tested: {one.reason}")


def _try_pages(console: Console, kubectl: Kubectl, address: str, names: Sequence[str], shown: list[str]) -> None:
    certificate = public_certificate(kubectl, UI_SECRET)
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while (found := list(page_problems(address, names, certificate, shown))) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    if not found:
        console.say(f"The login pages open by HTTPS, with the certificate of {UI_SECRET}: {', '.join(names)}.")
    for one in found:
        console.warn(_sentence(one))


def _sentence(found: PageProblem) -> str:
    return f"{found.url} does not open as it should. {found.what} {found.do}"
