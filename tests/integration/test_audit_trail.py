"""Airflow's real API server prints who did what: what Fluent Bit brings to Loki (test_fluent_bit_real.py)."""

import json
import os
import secrets
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

import pytest

from tests.support.postgres import Postgres
from tests.support.process import die_with_parent, free_port
from tests.support.stack import ROOT, airflow_environment
from tests.support.waiting import wait_for

PASSWORD = secrets.token_urlsafe(16)
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Server:
    """The API server, and what it printed."""

    url: str
    output: Path

    def call(self, method: str, path: str, body: Any = None, token: str = "") -> tuple[int, Any]:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        data = None if body is None else json.dumps(body).encode()
        try:
            with _DIRECT.open(
                urllib.request.Request(self.url + path, data, headers, method=method), timeout=60
            ) as found:
                return found.status, json.loads(found.read() or b"null")
        except HTTPError as error:
            return error.code, None

    def log_in(self, password: str, user: str = "admin") -> tuple[int, str]:
        status, answer = self.call("POST", "/auth/token", {"username": user, "password": password})
        return status, (answer or {}).get("access_token", "")

    def trail(self) -> list[dict[str, Any]]:
        lines = self.output.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith('{"audit": "airflow"')]

    def is_up(self) -> bool:
        try:
            return self.call("GET", "/api/v2/version")[0] == 200
        except (URLError, ConnectionError):
            return False


@pytest.fixture(scope="module")
def server(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("api-server")
    name, port = f"airflow_{secrets.token_hex(4)}", free_port()
    environment = os.environ | airflow_environment(folder, postgres.create_database(name), "", "")
    environment |= {
        "AIRFLOW__API__SECRET_KEY": secrets.token_urlsafe(32),
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(64),
        "AIRFLOW__CORE__AUTH_MANAGER": "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager",
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "airflow_image" / "plugins"),
    }
    user = ["--role", "Admin", "--username", "admin", f"--password={PASSWORD}", "--email", "admin@example.com"]
    names = ["--firstname", "Airflow", "--lastname", "Administrator"]
    with (folder / "errors").open("wb") as errors, (folder / "output").open("wb") as output:
        for command in (["db", "migrate"], ["users", "create", *user, *names]):
            subprocess.run(["airflow", *command], env=environment, check=True, stdout=errors, stderr=errors)
        process = subprocess.Popen(
            ["airflow", "api-server", "--host", "127.0.0.1", "--port", str(port)],
            env=environment,
            stdout=output,
            stderr=errors,
            preexec_fn=die_with_parent,
            start_new_session=True,
        )
    try:
        made = Server(f"http://127.0.0.1:{port}", folder / "output")
        wait_for(made.is_up, seconds=120)
        yield made
    finally:
        process.terminate()
        process.wait()
        postgres.drop_database(name)


def test_who_changed_what_is_told_without_the_secret(server: Server) -> None:
    status, token = server.log_in(PASSWORD)
    assert status == 201
    value = secrets.token_urlsafe(16)
    assert server.call("POST", "/api/v2/variables", {"key": "mine", "value": value}, token)[0] == 201
    assert server.call("POST", "/api/v2/pools", {"name": "narrow", "slots": 1}, token)[0] == 201
    assert server.call("PATCH", "/api/v2/dags/orders_etl?update_mask=is_paused", {"is_paused": True}, token)[0] == 404
    told = {line["event"]: line for line in server.trail()}
    assert told.keys() >= {"login", "post_variable", "post_pool", "patch_dag"}
    assert {line["user"] for line in told.values()} == {"admin"}
    # Also what came to nothing.
    assert told["patch_dag"]["dag_id"] == "orders_etl"
    assert json.loads(told["post_pool"]["details"])["name"] == "narrow"
    assert value not in server.output.read_text()


def test_a_login_that_failed_is_told_also_of_a_user_that_there_is_not(server: Server) -> None:
    assert [server.log_in("wrong")[0], server.log_in("wrong", 'nobody"\n{"audit"')[0]] == [401, 401]
    told = [line["user"] for line in server.trail() if line["event"] == "login_failed"]
    assert told == ["admin", 'nobody"\n{"audit"']


def test_who_is_not_logged_in_leaves_no_line(server: Server) -> None:
    before = server.trail()
    assert server.call("POST", "/api/v2/pools", {"name": "other", "slots": 1})[0] == 401
    assert server.trail() == before
