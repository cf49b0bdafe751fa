"""Connections come by environment or file, are checked at the edge, and never show a password."""

import re
from pathlib import Path

import pytest
from etl.errors import ConfigurationError
from etl.settings import Settings, read_settings

VARIABLES = ("URL", "CA_FILE", "PASSWORD", "PASSWORD_FILE", "ADMIN_USER", "ADMIN_PASSWORD", "ADMIN_PASSWORD_FILE")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for side in ("SOURCE", "SINK"):
        for variable in VARIABLES:
            monkeypatch.delenv(f"{side}_{variable}", raising=False)


def sink(monkeypatch: pytest.MonkeyPatch, url: str) -> str:
    monkeypatch.setenv("SINK_URL", url)
    return read_settings().sink().get_secret_value()


def test_the_sink_is_verified_by_default_and_plain_on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Encrypt={yes};TrustServerCertificate={no}" in sink(monkeypatch, "mssql://sa:x@db.example:1433/shop")
    assert "Encrypt={no}" in sink(monkeypatch, "mssql://sa:x@127.0.0.1:1433/shop")
    assert "Encrypt={strict}" in sink(monkeypatch, "mssql://sa:x@127.0.0.1/shop?encrypt=strict")
    assert "TrustServerCertificate={yes}" in sink(monkeypatch, "mssql://sa:x@db/shop?TrustServerCertificate=true")


def test_a_password_may_hold_any_character(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    password = "p@ss;w}o{r/d:€ %41"
    (tmp_path / "password").write_text(password + "\n")
    monkeypatch.setenv("SINK_PASSWORD_FILE", str(tmp_path / "password"))
    assert "PWD={p@ss;w}}o{r/d:€ %41}" in sink(monkeypatch, "mssql://sa@db/shop")
    monkeypatch.setenv("SOURCE_URL", "postgresql://orders@db/shop?sslmode=require")
    monkeypatch.setenv("SOURCE_PASSWORD", password)
    source = read_settings().source().get_secret_value()
    assert source == "postgresql://orders:p%40ss%3Bw%7Do%7Br%2Fd%3A%E2%82%AC%20%2541@db:5432/shop?sslmode=require"


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("db/shop", "sslmode=verify-full&sslrootcert={ca}"),
        ("db/shop?application_name=a+b", "application_name=a+b&sslmode=verify-full&sslrootcert={ca}"),
        ("db/shop?sslmode=verify-ca", "sslmode=verify-ca&sslrootcert={ca}"),
        ("db/shop?sslmode=verify-full&sslrootcert=mine", "sslmode=verify-full&sslrootcert=mine"),
        ("db/shop?sslmode=disable", "sslmode=disable"),
        ("localhost/shop", ""),
        ("127.0.0.1/shop?sslmode=verify-full", "sslmode=verify-full&sslrootcert={ca}"),
    ],
)
def test_the_source_is_verified_unless_its_url_says_otherwise_or_no_network_is_crossed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str, options: str
) -> None:
    (tmp_path / "ca.crt").touch()
    monkeypatch.setenv("SOURCE_URL", f"postgresql://orders:x@{url}")
    monkeypatch.setenv("SOURCE_CA_FILE", str(tmp_path / "ca.crt"))
    source = read_settings().source().get_secret_value()
    assert source.partition("?")[2] == options.format(ca=tmp_path / "ca.crt")


def test_without_a_file_of_their_own_the_authorities_are_those_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_URL", "postgresql://orders:x@db/shop")
    assert re.search("sslrootcert=(/etc/ssl/.+|system)$", read_settings().source().get_secret_value())


@pytest.mark.parametrize("side", ["SOURCE", "SINK"])
def test_a_file_of_authorities_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, side: str) -> None:
    monkeypatch.setenv("SOURCE_URL", "postgresql://orders:x@db/shop")
    monkeypatch.setenv("SINK_URL", "mssql://sa:x@db/shop")
    monkeypatch.setenv(f"{side}_CA_FILE", "/nonexistent/ca.crt")
    with pytest.raises(ConfigurationError, match=rf"{side}_CA_FILE \(/nonexistent/ca.crt\) is no file"):
        getattr(read_settings(), side.lower())()


