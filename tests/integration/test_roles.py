"""Viewer, User and Op try to get more rights at Airflow's real API server: one table, a row an attempt.

Op may plant the connection kubernetes_default; test_edited_connections.py shows that nothing asks for it.
"""

import base64
import json
import secrets
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from dev.sandbox.postgres import Postgres
from tests.harness.airflow.api_server import PASSWORD, Server, new_client, run_api_server

SECRET = f"hidden-{secrets.token_hex(8)}"
"""The password in a connection, and the value of a variable that is named like one."""
ROLES = ("Viewer", "User", "Op")
KUBECONFIG = {"connection_id": "kubernetes_default", "conn_type": "kubernetes", "extra": '{"kube_config": "{}"}'}
NO_CONNECTION = {"connection_id": "none", "conn_type": "generic"}
RUN = {"dag_run_id": "no-such-run"}
ADMIN_ROLE = {"roles": [{"name": "Admin"}]}


class Attempt(NamedTuple):
    """A request, and the status that each of ROLES is answered: 404 where it is allowed and the target is missing."""

    what: str
    method: str
    path: str
    body: Any
    viewer: int
    user: int
    op: int


def nobody(what: str, method: str, path: str, body: Any = None, status: int = 403) -> Attempt:
    """An attempt that all are refused."""
    return Attempt(what, method, path, body, status, status, status)


ATTEMPTS = [
    # Secrets and settings.
    Attempt("read connections", "GET", "/api/v2/connections", None, 403, 403, 200),
    Attempt("read the password in a connection", "GET", "/api/v2/connections/of_somebody", None, 403, 403, 200),
    Attempt("read variables", "GET", "/api/v2/variables", None, 403, 403, 200),
    Attempt("read a variable with a password", "GET", "/api/v2/variables/api_password", None, 403, 403, 200),
    nobody("read the configuration", "GET", "/api/v2/config"),
    nobody("read the key of cookies", "GET", "/api/v2/config/section/api/option/secret_key"),
    nobody("have the API server connect", "POST", "/api/v2/connections/test", KUBECONFIG),
    Attempt("plant kubernetes_default", "POST", "/api/v2/connections", KUBECONFIG, 403, 403, 201),
    Attempt("change a connection", "PATCH", "/api/v2/connections/none", NO_CONNECTION, 403, 403, 404),
    Attempt("delete a connection", "DELETE", "/api/v2/connections/none", None, 403, 403, 404),
    Attempt("set a variable", "POST", "/api/v2/variables", {"key": "mine", "value": "x"}, 403, 403, 201),
    Attempt("make a pool", "POST", "/api/v2/pools", {"name": "mine", "slots": 1}, 403, 403, 201),
    Attempt("delete a pool", "DELETE", "/api/v2/pools/none", None, 403, 403, 404),
    Attempt("list plugins", "GET", "/api/v2/plugins", None, 403, 403, 200),
    # DAGs.
    Attempt("pause a DAG", "PATCH", "/api/v2/dags/orders_etl", {"is_paused": True}, 403, 200, 200),
    Attempt("trigger a DAG", "POST", "/api/v2/dags/none/dagRuns", {"logical_date": None}, 403, 404, 404),
    Attempt("clear a run", "POST", "/api/v2/dags/none/clearTaskInstances", RUN, 403, 404, 404),
    Attempt("delete a DAG", "DELETE", "/api/v2/dags/none", None, 403, 404, 404),
    nobody("read who did what", "GET", "/api/v2/eventLogs"),
    # Other people, and the own role.
    nobody("list users", "GET", "/auth/fab/v1/users"),
    nobody("make a user", "POST", "/auth/fab/v1/users", {"username": "x", "email": "x", **ADMIN_ROLE}),
    nobody("become Admin", "PATCH", "/auth/fab/v1/users/{self}?update_mask=roles", ADMIN_ROLE),
    nobody("set the administrator's password", "PATCH", "/auth/fab/v1/users/admin", {"password": "x"}),
    nobody("delete the administrator", "DELETE", "/auth/fab/v1/users/admin"),
    nobody("list roles", "GET", "/auth/fab/v1/roles"),
    nobody("give the own role a right", "PATCH", "/auth/fab/v1/roles/{role}", {"name": "{role}", "actions": []}),
    nobody("make a role", "POST", "/auth/fab/v1/roles", {"name": "mine", "actions": []}),
    # What is not there for people, with a token or without.
    nobody("the second login", "POST", "/auth/api/v1/security/login", {"username": "admin"}, 404),
    nobody("a token of the second login", "POST", "/auth/api/v1/security/refresh", {}, 404),
    nobody("the sink's password, as a worker", "GET", "/execution/connections/sink", None, 404),
    nobody("speak for a task", "PATCH", "/execution/task-instances/0/run", {}, 404),
    nobody("descriptions of the APIs", "GET", "/openapi.json", None, 404),
]  # fmt: skip
PAGES = [
    "/auth/users/list/",
    "/auth/users/add",
    "/auth/users/edit/1",
    "/auth/roles/list/",
    "/auth/roles/edit/1",
    "/auth/resetpassword/form?pk=1",
    "/auth/permissions/list/",
]
"""Of Flask-AppBuilder's, which change users and roles."""


