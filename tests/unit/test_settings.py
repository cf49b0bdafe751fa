"""Connections come by environment or file, are checked at the edge, and never show a password."""

from pathlib import Path

import pytest
from etl.errors import ConfigurationError
from etl.settings import Settings, read_settings

VARIABLES = ("URL", "PASSWORD", "PASSWORD_FILE")


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
    monkeypatch.setenv("SOURCE_URL", "postgresql://orders@db/shop")
    monkeypatch.setenv("SOURCE_PASSWORD", password)
    source = read_settings().source().get_secret_value()
    assert source == "postgresql://orders:p%40ss%3Bw%7Do%7Br%2Fd%3A%E2%82%AC%20%2541@db:5432/shop"


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


def test_two_passwords_for_one_side_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SINK_PASSWORD", "a")
    monkeypatch.setenv("SINK_PASSWORD_FILE", "/run/secrets/b")
    with pytest.raises(ConfigurationError, match="both set"):
        read_settings()


def test_no_repr_shows_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SINK_URL", "mssql://sa:hunter%32@db/shop")
    settings = read_settings()
    assert "hunter" not in repr(settings) + str(settings) + repr(settings.sink())
    assert set(settings.secrets()) == {"hunter%32", "hunter2"}


def test_the_default_staging_folder_is_where_the_volume_is() -> None:
    assert Settings().staging_url == "file:///var/lib/etl/staging"
