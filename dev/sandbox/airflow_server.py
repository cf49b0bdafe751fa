"""`airflow standalone` on a stack: all processes of Airflow on one machine, with UI and API."""

import json
import os
import secrets
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from dev.sandbox.process import die_with_parent, kill_session
from dev.sandbox.stack import ROOT, Stack

START_SECONDS = 300
STOP_SECONDS = 20
USER = "admin"
# Not through a proxy of the environment: the server is on this machine.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class AirflowServer:
    """A started Airflow: URL, password, process."""

    url: str
    password: str
    process: "subprocess.Popen[bytes]"

    def wait_until_up(self) -> bool:
        """Wait for the API server; False if Airflow ended first, or on a timeout."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                self.call("GET", "/api/v2/monitor/health")
                return True
            except (urllib.error.URLError, TimeoutError, ConnectionError):
                time.sleep(1)
        return False

    def log_in(self) -> str:
        """A token for `call`."""
        return str(self.call("POST", "/auth/token", {"username": USER, "password": self.password})["access_token"])

    def call(self, method: str, path: str, body: Any = None, token: str = "") -> Any:
        """Call the REST API. Raises URLError."""
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        data = None if body is None else json.dumps(body).encode()
        with _OPENER.open(urllib.request.Request(self.url + path, data, headers, method=method), timeout=30) as answer:
            return json.load(answer)


@contextmanager
def run_airflow(stack: Stack, port: int, **environment: str) -> Iterator[AirflowServer]:
    """Run Airflow until the block ends; its output goes to the stack's log."""
    url = f"http://127.0.0.1:{port}"
    password = secrets.token_urlsafe(12)
    users = stack.log.with_name("passwords.json")
    users.write_text(json.dumps({USER: password}))
    settings = {
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(64),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(users),
    }
    with stack.log.open("ab") as log:
        process = subprocess.Popen(
            ["airflow", "standalone"],
            env=os.environ | stack.environment | settings | environment,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=die_with_parent,
            start_new_session=True,
        )
    try:
        yield AirflowServer(url, password, process)
    finally:
        _stop(process)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Interrupt `airflow standalone`, then kill its whole session: a component may hang."""
    process.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=STOP_SECONDS)
    kill_session(process.pid)
    process.wait()
