"""The token endpoints of Microsoft Entra ID, over TLS, and of a machine of Azure, over HTTP, as they are documented.

https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow and
https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token
"""

import ssl
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from dev.sandbox.sqlserver.engine.directory import Directory, sign
from tests.cluster.certificates import Authority
from tests.doubles.http_server import Handler, serving

TENANT = "7f0c3c5e-0000-4000-8000-000000000001"
_ENDS = {"authorization": "authorize", "token": "token"}
_TAIL = " Trace ID: 1f2e Correlation ID: 3d4c Timestamp: 2026-01-01 00:00:00Z"


@dataclass
class Entra:
    """Both endpoints. `secrets` of the applications by client id; `lifetime` of tokens in seconds.

    While it `is_busy` it refuses, as both do at times.
    """

    directory: Directory
    secrets: dict[str, str]
    lifetime: int = 3600
    is_busy: bool = False
    asked: list[str] = field(default_factory=list)
    """Client ids of the tokens that were given."""
    environment: dict[str, str] = field(default_factory=dict)
    """The variables by which the library finds the endpoints."""

    def give(self, client_id: str, resource: str) -> dict[str, Any]:
        """A token."""
        self.asked.append(client_id)
        now = int(time.time())
        claims = {"aud": resource, "appid": client_id, "tid": TENANT, "iat": now, "exp": now + self.lifetime}
        token = sign(claims | {"jti": uuid.uuid4().hex}, self.directory.key)
        return {"access_token": token, "token_type": "Bearer", "expires_in": self.lifetime}

    def refuse(self, tenant: str, client_id: str, secret: str) -> tuple[int, str, str] | None:
        """Status, error and description of a request of a service principal that is refused."""
        if self.is_busy:
            return 503, "temporarily_unavailable", "AADSTS90033: A transient error has occurred. Please try again."
        if tenant != TENANT:
            return 400, "invalid_tenant", f"AADSTS90002: Tenant '{tenant}' not found."
        if client_id not in self.secrets:
            text = f"AADSTS700016: Application with identifier '{client_id}' was not found in the directory 'Tests'."
            return 400, "unauthorized_client", text
        if secret != self.secrets[client_id]:
            return 401, "invalid_client", f"AADSTS7000215: Invalid client secret provided for app '{client_id}'."
        return None


@contextmanager
def run_entra(authority: Authority, directory: Directory, secrets: dict[str, str]) -> Iterator[Entra]:
    """Serve both endpoints until the block ends, with a certificate of the authority."""
    made = Entra(directory, secrets)
    authority.issue("entra", "entra", hosts=("127.0.0.1",))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.certificate_of("entra"), authority.key_of("entra"))
    secure = ThreadingHTTPServer(("127.0.0.1", 0), _handler(made))
    secure.socket = context.wrap_socket(secure.socket, server_side=True)
    with serving(secure) as entra, serving(ThreadingHTTPServer(("127.0.0.1", 0), _handler(made))) as machine:
        made.environment.update(
            AZURE_AUTHORITY_HOST=entra.replace("http:", "https:"),
            AZURE_POD_IDENTITY_AUTHORITY_HOST=machine,
            REQUESTS_CA_BUNDLE=str(authority.certificate),
            NO_PROXY="127.0.0.1",
        )
        yield made


def _handler(entra: Entra) -> type[Handler]:
    class Endpoint(Handler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
            if parts.path == "/metadata/identity/oauth2/token":
                self._of_machine(asked)
            else:
                self._discovery(parts.path.split("/")[1])

        def do_POST(self) -> None:
            tenant = self.path.split("/")[1]
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            asked = {name: values[0] for name, values in parse_qs(body).items()}
            refused = entra.refuse(tenant, asked["client_id"], asked["client_secret"])
            if refused or asked["grant_type"] != "client_credentials":
                self._error(
                    *(refused or (400, "unsupported_grant_type", "AADSTS70003: The app asked for another one."))
                )
                return
            self.answer(200, entra.give(asked["client_id"], asked["scope"].removesuffix(".default")))

        def _of_machine(self, asked: dict[str, str]) -> None:
            own = [client for client in entra.directory.applications.values() if client not in entra.secrets]
            client_id = asked.get("client_id", own[0])
            if self.headers["Metadata"] != "true":
                self._error(400, "bad_request_102", "Required metadata header not specified")
            elif entra.is_busy:
                self._error(429, "too_many_requests", "Too many requests")
            elif client_id not in own:
                self._error(400, "invalid_request", "Identity not found")
            else:
                self.answer(200, entra.give(client_id, asked["resource"].rstrip("/") + "/"))

        def _discovery(self, tenant: str) -> None:
            if tenant != TENANT:
                self._error(*(entra.refuse(tenant, "", "") or (404, "", "")))
                return
            base = f"https://{self.headers['Host']}/{tenant}"
            ends = {f"{name}_endpoint": f"{base}/oauth2/v2.0/{path}" for name, path in _ENDS.items()}
            self.answer(200, {"issuer": f"{base}/v2.0", **ends})

        def _error(self, status: int, error: str, description: str) -> None:
            tail = _TAIL if description.startswith("AADSTS") else ""
            self.answer(status, {"error": error, "error_description": description + tail})

    return Endpoint
