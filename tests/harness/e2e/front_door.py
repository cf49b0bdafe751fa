"""The way in as people have it: Traefik at the node's address, over TLS, with the certificate of `ui-tls`."""

import base64
import hashlib
import http.client
import json
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import yaml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.harness.e2e.deployment import Deployment

SYSTEM = "kube-system"


@dataclass(frozen=True)
class WayIn:
    """The UI's addresses, and the certificate to trust for them."""

    name: str
    """In the certificate; no DNS knows it."""
    address: str
    certificate: str
    """PEM. It vouches for itself."""

    @classmethod
    def of(cls, deployment: Deployment) -> "WayIn":
        """Read the address of Traefik's Service and the certificate of the Secret."""
        service = json.loads(deployment.kubectl("get", "service", "traefik", "--output=json", namespace=SYSTEM))
        (node, *_) = json.loads(deployment.kubectl("get", "nodes", "--output=json"))["items"]
        address = service["status"]["loadBalancer"]["ingress"][0]["ip"]
        return cls(node["metadata"]["name"], address, deployment.secret("ui-tls", "tls.crt"))

    @property
    def key_digest(self) -> str:
        """The public key's hash, by which Chromium is made to trust a self-signed certificate."""
        key = x509.load_pem_x509_certificate(self.certificate.encode()).public_key()
        content = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return base64.b64encode(hashlib.sha256(content).digest()).decode()

    @contextmanager
    def connected(self, called: str) -> Iterator[ssl.SSLSocket]:
        """A connection over TLS, by the name or the address. Raises SSLError for another certificate."""
        context = ssl.create_default_context(cadata=self.certificate)
        with (
            socket.create_connection((self.address, 443), timeout=60) as plain,
            context.wrap_socket(plain, server_hostname=called) as secure,
        ):
            yield secure

    def log_in(self, password: str, path: str = "/auth/token", **headers: str) -> int:
        """The status of the answer to a login of the administrator by Airflow's API."""
        body = json.dumps({"username": "admin", "password": password})
        return self.ask("POST", path, body, {"Content-Type": "application/json", **headers})[0]

    def ask(
        self, method: str, path: str, body: str = "", headers: "Mapping[str, str] | None" = None
    ) -> tuple[int, http.client.HTTPMessage]:
        """The status and the headers of an answer."""
        with self.connected(self.name) as socket_:
            connection = http.client.HTTPConnection(self.name, timeout=60)
            connection.sock = socket_
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, answer.headers

    def plain(self, path: str) -> tuple[int, str | None]:
        """Status and Location of a request without TLS."""
        connection = http.client.HTTPConnection(self.address, timeout=60)
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.getheader("Location")


def apply_helm_chart_config(deployment: Deployment) -> None:
    """Change Traefik's Service as K3s's Helm controller does for a HelmChartConfig of Traefik."""
    kind = ("helmchartconfigs.helm.cattle.io", "--field-selector=metadata.name=traefik")
    for item in json.loads(deployment.kubectl("get", *kind, "--output=json", namespace=SYSTEM))["items"]:
        values = yaml.safe_load(item["spec"]["valuesContent"])
        change = json.dumps({"spec": values["service"]["spec"]})
        deployment.kubectl("patch", "service", "traefik", f"--patch={change}", namespace=SYSTEM)
