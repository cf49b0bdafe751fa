"""Connections come by environment or file, are checked at the edge, and never show a password."""

import re
from pathlib import Path

import pytest
from etl.config.settings import Settings, read_settings
from etl.errors import ConfigurationError
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr

VARIABLES = ("URL", "CA_FILE", "PASSWORD", "PASSWORD_FILE", "ADMIN_USER", "ADMIN_PASSWORD", "ADMIN_PASSWORD_FILE")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for side in ("SOURCE", "SINK"):
        for variable in VARIABLES:
            monkeypatch.delenv(f"{side}_{variable}", raising=False)


def sink(monkeypatch: pytest.MonkeyPatch, url: str) -> str:
    monkeypatch.setenv("SINK_URL", url)
    return read_settings().sink().get_secret_value()


def libpq(url: SecretStr) -> dict[str, str]:
    """The options that libpq reads in a URL."""
    return {name: str(value) for name, value in conninfo_to_dict(url.get_secret_value()).items()}


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
    wanted = {"user": "orders", "password": password, "host": "db", "dbname": "shop", "sslmode": "require"}
    assert libpq(read_settings().source()) == wanted


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("db/shop", "verify-full {ca}"),
        ("db/shop?application_name=a+b", "verify-full {ca}"),
        ("db/shop?sslmode=verify-ca", "verify-ca {ca}"),
        ("db/shop?sslmode=verify-full&sslrootcert=mine", "verify-full mine"),
        ("db/shop?sslmode=disable", "disable"),
        ("db/shop?sslmode=", "verify-full {ca}"),
        ("localhost/shop", ""),
        ("[::1]/shop", ""),
        ("localhost/shop?hostaddr=192.0.2.7", "verify-full {ca}"),
        ("127.0.0.1/shop?sslmode=verify-full", "verify-full {ca}"),
        ("%2Fvar%2Frun%2Fpostgresql/shop", ""),
        ("/shop?host=/var/run/postgresql", ""),
        ("127.0.0.1,[::1]:5433/shop", ""),
        ("127.0.0.1,db/shop", "verify-full {ca}"),
        # What these name is not known here; over a socket libpq ignores the mode.
        ("/shop", "verify-full {ca}"),
        ("/shop?service=orders", "verify-full {ca}"),
    ],
)
def test_the_source_is_verified_unless_its_url_says_otherwise_or_no_network_is_crossed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str, options: str
) -> None:
    (tmp_path / "ca.crt").touch()
    monkeypatch.setenv("SOURCE_URL", f"postgresql://orders:x@{url}")
    monkeypatch.setenv("SOURCE_CA_FILE", str(tmp_path / "ca.crt"))
    found = libpq(read_settings().source())
    seen = " ".join(found[name] for name in ("sslmode", "sslrootcert") if name in found)
    assert seen == options.format(ca=tmp_path / "ca.crt")


def test_without_a_file_of_their_own_the_authorities_are_those_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_URL", "postgresql://orders:x@db/shop")
    assert re.fullmatch("/etc/ssl/.+|system", libpq(read_settings().source())["sslrootcert"])


@pytest.mark.parametrize("side", ["SOURCE", "SINK"])
def test_a_file_of_authorities_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, side: str) -> None:
    monkeypatch.setenv("SOURCE_URL", "postgresql://orders:x@db/shop")
    monkeypatch.setenv("SINK_URL", "mssql://sa:x@db/shop")
    monkeypatch.setenv(f"{side}_CA_FILE", "/proc/nonexistent/ca.crt")
    with pytest.raises(ConfigurationError, match=rf"{side}_CA_FILE \(/proc/nonexistent/ca.crt\) is no file"):
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
    found = read_settings().tls_warnings()
    assert told in found
    assert bool(found) == bool(told)
    assert "hunter2" not in found


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("", "SINK_URL is not set"),
        ("mssql://sa:hunter2@db:99999/shop", "SINK_URL is not a URL"),
        ("mssql://sa:hunter2@db", "names no database"),
        ("mssql://sa:hunter2@db/shop?encrypt=maybe", "encrypt is none of yes, true"),
        ("mssql://sa:hunter2@db/shop?encrypt=yes;pwd=hunter2", "can be read in two ways"),
        ("mssql://sa:hunter2/shop", "names no user"),
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


