"""Airflow's REST API, reached through a port that kubectl forwards."""

import base64
import http.client
import json
import time
import urllib.error
import urllib.request
from typing import Any, Self

from ops.cluster.console import DeployError
from ops.cluster.forwarding import ForwardedPort
from ops.cluster.kubectl import NAMESPACE, Kubectl
from ops.cluster.names import API_SERVER
from ops.cluster.secret_keys import ADMIN

(ADMIN_SECRET, ADMIN_KEY), ADMIN_USER = ADMIN, "admin"
_PATIENCE_SECONDS = 120.0
"""For how long a connection that fails is tried again: a pod may be on its way to another."""
# A proxy of the environment must not be asked for an address of this machine.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class NotFoundError(DeployError):
    """What was asked for is not there (yet)."""


class LoginRefusedError(DeployError):
    """The administrator's password is not the one that Airflow has."""


class AirflowApi:
    """Calls as the user admin. A context manager: the forwarded port is closed at its end."""

    def __init__(self, kubectl: Kubectl, patience: float = _PATIENCE_SECONDS) -> None:
        """`patience`: for how many seconds a call that fails is tried again."""
        self._kubectl = kubectl
        self._patience = patience
        self._port: ForwardedPort | None = None
        self._token = ""

    def __enter__(self) -> Self:
        """Log in."""
        encoded = self._kubectl.run(
            *("--namespace", NAMESPACE, "get", "secret", ADMIN_SECRET),
            f"--output=go-template={{{{index .data {json.dumps(ADMIN_KEY)}}}}}",
        )
        try:
            password = base64.b64decode(encoded.strip(), validate=True).decode()
        except ValueError:  # kubectl says <no value>
            raise DeployError(f"The Secret {ADMIN_SECRET} has no {ADMIN_KEY}; run scripts/apply-all.sh.") from None
        try:
            answer = self.call("POST", "/auth/token", {"username": ADMIN_USER, "password": password})
            self._token = answer["access_token"]
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        """Close the port."""
        self.close()

    def get(self, path: str) -> Any:
        """GET below /api/v2."""
        return self.call("GET", f"/api/v2{path}")

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One call; tried again while Airflow cannot be reached. Raises NotFoundError, DeployError."""
        deadline = time.monotonic() + self._patience
        while True:
            try:
                return self._send(method, path, body)
            except urllib.error.HTTPError as error:
                if error.code not in (502, 503, 504) or time.monotonic() > deadline:
                    raise _refused(method, path, error) from None
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if time.monotonic() > deadline:
                    raise DeployError(f"Airflow's API server cannot be reached: {error}.") from error
            time.sleep(1)

    def _send(self, method: str, path: str, body: Any) -> Any:
        if self._port is None or not self._port.is_open:
            self.close()
            self._port = ForwardedPort(self._kubectl, API_SERVER, 8080)
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        url = f"http://127.0.0.1:{self._port.number}{path}"
        request = urllib.request.Request(url, data, headers, method=method)
        with _OPENER.open(request, timeout=min(60.0, self._patience)) as response:
            text = response.read()
        return json.loads(text) if text else None

    def close(self) -> None:
        """Close the port; a later call opens another."""
        if self._port is not None:
            self._port.close()
            self._port = None


def _refused(method: str, path: str, error: urllib.error.HTTPError) -> DeployError:
    try:
        detail = json.loads(error.read()).get("detail", error.reason)
    except (ValueError, AttributeError):
        detail = error.reason
    kind = NotFoundError if error.code == 404 else DeployError
    if error.code == 401 and path == "/auth/token":
        return LoginRefusedError(
            f"Airflow does not accept the password in the Secret {ADMIN_SECRET}: it was changed on one side only. Put"
            " the one that Airflow has into the Secret."
        )
    return kind(f"Airflow answered {error.code} to {method} {path}: {detail}")
