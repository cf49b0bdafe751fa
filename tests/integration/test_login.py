"""Airflow's real API server with the deployment's settings and ports: who finds what, and no password is guessed."""

import http.client
import json
import os
import re
import secrets
import socket
import string
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.cookies import SimpleCookie
from itertools import count
from pathlib import Path
from urllib.parse import urlencode

import pytest
import yaml
from etl_logins import MOST_FAILURES, MOST_OVERALL
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.postgres import Postgres
from tests.support.process import die_with_parent, free_port
from tests.support.stack import ROOT, airflow_environment

AIRFLOW = ROOT / "k8s" / "base" / "airflow"
TAKEN = re.compile(r"AIRFLOW__(?:FAB__|CORE__AUTH_MANAGER|API__).*")
PASSWORD = secrets.token_urlsafe(16)
"""Of every user."""
TRAEFIK, STRANGER = "127.0.0.1", "127.0.0.2"
"""Where a proxy that is believed is, and somebody who only says that he is one."""
START_SECONDS = 120
_numbers = count(1)
slow = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def new_client() -> str:
    """An address from which nobody has asked yet."""
    return f"198.51.100.{next(_numbers)}"


@dataclass(frozen=True)
class Server:
    """The API server, as it is spoken to at its two ports."""

    ui: int
    workers: int

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
        """A login by an API, of a client of which the proxy tells."""
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

    def new_user(self) -> str:
        """Somebody who has not failed to log in yet."""
        name = f"user-{next(_numbers)}"
        login = json.dumps({"username": "admin", "password": PASSWORD})
        token = json.loads(self.ask("POST", "/auth/token", login, Content_Type="application/json")[2])["access_token"]
        user = {"username": name, "email": name, "first_name": name, "last_name": name, "password": PASSWORD}
        body = json.dumps(user | {"roles": [{"name": "Viewer"}]})
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
        assert self.ask("POST", "/auth/fab/v1/users", body, **headers)[0] == 200
        return name

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


def deployed() -> list[str]:
    """The command of the deployment, after what waits for the database."""
    (container,) = yaml.safe_load((AIRFLOW / "api-server" / "deployment.yaml").read_text())["spec"]["template"]["spec"][
        "containers"
    ]
    return list(container["args"][container["args"].index("--") + 1 :])


@pytest.fixture(scope="module")
def server(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("api-server")
    name = f"airflow_{secrets.token_hex(4)}"
    made = Server(free_port(), free_port())
    environment = os.environ | airflow_environment(folder, postgres.create_database(name), "", "")
    environment |= dict(line.split("=", 1) for line in TAKEN.findall((AIRFLOW / "config.env").read_text()))
    environment |= {
        "AIRFLOW__API__SECRET_KEY": secrets.token_urlsafe(32),
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(64),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "airflow_image" / "plugins"),
        "FORWARDED_ALLOW_IPS": TRAEFIK,
        "ETL_UI_PORT": str(made.ui),
        "ETL_WORKERS_PORT": str(made.workers),
    }
    admin = ["--username=admin", "--email=admin", "--firstname=a", "--lastname=a", "--role=Admin"]
    log = folder / "log"
    with log.open("wb") as output:
        for command in (["db", "migrate"], ["users", "create", *admin, f"--password={PASSWORD}"]):
            subprocess.run(["airflow", *command], env=environment, check=True, stdout=output, stderr=output)
        process = subprocess.Popen(
            deployed(),
            env=environment,
            stdout=output,
            stderr=output,
            preexec_fn=die_with_parent,
            start_new_session=True,
        )
    try:
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


def spellings(path: str) -> st.SearchStrategy[str]:
    """Ways to write a path that one server or another may take for the same."""
    between = st.sampled_from(["/", "/", "/", "//", "///", "/%2F", "/./", "/x/../", "%5C"])
    end = st.sampled_from(["", "/", "//", "/.", ";x", "%20", "?next=/", "#x", "%0A", "%00"])

    def letter(character: str) -> st.SearchStrategy[str]:
        ways = [character] * 6 + [f"%{ord(character):02x}", f"%{ord(character):02X}"]
        return st.sampled_from([*ways, character.swapcase()] if character in string.ascii_letters else ways)

    letters = [between if character == "/" else letter(character) for character in path]
    return st.tuples(*letters, end).map("".join)


def test_cookies_of_a_login_over_tls_are_secure_and_kept_from_scripts(server: Server) -> None:
    status, cookies = server.form(new_client(), "admin").send(PASSWORD)
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


@pytest.mark.parametrize("path", ["/", "/auth/login/", "/api/v2/version", "/static/pin_32.png"])
def test_pages_cannot_be_framed_elsewhere_or_taken_for_something_else(server: Server, path: str) -> None:
    status, headers, _ = server.ask("GET", path, X_Forwarded_Proto="https")
    assert status == 200
    for name in ("X-Frame-Options", "X-Content-Type-Options", "Referrer-Policy", "Content-Security-Policy"):
        assert len(headers.get_all(name) or []) == 1, name
    assert "frame-ancestors 'self'" in headers["Content-Security-Policy"]


