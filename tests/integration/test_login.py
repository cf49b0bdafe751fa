"""Airflow's real API server with the deployment's settings and ports: access by port, limits on password guesses."""

import json
import socket
import string
from collections.abc import Iterator

import psycopg
import pytest
from etl_airflow.web.failed_logins import MOST_FAILURES, MOST_OVERALL, user_in
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dev.sandbox.postgres import Postgres
from tests.harness.airflow.api_server import PASSWORD, STRANGER, Server, new_client, run_api_server

slow = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def server(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with run_api_server(postgres, tmp_path_factory.mktemp("api-server")) as made:
        yield made


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
    """An address of this machine other than loopback: requests from it are as from another pod."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("This machine has no address but loopback's.")
        return str(asking.getsockname()[0])


def test_a_worker_finds_the_execution_api_and_can_try_no_password(server: Server, own_address: str) -> None:
    def ask(method: str, path: str, body: str = "") -> int:
        headers = {"X-Forwarded-For": new_client(), "X-Forwarded-Proto": "https"}
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


def test_letters_that_the_database_takes_for_one_are_one_to_the_bound(postgres: Postgres) -> None:
    """Airflow finds a user by lower(), as the locale of the database has it: C.UTF-8 (k8s/base/metadata/prepare.sh)."""
    name = "letters"
    with psycopg.connect(postgres.create_database(name)) as connection:
        assert connection.execute("SELECT datctype FROM pg_database WHERE datname = %s", [name]).fetchone() == (
            "C.UTF-8",
        )
        letters = "SELECT chr(code) FROM generate_series(1, 1114111) code WHERE code NOT BETWEEN 55296 AND 57343"
        alike = f"SELECT array_agg(l) FROM ({letters}) t (l) GROUP BY lower(l) HAVING count(*) > 1"
        found = connection.execute(alike.encode()).fetchall()
    postgres.drop_database(name)
    for (same,) in found:
        assert len({bound_of(f"x{letter}x") for letter in same} - {None}) <= 1, same
    assert bound_of("x\N{LATIN SMALL LETTER E WITH ACUTE}x") is not None
    assert bound_of("x\u0378x") is None, "a letter that is in no Unicode yet"


def bound_of(name: str) -> str | None:
    """The counter of failed logins of a name; None where it is refused."""
    try:
        return user_in(b"application/json", json.dumps({"username": name}).encode())
    except ValueError:
        return None