def test_the_name_in_the_certificate_of_the_sink_may_be_another(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "mssql://sa:x@192.0.2.8/shop?hostNameInCertificate=sql.example.com"
    assert "HostnameInCertificate={sql.example.com}" in sink(monkeypatch, url)


@pytest.mark.parametrize(
    ("source", "sink", "told"),
    [
        ("db/shop", "db/shop", ""),
        ("127.0.0.1/shop?sslmode=disable", "localhost/shop?encrypt=no", ""),
        ("db/shop?sslmode=disable", "db/shop", "the source is reached in plain text (sslmode=disable)"),
        ("db/shop?sslmode=prefer", "db/shop", "the source may be reached in plain text, by anybody who poses as it"),
        ("db/shop?sslmode=verify-ca", "db/shop", "whoever has a certificate of the same authority"),
        ("db/shop", "db/shop?encrypt=no", "the sink is reached in plain text (encrypt=no)"),
        ("db/shop", "db/shop?trustservercertificate=yes", "anybody could pose as the sink"),
        ("db/shop", "db/shop?encrypt=strict&trustservercertificate=yes", ""),
        ("db/shop?sslmode=require", "db/shop?encrypt=no", "the source (sslmode=require); the sink is reached in plain"),
    ],
)
def test_what_is_not_verified_is_told(monkeypatch: pytest.MonkeyPatch, source: str, sink: str, told: str) -> None:
    monkeypatch.setenv("SOURCE_URL", f"postgresql://orders:hunter2@{source}")
    monkeypatch.setenv("SINK_URL", f"mssql://etl:hunter2@{sink}")
    found = read_settings().doubts()
    assert told in found
    assert bool(found) == bool(told)
    assert "hunter2" not in found


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("", "SINK_URL is not a URL"),
        ("sa:hunter2@db/shop", "SINK_URL is not a URL"),
        ("postgresql://sa:hunter2@db/shop", "SINK_URL is not a URL"),
        ("mssql://sa:hunter2@db:99999/shop", "SINK_URL is not a URL"),
        ("mssql://sa:hunter2@db", "names no database"),
        ("mssql://sa:hunter2@db/shop?encrypt=maybe", "encrypt=maybe is unknown"),
        ("mssql://sa:hunter2@db/shop?timeout=3", "unknown option timeout"),
    ],
)
def test_a_wrong_url_is_refused_without_showing_it(monkeypatch: pytest.MonkeyPatch, url: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        sink(monkeypatch, url)
    assert told in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_missing_setting_is_named() -> None:
    with pytest.raises(ConfigurationError, match="SOURCE_URL is not set"):
        read_settings().source()


def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATSD_PORT", "many")
    with pytest.raises(ConfigurationError, match="STATSD_PORT"):
        read_settings()


@pytest.mark.parametrize("side", ["SOURCE", "SINK", "SINK_ADMIN", "METADATA"])
def test_two_passwords_for_one_side_are_refused(monkeypatch: pytest.MonkeyPatch, side: str) -> None:
    monkeypatch.setenv(f"{side}_PASSWORD", "a")
    monkeypatch.setenv(f"{side}_PASSWORD_FILE", "/run/secrets/b")
    with pytest.raises(ConfigurationError, match="both set"):
        read_settings()


def test_the_administrator_goes_to_the_same_server_but_to_master(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SINK_URL", "mssql://etl:x@db:1434/shop?encrypt=strict")
    (tmp_path / "password").write_text("p;w}\n")
    monkeypatch.setenv("SINK_ADMIN_PASSWORD_FILE", str(tmp_path / "password"))
    assert read_settings().sink_admin().get_secret_value() == (
        "Server={db,1434};Database={master};UID={sa};PWD={p;w}}};Encrypt={strict};TrustServerCertificate={no}"
    )
    login = read_settings().sink_login()
    assert (login.database, login.user, login.password.get_secret_value()) == ("shop", "etl", "x")


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("SINK_PASSWORD", "", "SINK_PASSWORD is not set"),
        ("SINK_PASSWORD", "x" * 129, "SINK_PASSWORD has more than 128 characters"),
        ("SINK_ADMIN_PASSWORD", "", "SINK_ADMIN_PASSWORD is not set"),
        ("SINK_ADMIN_USER", "ETL", "SINK_URL names the administrator"),
        ("SINK_ADMIN_USER", "", "SINK_ADMIN_USER"),
    ],
)
def test_what_no_sink_can_be_prepared_with_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    given = {"SINK_URL": "mssql://etl@db/shop", "SINK_PASSWORD": "secret-1", "SINK_ADMIN_PASSWORD": "secret-2"}
    for variable, text in (given | {name: value}).items():
        monkeypatch.setenv(variable, text)
    with pytest.raises(ConfigurationError, match=told) as caught:
        (read_settings().sink_login(), read_settings().sink_admin())
    assert "secret" not in str(caught.value)


def test_the_metadata_database_is_named_as_the_source_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METADATA_URL", "postgresql://airflow@db/airflow")
    monkeypatch.setenv("METADATA_PASSWORD", "a/b")
    settings = read_settings()
    assert settings.metadata().get_secret_value() == "postgresql://airflow:a%2Fb@db:5432/airflow"
    assert settings.secrets() == ["a/b"]


def test_a_password_is_a_secret_as_sql_quotes_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SINK_PASSWORD", "a'b")
    monkeypatch.setenv("SINK_ADMIN_PASSWORD", "admin")
    assert read_settings().secrets() == ["admin", "a''b", "a'b"]


def test_no_repr_shows_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SINK_URL", "mssql://sa:hunter%32@db/shop")
    settings = read_settings()
    assert "hunter" not in repr(settings) + str(settings) + repr(settings.sink())
    assert set(settings.secrets()) == {"hunter%32", "hunter2"}


def test_the_default_staging_folder_is_where_the_volume_is() -> None:
    assert Settings().staging_url == "file:///var/lib/etl/staging"
