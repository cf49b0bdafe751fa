"""Airflow's connections come from the variables of the ETL steps: one place for address, password and TLS."""

import json
from typing import Any

import pytest
from airflow.sdk._shared.secrets_masker import should_hide_value_for_key
from etl_airflow.secrets_backend import UrlConnections


def connection(monkeypatch: pytest.MonkeyPatch, conn_id: str, **variables: str) -> Any:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    text = UrlConnections().get_conn_value(conn_id)
    return None if text is None else json.loads(text)


@pytest.fixture(autouse=True)
def without_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for side in ("SOURCE", "SINK"):
        for name in ("URL", "PASSWORD", "PASSWORD_FILE", "CA_FILE"):
            monkeypatch.delenv(f"{side}_{name}", raising=False)
    monkeypatch.delenv("MASK_KEY", raising=False)


def test_the_source_is_a_postgres_connection_with_its_tls_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql://orders@db:5433/shop?sslmode=require"
    assert connection(monkeypatch, "source", SOURCE_URL=url, SOURCE_PASSWORD='p@:/"\\s') == {
        "conn_type": "postgres",
        "host": "db",
        "port": 5433,
        "login": "orders",
        "password": 'p@:/"\\s',
        "schema": "shop",
        "extra": {"sslmode": "require"},
    }


def test_the_source_is_verified_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {"SOURCE_URL": "postgresql://orders@db/shop?hostaddr=192.0.2.7", "SOURCE_CA_FILE": "/trust/ca.crt"}
    assert connection(monkeypatch, "source", **variables)["extra"] == {
        "hostaddr": "192.0.2.7",
        "sslmode": "verify-full",
        "sslrootcert": "/trust/ca.crt",
    }


def test_the_sink_is_a_sql_server_connection_with_an_explicit_port(monkeypatch: pytest.MonkeyPatch) -> None:
    found = connection(monkeypatch, "sink", SINK_URL="mssql://etl:a%40b@mssql-svc/sink")
    assert (found["conn_type"], found["port"], found["password"], found["schema"]) == ("mssql", 1433, "a@b", "sink")


@pytest.mark.parametrize(
    ("options", "extra"),
    [
        ("", {"encryption": "require", "ca_file": "/trust/ca.crt"}),
        ("encrypt=strict", {"encryption": "require", "ca_file": "/trust/ca.crt"}),
        (
            "hostnameincertificate=sql.example.com",
            {"encryption": "require", "ca_file": "/trust/ca.crt", "certificate_name": "sql.example.com"},
        ),
        ("trustservercertificate=yes", {"encryption": "require"}),
        ("encrypt=no", {"encryption": "off"}),
    ],
)
def test_the_sink_is_verified_unless_its_url_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, options: str, extra: dict[str, str]
) -> None:
    variables = {"SINK_URL": f"mssql://etl@mssql-svc:1433/sink?{options}", "SINK_CA_FILE": "/trust/ca.crt"}
    assert connection(monkeypatch, "sink", **variables)["extra"] == extra


def test_what_is_not_set_or_not_ours_is_left_to_airflow(monkeypatch: pytest.MonkeyPatch) -> None:
    assert connection(monkeypatch, "source") is None
    assert connection(monkeypatch, "elsewhere", ELSEWHERE_URL="postgresql://a@b/c") is None


def test_the_cluster_of_operators_is_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert connection(monkeypatch, "kubernetes_default") == {"conn_type": "kubernetes", "extra": {"in_cluster": True}}


def test_what_masks_are_made_with_goes_to_plan_with_the_sink_and_under_a_name_that_airflow_hides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = "sixteen or more characters"
    found = connection(monkeypatch, "sink", SINK_URL="mssql://etl@db/sink?encrypt=no", MASK_KEY=key)
    assert found["extra"] == {"encryption": "off", "mask_secret": key}
    assert should_hide_value_for_key("mask_secret")  # type: ignore[no-untyped-call]
