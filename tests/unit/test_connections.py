"""Airflow's connections come from the variables of the ETL steps: one place for address, password and TLS."""

import json
from typing import Any

import pytest
from airflow.secrets import BaseSecretsBackend
from etl_connections import UrlConnections


def connection(monkeypatch: pytest.MonkeyPatch, conn_id: str, **variables: str) -> Any:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    text = UrlConnections().get_conn_value(conn_id)
    return None if text is None else json.loads(text)


@pytest.fixture(autouse=True)
def without_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SOURCE_URL", "SOURCE_PASSWORD", "SINK_URL", "SINK_PASSWORD"):
        monkeypatch.delenv(name, raising=False)


def test_the_source_is_a_postgres_connection_with_its_tls_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql://orders@db:5433/shop?sslmode=verify-full"
    assert connection(monkeypatch, "source", SOURCE_URL=url, SOURCE_PASSWORD='p@:/"\\s') == {
        "conn_type": "postgres",
        "host": "db",
        "port": 5433,
        "login": "orders",
        "password": 'p@:/"\\s',
        "schema": "shop",
        "extra": {"sslmode": "verify-full"},
    }


def test_the_sink_is_a_sql_server_connection_with_an_explicit_port(monkeypatch: pytest.MonkeyPatch) -> None:
    found = connection(monkeypatch, "sink", SINK_URL="mssql://etl:a%40b@mssql-svc/sink")
    assert (found["conn_type"], found["port"], found["password"], found["schema"]) == ("mssql", 1433, "a@b", "sink")
    assert found["extra"] == {}


@pytest.mark.parametrize(("encrypt", "asked"), [("yes", "require"), ("strict", "require"), ("no", "off")])
def test_encryption_is_what_the_url_says(monkeypatch: pytest.MonkeyPatch, encrypt: str, asked: str) -> None:
    url = f"mssql://etl@mssql-svc:1433/sink?encrypt={encrypt}&trustservercertificate=yes"
    assert connection(monkeypatch, "sink", SINK_URL=url)["extra"] == {"encryption": asked}


def test_what_is_not_set_or_not_ours_is_left_to_airflow(monkeypatch: pytest.MonkeyPatch) -> None:
    assert connection(monkeypatch, "source") is None
    assert connection(monkeypatch, "elsewhere", ELSEWHERE_URL="postgresql://a@b/c") is None


def test_airflow_makes_a_connection_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SINK_URL", "mssql://etl@mssql-svc:1433/sink?encrypt=no")
    monkeypatch.setenv("SINK_PASSWORD", "secret")
    backend: BaseSecretsBackend = UrlConnections()
    made = backend.get_connection("sink")
    assert made is not None
    assert (made.host, made.password, made.extra_dejson) == ("mssql-svc", "secret", {"encryption": "off"})
