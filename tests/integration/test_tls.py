"""Source and sink are who they should be, or nothing is sent to them: real drivers and certificates, for both sides.

The source is a name that resolves nowhere, so that it is no loopback; `hostaddr` says where it is.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from airflow.providers.common.compat.sdk import AirflowException
from airflow.providers.common.sql.hooks.sql import DbApiHook
from etl.check import check
from etl.config.settings import Settings
from etl.errors import ConfigurationError, EtlError, ExitCode
from etl.exporter.sink import sink_database
from etl.postgres.connection import connect_source
from etl.sqlserver.connection import connect_to_prepare
from etl_airflow.dag.hooks import SinkHook, source_hook
from pydantic import SecretStr

from dev.sandbox.pipeline_fixture import PipelineFixture, as_json, pipeline_fixture
from dev.sandbox.pipelines import ORDERS
from dev.sandbox.postgres import run_postgres
from dev.sandbox.sqlserver import SqlServerDouble
from dev.sandbox.stack import INIT_SQL
from tests.cluster.certificates import Authority
from tests.harness.airflow.connections import airflow_has
from tests.harness.postgres_tls import tls_front

SOURCE = "orders-db.example.com"
ENCRYPTED = "encrypt=yes&trustservercertificate=yes"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Environment variables for drivers, restored after the test."""
    for name in ("SSL_CERT_FILE", "FREETDSCONF"):
        monkeypatch.setenv(name, "")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("authority") / "ours")
    made.issue("source", "source", hosts=(SOURCE,))
    made.issue("sink", "sink", hosts=("localhost",))
    return made


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The certificate of an authority that has signed nothing here."""
    return Authority(tmp_path_factory.mktemp("authority") / "theirs").certificate


@pytest.fixture(scope="module")
def plain_source() -> Iterator[str]:
    """A Postgres without TLS."""
    with run_postgres() as server:
        yield server.create_database("orders", INIT_SQL)


@pytest.fixture(scope="module")
def source(authority: Authority, plain_source: str) -> Iterator[str]:
    """The same with it, by the name in its certificate."""
    parts = urlsplit(plain_source)
    files = authority.certificate_of("source"), authority.key_of("source")
    with tls_front(parts.port or 0, *files) as port:
        yield named(plain_source, SOURCE, port)


@pytest.fixture(scope="module")
def sink(authority: Authority) -> Iterator[str]:
    with SqlServerDouble(certificate=(authority.certificate_of("sink"), authority.key_of("sink"))) as server:
        yield server.url.replace("127.0.0.1", "localhost")


@pytest.fixture
def orders(plain_source: str, sink: str, tmp_path: Path) -> Iterator[PipelineFixture]:
    """The pipeline as the test looks at it, which believes anybody."""
    with pipeline_fixture(ORDERS, plain_source, f"{sink}?{ENCRYPTED}", tmp_path) as made:
        yield made


def named(url: str, host: str, port: int | None = None) -> str:
    """The URL of a source under another name."""
    parts = urlsplit(url)
    netloc = f"{parts.username}:{parts.password}@{host}:{port or parts.port}"
    return parts._replace(netloc=netloc, query="hostaddr=127.0.0.1").geturl()


def with_settings(
    made: PipelineFixture, source: str, sink: str, source_authority: Path, sink_authority: Path
) -> PipelineFixture:
    """The pipeline as a pod has it."""
    settings = Settings(
        source_url=SecretStr(source),
        source_ca_file=source_authority,
        sink_url=SecretStr(sink),
        sink_ca_file=sink_authority,
        staging_url=made.settings.staging_url,
    )
    return replace(made, settings=settings)


def test_rows_go_from_a_verified_source_to_a_verified_sink(
    orders: PipelineFixture, source: str, sink: str, authority: Authority
) -> None:
    verifying = with_settings(orders, source, f"{sink}?encrypt=yes", authority.certificate, authority.certificate)
    assert verifying.settings.tls_warnings() == ""
    # In a process of its own, as in a pod: the driver's bulk copy keeps the authorities of its first connection.
    given = {"SOURCE_CA_FILE": str(authority.certificate), "SINK_CA_FILE": str(authority.certificate)}
    completed = verifying.cli("run", SOURCE_URL=source, SINK_URL=f"{sink}?encrypt=yes", **given)
    assert completed.returncode == 0, completed.stderr
    assert orders.sink_rows() == orders.source_rows("status = 'confirmed'")


@pytest.mark.parametrize("believes", [True, False])
def test_what_looks_at_both_ends_believes_whom_the_steps_believe(
    orders: PipelineFixture, source: str, sink: str, authority: Authority, stranger: Path, believes: bool
) -> None:
    orders.run()
    believed = authority.certificate if believes else stranger
    settings = with_settings(orders, source, f"{sink}?encrypt=yes", believed, believed).settings
    for name in ("source", "sink"):
        assert (check(settings, [name], [], seconds=15) == ExitCode.OK) is believes
    expected = nullcontext() if believes else pytest.raises(EtlError, match="certificate verify failed")
    with expected, sink_database(settings).connect() as rows:
        assert [tuple(row) for row in rows("SELECT 1")] == [(1,)]


@pytest.mark.parametrize("case", ["another authority", "another name", "no TLS"])
def test_a_source_that_is_not_who_it_should_be_is_refused(
    orders: PipelineFixture, source: str, plain_source: str, authority: Authority, stranger: Path, case: str
) -> None:
    url, believed, told = {
        "another authority": (source, stranger, "certificate verify failed.*SOURCE_CA_FILE"),
        "another name": (
            source.replace(SOURCE, "other.example.com"),
            authority.certificate,
            "does not match host name",
        ),
        "no TLS": (
            named(plain_source, SOURCE),
            authority.certificate,
            "not support SSL.*sslmode=disable to SOURCE_URL",
        ),
    }[case]
    made = with_settings(orders, url, orders.sink_url, believed, authority.certificate)
    work = made.work()
    with pytest.raises(ConfigurationError, match=told), connect_source(work.settings, work.pipeline, str(work)):
        pytest.fail("It was believed.")


@pytest.mark.parametrize("case", ["another authority", "another name", "no TLS"])
def test_a_sink_that_is_not_who_it_should_be_is_refused(
    sink: str, authority: Authority, stranger: Path, case: str
) -> None:
    with SqlServerDouble() as plain:
        url, believed, told = {
            "another authority": (sink, stranger, "certificate verify failed.*SINK_CA_FILE"),
            "another name": (sink.replace("localhost", "127.0.0.1"), authority.certificate, "hostnameincertificate"),
            "no TLS": (plain.url, authority.certificate, "Encryption not supported"),
        }[case]
        settings = Settings(sink_url=SecretStr(f"{url}?encrypt=yes"), sink_ca_file=believed)
        with pytest.raises(ConfigurationError, match=told), connect_to_prepare(settings, settings.sink()):
            pytest.fail("It was believed.")


def test_a_sink_may_be_known_by_another_name_than_its_host_s(sink: str, authority: Authority) -> None:
    url = sink.replace("localhost", "127.0.0.1") + "?encrypt=yes&hostnameincertificate=localhost"
    settings = Settings(sink_url=SecretStr(url), sink_ca_file=authority.certificate)
    with connect_to_prepare(settings, settings.sink()) as made:
        assert made.value("SELECT 1") == 1


def connection(monkeypatch: pytest.MonkeyPatch, name: str, url: str, believed: Path) -> None:
    """Give Airflow the connection to a URL, with authorities to believe."""
    airflow_has(monkeypatch, name, **{f"{name.upper()}_URL": url, f"{name.upper()}_CA_FILE": str(believed)})


def first(hook: "DbApiHook") -> Any:
    return hook.get_first("SELECT 1")[0]


def test_plan_and_reconcile_verify_source_and_sink(
    monkeypatch: pytest.MonkeyPatch, source: str, sink: str, authority: Authority
) -> None:
    connection(monkeypatch, "source", source, authority.certificate)
    connection(monkeypatch, "sink", f"{sink}?encrypt=yes", authority.certificate)
    assert (first(source_hook("source")), first(SinkHook("sink"))) == (1, 1)


@pytest.mark.parametrize("case", ["another authority", "another name", "no TLS"])
def test_plan_and_reconcile_refuse_a_sink_that_is_not_who_it_should_be(
    monkeypatch: pytest.MonkeyPatch, sink: str, authority: Authority, stranger: Path, case: str
) -> None:
    believed = stranger if case == "another authority" else authority.certificate
    with SqlServerDouble() as plain:
        url = f"{plain.url if case == 'no TLS' else sink}?encrypt=yes"
        if case == "another name":
            url += "&hostnameincertificate=other.example.com"
        connection(monkeypatch, "sink", url, believed)
        with pytest.raises(AirflowException, match=f"its certificate is not of an authority in {believed}"):
            first(SinkHook("sink"))


def test_plan_refuses_a_source_that_is_not_who_it_should_be(
    monkeypatch: pytest.MonkeyPatch, source: str, stranger: Path
) -> None:
    connection(monkeypatch, "source", source, stranger)
    with pytest.raises(Exception, match="certificate verify failed"):
        first(source_hook("source"))


def test_a_process_says_once_what_it_does_not_verify(orders: PipelineFixture, source: str) -> None:
    ran = orders.cli(
        "extract", SOURCE_URL=f"{source}&sslmode=require", SINK_URL="mssql://etl@sql.example.com/sink?encrypt=no"
    )
    assert ran.returncode == 0
    (told,) = [line["event"] for line in as_json(ran) if line["level"] == "warning"]
    tls_warnings = "anybody could pose as the source (sslmode=require); the sink is reached in plain text (encrypt=no)"
    assert told == f"Not verified: {tls_warnings}."


def test_plan_says_what_it_does_not_verify(
    monkeypatch: pytest.MonkeyPatch, source: str, stranger: Path, caplog: pytest.LogCaptureFixture
) -> None:
    connection(monkeypatch, "source", f"{source}&sslmode=require", stranger)
    source_hook("source")
    connection(monkeypatch, "sink", f"mssql://etl@sql.example.com/sink?{ENCRYPTED}", stranger)
    SinkHook("sink")
    told = [record.getMessage() for record in caplog.records if record.name == "etl_airflow.dag.hooks"]
    assert told == [
        "Not verified: anybody could pose as the source (sslmode=require).",
        "Not verified: anybody could pose as the sink (trustservercertificate=yes).",
    ]
