"""Airflow's real API server with the command, the settings and the two ports of the deployment."""

import http.client
import json
import os
import re
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.cookies import SimpleCookie
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml
from etl_airflow.web.failed_logins import MOST_FAILURES

from dev.sandbox.postgres import Postgres
from dev.sandbox.process import free_port
from dev.sandbox.stack import ROOT, airflow_environment
from tests.harness.server import running

AIRFLOW = ROOT / "k8s" / "base" / "airflow"
TAKEN = re.compile(r"AIRFLOW__(?:FAB__|CORE__AUTH_MANAGER|API__).*")
PASSWORD = secrets.token_urlsafe(16)
"""Of every user."""
TRAEFIK, STRANGER = "127.0.0.1", "127.0.0.2"
"""The address of a trusted proxy, and one of an impostor."""
START_SECONDS = 120
_numbers = count(1)


def new_client() -> str:
    """A client address that has sent no request yet."""
    return f"198.51.100.{next(_numbers)}"


@dataclass(frozen=True)
class Server:
    """A client of the API server, at its two ports."""

    ui: int
    workers: int
    log: Path
    """All that it prints, and its audit trail."""

    def trail(self) -> list[dict[str, str]]:
        """The lines of the audit trail (airflow_image/etl_airflow/web/audit_trail.py)."""
        lines = self.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith('{"audit": "airflow"')]

    def ask(
        self,
        method: str,
        path: str,
        body: str = "",
        by: str = TRAEFIK,
        to: str = "",
        **headers: str,
    ) -> tuple[int, http.client.HTTPMessage, str]:
        """Status, headers and text of the answer; `to` is an address and a port, else the port for people."""
        host, _, port = (to or f"127.0.0.1:{self.ui}").partition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=60, source_address=(by, 0))
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read().decode(errors="replace")
        finally:
            connection.close()

    def post(
        self, password: str, client: str, user: str, path: str = "/auth/token", by: str = TRAEFIK
    ) -> tuple[int, http.client.HTTPMessage, str]:
        """A login by the API, with a client address that the proxy sends."""
        body = json.dumps({"username": user, "password": password, "provider": "db"})
        headers = {"Content-Type": "application/json", "X-Forwarded-For": client, "X-Forwarded-Proto": "https"}
        return self.ask("POST", path, body, by, **headers)

    def token(self, password: str, client: str, user: str, by: str = TRAEFIK) -> int:
        """The status of a login by Airflow's API."""
        return self.post(password, client, user, by=by)[0]

    def form(self, client: str, user: str) -> "Form":
        """The form of the login, as a browser has it that came by the proxy."""
        came = {"X-Forwarded-For": client, "X-Forwarded-Proto": "https", "Host": "etl.example.com"}
        _, headers, page = self.ask("GET", "/auth/login/", **came)
        csrf = re.search(r'name="csrf_token"[^>]* value="([^"]+)"', page)
        session = SimpleCookie(headers["Set-Cookie"])["session"]
        came |= {"Content-Type": "application/x-www-form-urlencoded", "Cookie": f"session={session.value}"}
        return Form(self, user, csrf[1] if csrf else "", came | {"Referer": "https://etl.example.com/auth/login/"})

    def new_user(self, role: str = "Viewer", name: str = "") -> str:
        """A new user without failed logins; returns the name."""
        name = name or f"user-{next(_numbers)}"
        user = dict.fromkeys(("username", "email", "first_name", "last_name"), name)
        body = {**user, "password": PASSWORD, "roles": [{"name": role}]}
        status, _ = self.call("POST", "/auth/fab/v1/users", body, self.token_of("admin"))
        assert status == 200
        return name

    def token_of(self, user: str) -> str:
        """A token by the user's password, as over `kubectl port-forward`."""
        status, answer = self.call("POST", "/auth/token", {"username": user, "password": PASSWORD})
        assert status == 201
        return str(answer["access_token"])

    def call(self, method: str, path: str, body: Any = None, token: str = "") -> tuple[int, Any]:
        """Status and content of an answer of the API at the workers' port, from the pod itself."""
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        text = "" if body is None else json.dumps(body)
        status, _, answer = self.ask(method, path, text, to=f"127.0.0.1:{self.workers}", **headers)
        return status, json.loads(answer) if answer.startswith(("{", "[")) else answer

    def exhaust(self, client: str, user: str) -> None:
        """Try wrong passwords of a user until a client may try no more."""
        statuses = [self.token(f"wrong-{number}", client, user) for number in range(MOST_FAILURES)]
        assert statuses == [401] * MOST_FAILURES
        assert self.token(PASSWORD, client, user) == 429


@dataclass(frozen=True)
class Form:
    """One that was opened and can be sent."""

    server: Server
    user: str
    csrf: str
    headers: dict[str, str]

    def send(self, password: str, path: str = "/auth/login/") -> tuple[int, list[str]]:
        """The status and the cookies of a login by the form."""
        fields = {"username": self.user, "password": password, "csrf_token": self.csrf}
        status, headers, _ = self.server.ask("POST", path, urlencode(fields), **self.headers)
        return status, headers.get_all("Set-Cookie") or []


@contextmanager
def run_api_server(postgres: Postgres, folder: Path, *before: list[str], **serving: str) -> Iterator[Server]:
    """Serve until the block ends; `folder` takes Airflow's home.

    `before` are commands of Airflow that run first, `serving` are further variables of the server alone.
    """
    name = f"airflow_{secrets.token_hex(4)}"
    made = Server(free_port(), free_port(), folder / "log")
    environment = os.environ | airflow_environment(folder, postgres.create_database(name), "", "")
    environment |= dict(line.split("=", 1) for line in TAKEN.findall((AIRFLOW / "config.env").read_text()))
    environment |= {
        "AIRFLOW__API__SECRET_KEY": secrets.token_urlsafe(32),
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(64),
        "FORWARDED_ALLOW_IPS": TRAEFIK,
        "ETL_UI_PORT": str(made.ui),
        "ETL_WORKERS_PORT": str(made.workers),
    }
    admin = ["--username=admin", "--email=admin", "--firstname=a", "--lastname=a", "--role=Admin"]
    with made.log.open("wb") as output:
        for command in (["db", "migrate"], ["users", "create", *admin, f"--password={PASSWORD}"], *before):
            subprocess.run(["airflow", *command], env=environment, check=True, stdout=output, stderr=output)

    def is_up() -> bool:
        return made.ask("GET", "/api/v2/version")[0] == 200

    try:
        with running(_deployed(), made.log, is_up, START_SECONDS, env=environment | serving, start_new_session=True):
            yield made
    finally:
        postgres.drop_database(name)


def _deployed() -> list[str]:
    """The command of the deployment, without the wait for the database."""
    (container,) = yaml.safe_load((AIRFLOW / "api-server" / "deployment.yaml").read_text())["spec"]["template"]["spec"][
        "containers"
    ]
    return list(container["args"][container["args"].index("--") + 1 :])
