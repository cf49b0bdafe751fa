"""Airflow's REST API, reached through a port that kubectl forwards."""

import base64
import http.client
import json
import os
import re
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from typing import Any, Self

from scripts.deploy.console import DeployError
from scripts.deploy.kubectl import NAMESPACE, Kubectl

SERVICE = "airflow-api-server"
ADMIN_SECRET, ADMIN_KEY, ADMIN_USER = "airflow-admin", "ADMIN_PASSWORD", "admin"
_PATIENCE_SECONDS = 120.0
"""For how long a connection that fails is tried again: a pod may be on its way to another."""
_START_SECONDS = 20.0
# A proxy of the environment must not be asked for an address of this machine.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class NotFoundError(DeployError):
    """What was asked for is not there (yet)."""


class AirflowApi:
    """Calls as the user admin. A context manager: the forwarded port is closed at its end."""

    def __init__(self, kubectl: Kubectl) -> None:
        self._kubectl = kubectl
        self._forward: subprocess.Popen[bytes] | None = None
        self._url = ""
        self._token = ""

    def __enter__(self) -> Self:
        """Log in."""
        encoded = self._kubectl.run(
            *("--namespace", NAMESPACE, "get", "secret", ADMIN_SECRET),
            f"--output=go-template={{{{index .data {json.dumps(ADMIN_KEY)}}}}}",
        )
        password = base64.b64decode(encoded).decode()
        try:
            answer = self.call("POST", "/auth/token", {"username": ADMIN_USER, "password": password})
            self._token = answer["access_token"]
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        """Close the port."""
        self._close()

    def get(self, path: str) -> Any:
        """GET below /api/v2."""
        return self.call("GET", f"/api/v2{path}")

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One call; tried again while Airflow cannot be reached. Raises NotFoundError, DeployError."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                return self._send(method, path, body)
            except urllib.error.HTTPError as error:
                if error.code not in (502, 503, 504) or time.monotonic() > deadline:
                    raise _refused(method, path, error) from None
            except (OSError, http.client.HTTPException) as error:
                self._close()
                if time.monotonic() > deadline:
                    raise DeployError(f"Airflow's API server cannot be reached: {error}.") from error
            time.sleep(1)

    def _send(self, method: str, path: str, body: Any) -> Any:
        if self._forward is None or self._forward.poll() is not None:
            self._open()
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, headers, method=method)  # noqa: S310 loopback
        with _OPENER.open(request, timeout=60) as response:
            text = response.read()
        return json.loads(text) if text else None

    def _open(self) -> None:
        """Start `kubectl port-forward` on a free port of loopback. Raises OSError where it does not start."""
        self._close()
        command = [*self._kubectl.command, "--namespace", NAMESPACE, "port-forward", "--address=127.0.0.1"]
        # To a file: it says a line for each connection, and nobody would empty a pipe.
        with tempfile.TemporaryFile() as output:
            self._forward = subprocess.Popen(
                [*command, f"service/{SERVICE}", ":8080"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            deadline, said, found = time.monotonic() + _START_SECONDS, "", None
            while not found and self._forward.poll() is None and time.monotonic() < deadline:
                time.sleep(0.1)
                said = os.pread(output.fileno(), 4096, 0).decode(errors="replace")
                found = re.search(r"127\.0\.0\.1:(\d+) ", said)
        if not found:
            self._close()
            raise OSError(f"kubectl port-forward says: {said.strip() or 'nothing'}")
        self._url = f"http://127.0.0.1:{found[1]}"

    def _close(self) -> None:
        if self._forward is not None:
            self._forward.terminate()
            self._forward.wait()
            self._forward = None


def _refused(method: str, path: str, error: urllib.error.HTTPError) -> DeployError:
    try:
        detail = json.loads(error.read()).get("detail", error.reason)
    except (ValueError, AttributeError):
        detail = error.reason
    kind = NotFoundError if error.code == 404 else DeployError
    if error.code == 401 and path == "/auth/token":
        return DeployError(
            f"Airflow does not accept the password in the Secret {ADMIN_SECRET}: it was changed on one side only. Put"
            " the one that Airflow has into the Secret."
        )
    return kind(f"Airflow answered {error.code} to {method} {path}: {detail}")
