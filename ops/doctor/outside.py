"""Checks that need more than the cluster's objects: network policies, login pages, certificates, identity provider."""

import base64
import contextlib
import json

from ops.cluster.certificates import public_certificate, valid_until
from ops.cluster.console import DeployError
from ops.cluster.kubectl import NAMESPACE, Kubectl
from ops.cluster.log_lines import reason
from ops.cluster.names import API_SERVER, MODEL, SQL_SERVER_SECRET, TRUST, UI_NAME, UI_SECRET
from ops.cluster.nodes import DATA_LABEL
from ops.cluster.objects import labels_of, node_address
from ops.cluster.oidc import discovery_url, mismatches
from ops.cluster.pages import login_pages, missing_class, page_problems
from ops.cluster.policy_probe import probe_policies
from ops.cluster.secret_keys import OIDC_KEYS
from ops.doctor.snapshot import USER, Snapshot

_USER_CERTIFICATE = '--output=go-template={{index (index .users 0).user "client-certificate-data"}}'


def look_at_policies(kubectl: Kubectl, seen: Snapshot) -> None:
    """Whether network policies are enforced, on every node."""
    model = seen.find("Deployment", MODEL)
    try:
        if model is None:
            raise DeployError(f"there is no Deployment {MODEL}, whose image the pod would have.")
        tried = probe_policies(kubectl, model["spec"]["template"]["spec"]["containers"][0]["image"])
    except DeployError as error:
        seen.unseen["policies"] = f"whether network policies are enforced could not be tested: {reason(error)}"
        return
    seen.policies = tried
    for one in tried:
        if one.reason:
            seen.unseen["policies"] = f"whether network policies are enforced could not be tested: {one.reason}"


def look_at_pages(kubectl: Kubectl, seen: Snapshot) -> None:
    """Whether the login pages open, at the address of the node with the data and by the UI's host name."""
    ingresses = list(seen.of_kind("Ingress"))
    pages = login_pages(ingresses)
    nodes = sorted(seen.of_kind("Node"), key=lambda node: DATA_LABEL not in labels_of(node))
    if not pages or not nodes:
        return
    if lacking := missing_class(list(seen.of_kind("IngressClass")), ingresses):
        seen.pages = [lacking]
        return
    address = node_address(nodes[0]) or nodes[0]["metadata"]["name"]
    name = seen.settings(TRUST).get(UI_NAME) or nodes[0]["metadata"]["name"]
    seen.pages = list(page_problems(address, [name, address], public_certificate(kubectl, UI_SECRET), pages))


def look_at_certificates(kubectl: Kubectl, seen: Snapshot) -> None:
    """The end of validity of certificates. Only the public part of Secrets is read."""
    found = {f"Secret {name}": public_certificate(kubectl, name) for name in (UI_SECRET, SQL_SERVER_SECRET)}
    with contextlib.suppress(DeployError, ValueError):  # a kubeconfig with a token, or with a certificate in a file
        encoded = kubectl.run("config", "view", "--minify", "--raw", _USER_CERTIFICATE)
        found[USER] = base64.b64decode(encoded.strip(), validate=True).decode()
    for whose, certificate in found.items():
        if certificate:
            try:
                seen.certificates[whose] = valid_until(certificate)
            except (DeployError, ValueError) as error:
                seen.unseen["certificates"] = f"until when they are valid could not be read: {reason(error)}"


def look_at_identity(kubectl: Kubectl, seen: Snapshot) -> None:
    """Whether the API server reaches the identity provider, and the settings agree with it."""
    server = seen.find("Deployment", API_SERVER)
    sources = server["spec"]["template"]["spec"]["containers"][0].get("envFrom", []) if server else []
    if not any(one.get("configMapRef", {}).get("name", "").startswith(OIDC_KEYS[0][0]) for one in sources):
        return
    command = ("exec", f"deployment/{API_SERVER}", "--", "python", "-m", "etl_airflow.web.oidc")
    try:
        answer = json.loads(kubectl.run("--namespace", NAMESPACE, *command))
    except (DeployError, ValueError) as error:
        seen.unseen["identity"] = f"the identity provider could not be tested from the API server: {reason(error)}"
        return
    if "error" in answer:
        seen.identity = [f"{discovery_url(answer['settings'])} does not answer the API server: {answer['error']}"]
    else:
        seen.identity = list(mismatches(answer["settings"], answer["document"]))