@pytest.mark.parametrize("side", ["SOURCE", "SINK", "SINK_ADMIN", "SINK_EXPORTER", "SINK_BACKUP", "METADATA"])
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
    (login,) = read_settings().sink_logins()
    assert (login.database, login.user, login.password.get_secret_value()) == ("shop", "etl", "x")


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("SINK_PASSWORD", "", "SINK_PASSWORD is not set"),
        ("SINK_PASSWORD", "x" * 129, "SINK_PASSWORD has more than 128 characters"),
        ("SINK_ADMIN_PASSWORD", "", "SINK_ADMIN_PASSWORD is not set"),
        ("SINK_EXPORTER_PASSWORD", "x" * 129, "SINK_EXPORTER_PASSWORD has more than 128 characters"),
        ("SINK_BACKUP_PASSWORD", "x" * 129, "SINK_BACKUP_PASSWORD has more than 128 characters"),
        ("SINK_ADMIN_USER", "ETL", "SINK_URL names the administrator"),
    ],
)
def test_what_no_sink_can_be_prepared_with_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    given = {"SINK_URL": "mssql://etl@db/shop", "SINK_PASSWORD": "secret-1", "SINK_ADMIN_PASSWORD": "secret-2"}
    for variable, text in (given | {name: value}).items():
        monkeypatch.setenv(variable, text)
    with pytest.raises(ConfigurationError, match=told) as caught:
        (read_settings().sink_logins(), read_settings().sink_admin())
    assert "secret" not in str(caught.value)


def test_the_metadata_database_is_named_as_the_source_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METADATA_URL", "postgresql://airflow@db/airflow")
    monkeypatch.setenv("METADATA_PASSWORD", "a/b")
    settings = read_settings()
    assert libpq(settings.metadata()) == {"user": "airflow", "password": "a/b", "host": "db", "dbname": "airflow"}
    assert settings.secrets() == ["a%2Fb", "a/b"]


def test_options_of_ours_give_way_to_those_of_the_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_URL", "postgresql://orders:x@localhost/shop?connect_timeout=30")
    assert libpq(read_settings().source(connect_timeout="4", keepalives="1"))["connect_timeout"] == "30"
    monkeypatch.setenv("SOURCE_URL", "postgresql://orders:x@localhost/shop")
    assert libpq(read_settings().source(connect_timeout="4"))["connect_timeout"] == "4"


def test_a_password_is_a_secret_in_every_form_in_which_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SINK_PASSWORD", "a' }b")
    monkeypatch.setenv("SINK_ADMIN_PASSWORD", "admin")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "keykey")
    found = read_settings().secrets()
    assert {"a' }b", "a'' }b", "a' }}b", r"a\' }b", "a%27%20%7Db", "a%27+%7Db", "admin", "keykey"} == set(found)
    assert sorted(found, key=len, reverse=True) == found


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_password_file_that_cannot_be_read_is_refused_without_showing_its_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "hunter2"
    if content:
        file.write_bytes(content)
    monkeypatch.setenv("SINK_URL", "mssql://etl@db/shop")
    monkeypatch.setenv("SINK_PASSWORD_FILE", str(file))
    with pytest.raises(ConfigurationError, match=r"SINK_PASSWORD_FILE (cannot be read|is not UTF-8)") as caught:
        read_settings().sink()
    assert "hunter2" not in str(caught.value)
    assert read_settings().secrets() == []


def test_an_empty_variable_is_one_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SINK_PASSWORD", "SINK_PASSWORD_FILE", "SOURCE_CA_FILE", "STATSD_PORT"):
        monkeypatch.setenv(name, "")
    assert "PWD={in the URL}" in sink(monkeypatch, "mssql://etl:in%20the%20URL@db/shop")


def test_no_repr_shows_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SINK_URL", "mssql://sa:hunter%32@db/shop")
    settings = read_settings()
    assert "hunter" not in repr(settings) + str(settings) + repr(settings.sink())
    assert {"hunter%32", "hunter2"} <= set(settings.secrets())


def test_the_default_staging_folder_is_where_the_volume_is() -> None:
    assert Settings().staging_url == "file:///var/lib/etl/staging"
