"""Airflow's real API server with the deployment's settings: secure cookies, and no password found by trying many."""

import http.client
import os
import re
import secrets
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.cookies import SimpleCookie
from pathlib import Path
from urllib.parse import urlencode

import pytest
from etl_front_door import MOST_FAILURES

from tests.support.postgres import Postgres
from tests.support.process import die_with_parent, free_port
from tests.support.stack import ROOT, airflow_environment

CONFIG = ROOT / "k8s" / "base" / "airflow" / "config.env"
TAKEN = re.compile(r"AIRFLOW__(?:FAB__|CORE__AUTH_MANAGER|API__BASE_URL).*")
PASSWORD = secrets.token_urlsafe(16)
TRUSTED, STRANGER = "127.0.0.1", "127.0.0.2"
"""Where a proxy that is believed is, and somebody who only says that he is one."""
START_SECONDS = 120


@dataclass(frozen=True)
class Server:
    """The API server, as it is spoken to from an address of this machine."""

    port: int

    def ask(
        self, method: str, path: str, body: str = "", by: str = TRUSTED, **headers: str
    ) -> tuple[int, http.client.HTTPMessage, str]:
        """Status, headers and text of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60, source_address=(by, 0))
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read().decode()
        finally:
            connection.close()

    def token(self, password: str, client: str, by: str = TRUSTED) -> int:
        """The status of a login by the API, of a client of which the proxy tells."""
        body = f'{{"username": "admin", "password": "{password}"}}'
        headers = {"Content-Type": "application/json", "X-Forwarded-For": client, "X-Forwarded-Proto": "https"}
        return self.ask("POST", "/auth/token", body, by, **headers)[0]

    def form(self, password: str, client: str, by: str = TRUSTED) -> tuple[int, list[str]]:
        """The status and the cookies of a login by the form."""
        came = {"X-Forwarded-For": client, "X-Forwarded-Proto": "https", "Host": "etl.example.com"}
        _, headers, page = self.ask("GET", "/auth/login/", by=by, **came)
        csrf = re.search(r'name="csrf_token"[^>]* value="([^"]+)"', page)
        session = SimpleCookie(headers["Set-Cookie"])["session"]
        fields = {"username": "admin", "password": password, "csrf_token": csrf[1] if csrf else ""}
        came |= {"Content-Type": "application/x-www-form-urlencoded", "Cookie": f"session={session.value}"}
        came |= {"Referer": "https://etl.example.com/auth/login/"}
        status, headers, _ = self.ask("POST", "/auth/login/", urlencode(fields), by, **came)
        return status, headers.get_all("Set-Cookie") or []


@pytest.fixture(scope="module")
def server(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("api-server")
    name = f"airflow_{secrets.token_hex(4)}"
    port = free_port()
    environment = os.environ | airflow_environment(folder, postgres.create_database(name), "", "")
    environment |= dict(line.split("=", 1) for line in TAKEN.findall(CONFIG.read_text()))
    environment |= {
        "AIRFLOW__API__SECRET_KEY": secrets.token_urlsafe(32),
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(64),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "airflow_image" / "plugins"),
        "FORWARDED_ALLOW_IPS": TRUSTED,
    }
    user = ["--role", "Admin", "--username", "admin", f"--password={PASSWORD}", "--email", "admin@example.com"]
    names = ["--firstname", "Airflow", "--lastname", "Administrator"]
    log = folder / "log"
    with log.open("wb") as output:
        for command in (["db", "migrate"], ["users", "create", *user, *names]):
            subprocess.run(["airflow", *command], env=environment, check=True, stdout=output, stderr=output)
        command = ["airflow", "api-server", "--proxy-headers", "--host", "127.0.0.1", "--port", str(port)]
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=output, preexec_fn=die_with_parent, start_new_session=True
        )
    try:
        made = Server(port)
        wait_until_up(made, process, log)
        yield made
    finally:
        process.terminate()
        process.wait()
        postgres.drop_database(name)


def wait_until_up(server: Server, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            if server.ask("GET", "/api/v2/version")[0] == 200:
                return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"The API server did not start:\n{log.read_text()[-4000:]}") from None
            time.sleep(0.5)


def test_cookies_of_a_login_over_tls_are_secure_and_kept_from_scripts(server: Server) -> None:
    status, cookies = server.form(PASSWORD, "198.51.100.10")
    assert status == 302
    found = {cookie.partition("=")[0]: cookie.lower() for cookie in cookies}
    assert found.keys() >= {"session", "_token"}
    for cookie in found.values():
        assert "; secure" in cookie
        assert "; httponly" in cookie
        assert "; samesite=lax" in cookie


def test_plain_http_is_sent_to_https_and_https_is_kept(server: Server) -> None:
    status, headers, _ = server.ask("GET", "/dags?x=1", X_Forwarded_Proto="http", Host="etl.example.com")
    assert (status, headers["Location"]) == (308, "https://etl.example.com/dags?x=1")
    assert server.ask("GET", "/", X_Forwarded_Proto="https")[1]["Strict-Transport-Security"]


def test_passwords_cannot_be_tried_without_end_over_the_api(server: Server) -> None:
    statuses = [server.token(f"wrong-{number}", "198.51.100.20") for number in range(MOST_FAILURES + 2)]
    assert statuses == [401] * MOST_FAILURES + [429] * 2
    # Also the right one: it could be the next that is tried.
    assert server.token(PASSWORD, "198.51.100.20") == 429
    assert server.token(PASSWORD, "198.51.100.21") == 201


def test_nor_by_the_form(server: Server) -> None:
    statuses = [server.form(f"wrong-{number}", "198.51.100.30")[0] for number in range(MOST_FAILURES + 2)]
    assert statuses[0] == 302
    assert statuses[-1] == 429


def test_nobody_but_the_proxy_is_believed_about_where_a_request_comes_from(server: Server) -> None:
    clients = [f"203.0.113.{number}" for number in range(MOST_FAILURES + 1)]
    assert server.token("wrong", clients[-1], by=STRANGER) == 401
    statuses = [server.token("wrong", client, by=STRANGER) for client in clients]
    assert statuses[-1] == 429
