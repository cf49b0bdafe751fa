"""Airflow's connections come from the variables of the ETL steps: one place for address, password and TLS."""

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk._shared.secrets_masker import should_hide_value_for_key
from airflow.secrets import BaseSecretsBackend
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


@pytest.mark.parametrize("side", ["source", "sink"])
def test_a_password_may_be_in_a_file_as_for_the_steps(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, side: str
) -> None:
    (tmp_path / "password").write_text("p@:/ s\n")
    urls = {"source": "postgresql://orders@db/shop", "sink": "mssql://etl@db/shop"}
    variables = {f"{side.upper()}_URL": urls[side], f"{side.upper()}_PASSWORD_FILE": str(tmp_path / "password")}
    assert connection(monkeypatch, side, **variables)["password"] == "p@:/ s"


def test_several_hosts_and_libpq_s_options_are_those_of_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql://orders:x@h1:5432,h2:5433/shop?target_session_attrs=read-write&sslmode=require"
    found = connection(monkeypatch, "source", SOURCE_URL=url)
    assert (found["host"], found["port"], found["login"], found["schema"]) == ("h1,h2", None, "orders", "shop")
    assert found["extra"] == {"port": "5432,5433", "target_session_attrs": "read-write", "sslmode": "require"}


def test_an_ipv6_address_of_the_sink_is_written_as_pymssql_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = connection(monkeypatch, "sink", SINK_URL="mssql://etl:x@[2001:db8::7]:1434/shop")
    assert (found["host"], found["port"]) == ("[2001:db8::7]:1434", 1434)


@pytest.mark.parametrize("side", ["source", "sink"])
def test_a_setting_that_cannot_be_read_goes_along_as_a_sentence(monkeypatch: pytest.MonkeyPatch, side: str) -> None:
    scheme = "postgresql" if side == "source" else "mssql"
    variable = f"{side.upper()}_URL"
    found = connection(monkeypatch, side, **{variable: f"{scheme}://etl:Tr0ub4dor@3/Xy@db/shop"})
    assert found["extra"]["refused"].startswith(f"{variable} is not a URL such as {scheme}://")
    assert set(found) == {"conn_type", "extra"}
    assert "3/Xy" not in json.dumps(found)
    made = UrlConnections().get_connection(side)
    assert made is not None
    assert made.get_uri()  # or Airflow would say that there is no such connection


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


def test_the_cluster_of_operators_is_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert connection(monkeypatch, "kubernetes_default") == {"conn_type": "kubernetes", "extra": {"in_cluster": True}}


def test_what_masks_are_made_with_goes_to_plan_with_the_sink_and_under_a_name_that_airflow_hides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = "sixteen or more characters"
    found = connection(monkeypatch, "sink", SINK_URL="mssql://etl@db/sink?encrypt=no", MASK_KEY=key)
    assert found["extra"] == {"encryption": "off", "mask_secret": key}
    assert should_hide_value_for_key("mask_secret")  # type: ignore[no-untyped-call]