@pytest.fixture(scope="module")
def server(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with run_api_server(postgres, tmp_path_factory.mktemp("api-server"), ["dags", "reserialize"]) as made:
        admin = made.token_of("admin")
        held = {"connection_id": "of_somebody", "conn_type": "generic", "password": SECRET}
        assert made.call("POST", "/api/v2/connections", held, admin)[0] == 201
        assert made.call("POST", "/api/v2/variables", {"key": "api_password", "value": SECRET}, admin)[0] == 201
        for role in ROLES:
            made.new_user(role, role)
        yield made


@pytest.fixture(scope="module")
def tokens(server: Server) -> dict[str, str]:
    return {role: server.token_of(role) for role in ROLES}


def ask(server: Server, method: str, path: str, body: Any, **headers: str) -> tuple[int, str]:
    """Status and text of an answer at the port for people."""
    came = {"X-Forwarded-For": new_client(), "X-Forwarded-Proto": "https", "Content-Type": "application/json"}
    status, _, text = server.ask(method, path, "" if body is None else json.dumps(body), **came, **headers)
    return status, text


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("attempt", ATTEMPTS, ids=lambda attempt: attempt.what)
def test_a_role_can_do_what_it_is_for_and_nothing_that_makes_more_of_it(
    server: Server, tokens: dict[str, str], attempt: Attempt, role: str
) -> None:
    names = {"{self}": role, "{role}": role}
    path, body = attempt.path, attempt.body
    for name, value in names.items():
        path, body = path.replace(name, value), json.loads(json.dumps(body).replace(name, value))
    status, text = ask(server, attempt.method, path, body, Authorization=f"Bearer {tokens[role]}")
    assert status == attempt[4 + ROLES.index(role)], text
    assert SECRET not in text


def session(server: Server, user: str) -> str:
    """The cookies of a login by the form."""
    _, cookies = server.form(new_client(), user).send(PASSWORD)
    return "; ".join(cookie.partition(";")[0] for cookie in cookies)


@pytest.mark.parametrize("role", ROLES)
def test_pages_about_users_and_roles_are_shown_to_no_role_below_admin(server: Server, role: str) -> None:
    cookies = session(server, role)
    found = {path: ask(server, "GET", path, None, Cookie=cookies)[0] for path in PAGES}
    assert found == dict.fromkeys(PAGES, 302)


def test_the_administrator_is_refused_only_what_nobody_can_do(server: Server) -> None:
    """Else the refusals would say nothing."""
    admin, cookies = server.token_of("admin"), session(server, "admin")
    refused = set()
    for attempt in ATTEMPTS:
        path = attempt.path.replace("users/admin", "users/none").replace("{self}", "none").replace("{role}", "none")
        if attempt.op == 403:
            status, _ = ask(server, attempt.method, path, attempt.body, Authorization=f"Bearer {admin}")
            refused |= {attempt.what} if status == 403 else set()
    assert refused == {"read the configuration", "read the key of cookies", "have the API server connect"}
    assert {ask(server, "GET", path, None, Cookie=cookies)[0] for path in PAGES} == {200}


def test_nobody_becomes_another_by_changing_a_token(server: Server, tokens: dict[str, str]) -> None:
    header, claims, signature = tokens["Op"].split(".")

    def encoded(content: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")

    content = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    assert content["sub"] != "1"
    other = encoded({**content, "sub": "1"})
    unsigned = encoded({"alg": "none", "typ": "JWT"})
    for token in (f"{header}.{other}.{signature}", f"{unsigned}.{other}.", f"{header}.{other}."):
        for given in ({"Authorization": f"Bearer {token}"}, {"Cookie": f"_token={token}"}):
            assert ask(server, "GET", "/auth/fab/v1/users", None, **given)[0] in (401, 403)
