"""Airflow's real API server prints who did what: what Fluent Bit brings to Loki (test_fluent_bit_real.py)."""

import json
import secrets
from collections.abc import Iterator

import pytest

from dev.sandbox.postgres import Postgres
from tests.harness.airflow.api_server import Server, run_api_server


def log_in(server: Server, password: str, user: str = "admin") -> int:
    return server.call("POST", "/auth/token", {"username": user, "password": password})[0]


@pytest.fixture(scope="module")
def server(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with run_api_server(postgres, tmp_path_factory.mktemp("api-server")) as running:
        yield running


def test_who_changed_what_is_told_without_the_secret(server: Server) -> None:
    token = server.token_of("admin")
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
    assert value not in server.log.read_text()


def test_a_login_that_failed_is_told_also_of_a_user_that_there_is_not(server: Server) -> None:
    assert [log_in(server, "wrong"), log_in(server, "wrong", 'nobody"\n{"audit"')] == [401, 401]
    told = [line["user"] for line in server.trail() if line["event"] == "login_failed"]
    assert told == ["admin", 'nobody"\n{"audit"']


def test_who_is_not_logged_in_leaves_no_line(server: Server) -> None:
    before = server.trail()
    assert server.call("POST", "/api/v2/pools", {"name": "other", "slots": 1})[0] == 401
    assert server.trail() == before
