"""Airflow's REST API, through a forwarded port."""

import base64
import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any, Self
from urllib.parse import quote

from ops.cluster.console import DeployError
from ops.cluster.forwarding import LOOPBACK, ForwardedPort
from ops.cluster.kubectl import NAMESPACE, Kubectl
from ops.cluster.names import API_SERVER
from ops.cluster.secret_keys import ADMIN

(ADMIN_SECRET, ADMIN_KEY), ADMIN_USER = ADMIN, "admin"
_RETRY_SECONDS = 120.0
"""A failed connection is retried for this long: the pod may be being replaced."""
_PAGE = 100


class NotFoundError(DeployError):
    """Status 404."""


class LoginRefusedError(DeployError):
    """Airflow does not accept the administrator's password."""


class AirflowApi:
    """Calls as the user admin. A context manager: it logs in, and closes the forwarded port at its end."""

    def __init__(self, kubectl: Kubectl, retry_seconds: float = _RETRY_SECONDS) -> None:
        """`retry_seconds`: how long a failed call is retried."""
        self._kubectl = kubectl
        self._retry_seconds = retry_seconds
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
        except ValueError:  # kubectl prints <no value>
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

    def list(self, path: str, key: str) -> Iterator[dict[str, Any]]:
        """All entries of a list below /api/v2, which Airflow returns in pages. `key` is its name in the response."""
        separator, count = "&" if "?" in path else "?", 0
        while True:
            page = self.get(f"{path}{separator}limit={_PAGE}&offset={count}")
            yield from page[key]
            count += len(page[key])
            if not page[key] or count >= page["total_entries"]:
                return

    def log(self, run: str, task: dict[str, Any]) -> Any:
        """The lines of the log of a task's last attempt; `run` is the path of its run."""
        path = f"{run}/taskInstances/{quote(task['task_id'])}/logs/{task['try_number']}"
        return self.get(f"{path}?map_index={task['map_index']}&full_content=true")["content"]

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One call, retried while Airflow cannot be reached. Raises NotFoundError, DeployError."""
        deadline = time.monotonic() + self._retry_seconds
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
            self._port = self._kubectl.forward(API_SERVER, 8080)
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        url = f"http://127.0.0.1:{self._port.number}{path}"
        request = urllib.request.Request(url, data, headers, method=method)
        with LOOPBACK.open(request, timeout=min(60.0, self._retry_seconds)) as response:
            text = response.read()
        return json.loads(text) if text else None

    def close(self) -> None:
        """Close the port; a later call opens another."""
        if self._port is not None:
            self._port.close()
            self._port = None


def run_path(dag: str, run_id: str = "") -> str:
    """The path of a DAG run, or without its id of the DAG's runs."""
    runs = f"/dags/{quote(dag, safe='')}/dagRuns"
    return f"{runs}/{quote(run_id, safe='')}" if run_id else runs


def task_name(task: dict[str, Any]) -> str:
    """The id of a task instance, with its index if it is mapped."""
    return task["task_id"] if task["map_index"] < 0 else f"{task['task_id']}[{task['map_index']}]"


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
