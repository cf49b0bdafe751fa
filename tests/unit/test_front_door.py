"""The front door of Airflow's API server: access by port, TLS, and a limit on password guesses."""

import asyncio
import json
from typing import Any
from urllib.parse import urlencode

import pytest
from etl_airflow.web.failed_logins import MOST_FAILURES, MOST_OVERALL, WINDOW_SECONDS
from etl_airflow.web.front_door import MOST_LOGIN_BYTES, FrontDoor
from hypothesis import given
from hypothesis import strategies as st

WORKERS, UI = 8080, 8081
TRAEFIK, WORKER = "10.42.0.7", "10.42.0.9"
JSON, FORM = "application/json", "application/x-www-form-urlencoded"


class Door:
    """The front door before a scripted Airflow, with a clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.answer: tuple[int, dict[str, str]] = (200, {})
        self.passed = 0
        self.body = b""
        self.client = ""
        self._door = FrontDoor(self._airflow, clock=lambda: self.now)

    async def _airflow(self, scope: Any, receive: Any, send: Any) -> None:
        self.passed += 1
        self.client = scope["client"][0]
        self.body = (await receive())["body"]
        status, headers = self.answer
        if not status:
            raise OSError("no database")
        found = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": found})
        await send({"type": "http.response.body", "body": b""})

    def ask(
        self,
        path: str = "/",
        method: str = "GET",
        body: bytes = b"",
        peer: str = TRAEFIK,
        port: int = UI,
        **headers: str,
    ) -> tuple[int, dict[str, str]]:
        """Status and headers of the answer."""
        path, _, query = path.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "client": (peer, 40000),
            "server": ("10.42.0.5", port),
            "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
        }
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            return {"type": "http.request", "body": body}

        asyncio.run(self._door(scope, receive, send))
        return sent[0]["status"], {name.decode(): value.decode() for name, value in sent[0]["headers"]}

    def log_in(self, address: str = "198.51.100.1", user: str = "admin", path: str = "/auth/token") -> int:
        """The status of a login by the API, with a client address that Traefik sends."""
        body = json.dumps({"username": user, "password": "any"}).encode()
        return self.ask(path, "POST", body, content_type=JSON, x_forwarded_for=address, x_forwarded_proto="https")[0]

    def fail(self, times: int, address: str = "198.51.100.1", user: str = "admin") -> list[int]:
        """The statuses of so many logins with a wrong password."""
        self.answer = (401, {})
        return [self.log_in(address, user) for _ in range(times)]


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Door:
    monkeypatch.setenv("ETL_UI_PORT", str(UI))
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "10.42.0.0/16")
    return Door()


@pytest.mark.parametrize(
    ("host", "path", "location"),
    [
        ("etl.example.com", "/dags?state=failed&x=%20", "https://etl.example.com/dags?state=failed&x=%20"),
        ("etl.example.com:80", "/", "https://etl.example.com/"),
        ("[2001:db8::1]:80", "/grafana/d/overview", "https://[2001:db8::1]/grafana/d/overview"),
    ],
)
def test_plain_http_from_outside_is_sent_to_https(door: Door, host: str, path: str, location: str) -> None:
    status, headers = door.ask(path, host=host, x_forwarded_proto="http")
    assert (status, headers["location"]) == (308, location)
    assert door.passed == 0


@pytest.mark.parametrize("path", ["/", "/auth/login/", "/execution/docs"])
def test_browsers_are_told_what_to_refuse(door: Door, path: str) -> None:
    _, headers = door.ask(path, x_forwarded_proto="https")
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "SAMEORIGIN"
    assert headers["referrer-policy"] == "same-origin"
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["form-action"] == policy["frame-ancestors"] == policy["base-uri"] == "'self'"
    assert policy["object-src"] == "'none'"
    assert ("'unsafe-inline'" in policy["script-src"]) == path.startswith("/auth/")
    assert "'unsafe-eval'" not in policy["script-src"]


def test_what_airflow_says_itself_is_not_said_twice(door: Door) -> None:
    door.answer = (200, {"X-Frame-Options": "DENY"})
    headers = door.ask()[1]
    assert headers["X-Frame-Options"] == "DENY"
    assert "x-frame-options" not in headers


CLOSED = (
    *("/execution", "/execution/health", "/execution/task-instances/1/run", "/execution/docs"),
    *("/docs", "/redoc", "/openapi.json", "/docs/oauth2-redirect"),
    *("/auth/api/v1/security/login", "/auth/api/v1/security/refresh"),
    *("/auth/docs", "/auth/redoc", "/auth/openapi.json"),
)


def spellings(path: str) -> st.SearchStrategy[str]:
    """Ways to write a path that one server or another takes for the same."""
    between = st.sampled_from(["/", "//", "///", "/./", "/x/../", "\\", "/;a=b/"])
    letters = [st.sampled_from([letter, letter.upper()]) for letter in path if letter != "/"]
    end = st.sampled_from(["", "/", "//", "/.", ";x", " "])

    @st.composite
    def one(draw: st.DrawFn) -> str:
        rest = iter(letters)
        return "".join(draw(between) if letter == "/" else draw(next(rest)) for letter in path) + draw(end)

    return one()


@pytest.mark.parametrize("path", CLOSED)
def test_what_is_not_for_people_is_not_there_however_it_is_written(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setenv("ETL_UI_PORT", str(UI))
    door = Door()

    @given(spellings(path), st.sampled_from(["https", "http", None]), st.sampled_from(["GET", "POST", "PATCH"]))
    def is_not_there(written: str, came_by: str | None, method: str) -> None:
        headers: dict[str, Any] = {"x_forwarded_proto": came_by} if came_by else {}
        assert door.ask(written, method, **headers)[0] == 404

    is_not_there()
    assert door.passed == 0


@pytest.mark.parametrize(
    "path", ["/", "/dags/docs", "/api/v2/version", "/ui/config", "/auth/users/list/", "/static/a.js"]
)
def test_what_is_for_people_is(door: Door, path: str) -> None:
    assert door.ask(path, x_forwarded_proto="https")[0] == 200


@pytest.mark.parametrize(
    "path", ["/auth/token", "/auth/login/", "/", "/api/v2/dags", "/docs", "//execution/x", "/executionx"]
)
def test_a_worker_finds_the_execution_api_and_nothing_else(door: Door, path: str) -> None:
    assert door.ask("/execution/health", peer=WORKER, port=WORKERS) == (200, {})
    # Whatever it says of itself.
    said: dict[str, Any] = {"x_forwarded_for": "127.0.0.1", "x_forwarded_proto": "https", "x_real_ip": "127.0.0.1"}
    for method in ("GET", "POST"):
        assert door.ask(path, method, peer=WORKER, port=WORKERS, **said)[0] == 404
    assert door.passed == 1


@pytest.mark.parametrize("peer", ["127.0.0.1", "::1"])
def test_who_comes_by_port_forward_finds_all(door: Door, peer: str) -> None:
    for path in ("/api/v2/dags", "/auth/token", "/execution/health", "/openapi.json"):
        assert door.ask(path, peer=peer, port=WORKERS)[0] == 200


def test_where_there_is_one_port_all_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ETL_UI_PORT", raising=False)
    door = Door()
    for path in ("/", "/execution/health", "/docs"):
        assert door.ask(path, peer="192.0.2.1", port=8080)[0] == 200
    # Nobody is Traefik there, so nobody is believed.
    assert door.ask("/", peer="127.0.0.1", port=8080, x_forwarded_for="198.51.100.1")[0] == 200
    assert door.client == "127.0.0.1"


@pytest.mark.parametrize(("peer", "client"), [(TRAEFIK, "198.51.100.1"), ("192.0.2.9", "192.0.2.9")])
def test_pods_alone_are_believed_about_where_a_request_comes_from(door: Door, peer: str, client: str) -> None:
    door.ask(peer=peer, x_forwarded_for="198.51.100.1")
    assert door.client == client


@pytest.mark.parametrize("path", ["/auth/token", "/auth/token/cli", "/auth/login/"])
def test_failed_logins_are_bounded_however_the_path_is_written(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setenv("ETL_UI_PORT", str(UI))
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "10.42.0.0/16")
    door = Door()
    assert door.fail(MOST_FAILURES) == [401] * MOST_FAILURES

    @given(spellings(path))
    def is_refused(written: str) -> None:
        assert door.log_in(path=written) == 429

    is_refused()
    assert door.passed == MOST_FAILURES


def test_who_is_refused_is_told_for_how_long(door: Door) -> None:
    door.fail(MOST_FAILURES)
    body = urlencode({"username": "admin", "password": "x"}).encode()
    status, headers = door.ask("/auth/login/", "POST", body, content_type=FORM, x_forwarded_for="198.51.100.1")
    assert (status, int(headers["retry-after"])) == (429, WINDOW_SECONDS + 1)


@pytest.mark.parametrize("answer", [(201, {}), (302, {"set-cookie": "_token=a; Path=/; HttpOnly"}), (503, {})])
def test_those_that_are_not_refused_are_not_counted(door: Door, answer: tuple[int, dict[str, str]]) -> None:
    door.answer = answer
    assert {door.log_in() for _ in range(3 * MOST_OVERALL)} == {answer[0]}


def test_a_server_in_trouble_keeps_nobody_out(door: Door) -> None:
    """As while its database is away: what goes wrong behind the door passes through it."""
    door.answer = (0, {})
    for _ in range(3 * MOST_FAILURES):
        with pytest.raises(OSError, match="no database"):
            door.log_in()
    door.answer = (201, {})
    assert door.log_in() == 201


def test_after_the_window_there_is_another_chance(door: Door) -> None:
    door.fail(MOST_FAILURES)
    door.now += WINDOW_SECONDS - 1
    assert door.log_in() == 429
    door.now += 2
    assert door.log_in() == 401


def test_the_wrong_passwords_of_one_person_keep_out_nobody_else(door: Door) -> None:
    """Also where all have one address, as behind a router that translates addresses."""
    door.fail(2 * MOST_FAILURES, user="ann")
    assert door.log_in(user="bob") == 401
    assert door.log_in(user="ann", address="198.51.100.2") == 401


def test_nor_one_user_from_many_addresses(door: Door) -> None:
    assert 429 not in [door.fail(1, address=f"198.51.100.{number}")[0] for number in range(MOST_OVERALL)]
    assert door.log_in(address="203.0.113.1") == 429
    assert door.log_in(address="203.0.113.1", user="bob") == 401


def test_the_many_addresses_of_an_ipv6_network_are_one(door: Door) -> None:
    statuses = [door.fail(1, address=f"2001:db8::{number:x}")[0] for number in range(1, MOST_FAILURES + 2)]
    assert statuses[-1] == 429
    assert door.log_in(address="2001:db8:1::1") == 401


def test_who_has_logged_in_is_not_locked_out_by_others(door: Door) -> None:
    door.answer = (201, {})
    assert door.log_in() == 201
    for number in range(2 * MOST_OVERALL):
        door.fail(1, address=f"203.0.113.{number}")
    assert door.log_in(address="203.0.113.200") == 429
    door.answer = (201, {})
    assert door.log_in() == 201


@pytest.mark.parametrize("user", ["ADMIN", "Admin", " admin ", "\uff41dmin", "adm\u0130n"])
def test_a_user_is_known_in_every_spelling(door: Door, user: str) -> None:
    door.fail(MOST_FAILURES)
    assert door.log_in(user=user) == 429


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (FORM, b"username=admin&password=x"),
        (FORM, b"password=x&%75sername=%61dmin&username=other"),
        (f"{FORM}; charset=utf-8", b"username=admin"),
        (JSON, b'{"username": "other", "username": "admin"}'),
        (JSON, '{"username": "admin"}'.encode("utf-16")),
    ],
)
def test_the_user_is_the_one_that_airflow_takes(door: Door, kind: str, body: bytes) -> None:
    door.fail(MOST_FAILURES)
    headers: dict[str, Any] = {"content_type": kind, "x_forwarded_for": "198.51.100.1"}
    assert door.ask("/auth/login/", "POST", body, **headers)[0] == 429


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("multipart/form-data; boundary=x", b"--x", 415),
        ("text/plain", b"username=admin", 415),
        (JSON, b"{", 415),
        ("", b"", 415),
        (FORM, b"username=" + b"a" * MOST_LOGIN_BYTES, 413),
    ],
)
def test_what_airflow_might_read_another_way_it_is_not_given(door: Door, kind: str, body: bytes, status: int) -> None:
    assert door.ask("/auth/login/", "POST", body, content_type=kind)[0] == status
    assert door.passed == 0


def test_airflow_is_given_the_body_that_was_read(door: Door) -> None:
    door.ask("/auth/login/", "POST", b"username=a&password=b", content_type=FORM)
    assert door.body == b"username=a&password=b"


def test_that_a_page_is_looked_at_is_no_login(door: Door) -> None:
    door.fail(MOST_FAILURES)
    assert door.ask("/auth/login/", x_forwarded_for="198.51.100.1")[0] == 401


def test_many_at_once_are_no_more_than_many_in_turn() -> None:
    begun = 0
    release = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        nonlocal begun
        begun += 1
        await release.wait()
        await send({"type": "http.response.start", "status": 401, "headers": []})

    async def run() -> None:
        door = FrontDoor(slow)
        headers = [(b"content-type", JSON.encode())]
        scope = {"type": "http", "method": "POST", "path": "/auth/token", "client": ("::1", 1), "headers": headers}

        async def body() -> Any:
            return {"type": "http.request", "body": b"{}"}

        async def nothing(_message: Any) -> None:
            pass

        logins = [asyncio.create_task(door(dict(scope), body, nothing)) for _ in range(5 * MOST_FAILURES)]
        await asyncio.sleep(0)
        release.set()
        await asyncio.gather(*logins)

    asyncio.run(run())
    assert begun == MOST_FAILURES


@pytest.fixture
def sso(monkeypatch: pytest.MonkeyPatch) -> Door:
    """The door where people sign in at an identity provider, and a script has a password."""
    monkeypatch.setenv("ETL_UI_PORT", str(UI))
    monkeypatch.setenv("OIDC_ISSUER", "https://login.example.com")
    monkeypatch.setenv("OIDC_LOCAL_USERS", "robot")
    made = Door()
    made.answer = (201, {})
    return made


def test_with_an_identity_provider_few_accounts_can_use_a_password(sso: Door) -> None:
    assert [sso.log_in(user=user) for user in ("admin", "ada", "robot@example.com", "")] == [403] * 4
    assert sso.passed == 0
    assert sso.log_in(user="Robot") == 201


def test_nor_can_the_form_be_sent(sso: Door) -> None:
    body = urlencode({"username": "admin", "password": "any"}).encode()
    assert sso.ask("/auth//login/", "POST", body, content_type=FORM)[0] == 403


def test_who_comes_by_port_forward_can_use_any_password(sso: Door) -> None:
    body = json.dumps({"username": "admin", "password": "any"}).encode()
    assert sso.ask("/auth/token", "POST", body, peer="127.0.0.1", port=WORKERS, content_type=JSON)[0] == 201