def test_passwords_cannot_be_tried_without_end_over_the_api(server: Server) -> None:
    user = server.new_user()
    server.exhaust(new_client(), user)
    # From elsewhere the same user may log in.
    assert server.token(PASSWORD, new_client(), user) == 201


def test_nor_by_the_form(server: Server) -> None:
    form = server.form(new_client(), server.new_user())
    statuses = [form.send(f"wrong-{number}")[0] for number in range(MOST_FAILURES + 1)]
    assert statuses[0] == 302
    assert statuses[-1] == 429


@pytest.mark.parametrize("path", ["/auth/token", "/auth/token/cli", "/auth/api/v1/security/login"])
def test_nor_by_another_spelling_of_an_address(server: Server, path: str) -> None:
    """Also the right one is refused: it could be the next that is tried."""
    client, user = new_client(), server.new_user()
    server.exhaust(client, user)

    @slow
    @given(spellings(path))
    def opens_nothing(written: str) -> None:
        status, headers, text = server.post(PASSWORD, client, user, written)
        assert "access_token" not in text
        assert "_token=" not in str(headers)
        assert status >= 400

    opens_nothing()


def test_nor_by_another_spelling_of_the_form(server: Server) -> None:
    client, user = new_client(), server.new_user()
    form = server.form(client, user)
    server.exhaust(client, user)

    @slow
    @given(spellings("/auth/login/"))
    def opens_nothing(written: str) -> None:
        assert not [cookie for cookie in form.send(PASSWORD, written)[1] if cookie.startswith("_token=")]

    opens_nothing()


def test_the_second_login_that_flask_appbuilder_has_is_not_there(server: Server) -> None:
    status, _, text = server.post(PASSWORD, new_client(), "admin", "/auth/api/v1/security/login")
    assert (status, text) == (404, "")


def test_wrong_passwords_for_one_user_keep_out_no_other_at_the_same_address(server: Server) -> None:
    client = new_client()
    server.exhaust(client, server.new_user())
    assert server.token(PASSWORD, client, server.new_user()) == 201


def test_one_address_cannot_try_many_users(server: Server) -> None:
    client = new_client()
    statuses = [server.token("wrong", client, f"user-{number}") for number in range(MOST_OVERALL)]
    assert statuses == [401] * MOST_OVERALL
    assert server.token(PASSWORD, client, server.new_user()) == 429


def test_nobody_but_the_proxy_is_believed_about_where_a_request_comes_from(server: Server) -> None:
    clients = [f"203.0.113.{number}" for number in range(MOST_FAILURES + 1)]
    user = server.new_user()
    assert server.token("wrong", clients[-1], user, by=STRANGER) == 401
    statuses = [server.token("wrong", client, user, by=STRANGER) for client in clients]
    assert statuses[-1] == 429


CLOSED = ["/execution/health", "/execution/docs", "/execution/openapi.json", "/docs", "/redoc", "/openapi.json"]


@pytest.mark.parametrize("path", [*CLOSED, "/auth/docs", "/auth/redoc", "/auth/openapi.json"])
def test_what_is_for_workers_or_describes_an_api_people_do_not_find(server: Server, path: str) -> None:
    @slow
    @given(spellings(path), st.sampled_from(["https", None]))
    def is_not_there(written: str, came_by: str | None) -> None:
        status, headers, text = server.ask("GET", written, **({"X-Forwarded-Proto": came_by} if came_by else {}))
        # A spelling that leads nowhere shows the UI's own page, as every unknown address does.
        assert status >= 400 or "<title>Airflow</title>" in text, (headers, text[:200])

    assert server.ask("GET", path, X_Forwarded_Proto="https")[0] == 404
    is_not_there()


@pytest.fixture
def own_address() -> str:
    """An address of this machine that is not loopback's: what comes from it is what comes from another pod."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("This machine has no address but loopback's.")
        return str(asking.getsockname()[0])


def test_a_worker_finds_the_execution_api_and_can_try_no_password(server: Server, own_address: str) -> None:
    def ask(method: str, path: str, body: str = "") -> int:
        headers = {"X-Forwarded-For": f"203.0.113.{next(_numbers)}", "X-Forwarded-Proto": "https"}
        headers["Content-Type"] = "application/json"
        return server.ask(method, path, body, own_address, f"{own_address}:{server.workers}", **headers)[0]

    assert ask("GET", "/execution/health") == 200
    right = json.dumps({"username": "admin", "password": PASSWORD, "provider": "db"})
    for path in ("/auth/token", "/auth/token/cli", "/auth/api/v1/security/login", "/execution/../auth/token"):
        assert ask("POST", path, right) == 404
    for path in ("/auth/login/", "/api/v2/version", "/docs", "/"):
        assert ask("GET", path) == 404


def test_who_comes_by_port_forward_finds_all(server: Server) -> None:
    body, to = json.dumps({"username": "admin", "password": PASSWORD}), f"127.0.0.1:{server.workers}"
    status, _, _ = server.ask("POST", "/auth/token", body, to=to, Content_Type="application/json")
    assert status == 201
    for path in ("/execution/health", "/api/v2/version"):
        assert server.ask("GET", path, to=to)[0] == 200
