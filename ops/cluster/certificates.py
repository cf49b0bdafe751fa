"""Certificates: read from Secrets, without the key."""

import base64
import ssl
from datetime import UTC, datetime

from ops.cluster import processes
from ops.cluster.console import DeployError
from ops.cluster.kubectl import NAMESPACE, Kubectl


def public_certificate(kubectl: Kubectl, secret: str) -> str:
    """The certificate in a Secret as PEM; empty if there is none."""
    template = '--output=go-template={{index .data "tls.crt"}}'
    try:
        found = kubectl.run("--namespace", NAMESPACE, "get", "secret", secret, template)
        return base64.b64decode(found.strip(), validate=True).decode()
    except (DeployError, ValueError):  # kubectl prints <no value>
        return ""


def valid_until(certificate: str) -> datetime:
    """The end of validity of the first certificate in a text. Raises DeployError if openssl is missing or fails."""
    text = processes.run(["openssl", "x509", "-noout", "-enddate"], stdin=certificate)
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(text.strip().removeprefix("notAfter=")), UTC)
