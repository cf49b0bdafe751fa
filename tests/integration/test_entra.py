"""Logins by tokens of Entra ID at sink and source, by the drivers themselves; both token endpoints are doubles."""

import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from os import environ
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from airflow.providers.common.compat.sdk import AirflowException
from airflow.sdk.exceptions import AirflowFailException
from etl.config import entra
from etl.config.settings import Settings
from etl.errors import ConfigurationError, ExitCode, TryAgainError
from etl.exporter.poller import Poller
from etl.exporter.sink import sink_database
from etl.sqlserver.connection import connect_to_prepare
from etl.sqlserver.prepare import prepare_sink
from etl_airflow.dag.hooks import SinkHook, source_hook

from dev.sandbox.pipeline_fixture import PipelineFixture, existing_fixture
from dev.sandbox.pipelines import ORDERS, make
from dev.sandbox.process import free_port
from dev.sandbox.sqlserver import SqlServerDouble
from dev.sandbox.sqlserver.engine.directory import AUDIENCE, Directory
from tests.cluster.certificates import Authority
from tests.doubles.entra import TENANT, Entra, run_entra
from tests.faults.double import inject
from tests.harness.airflow.connections import airflow_has
from tests.harness.etl_check import check, problem
from tests.harness.runs import Runs

pytestmark = pytest.mark.skipif("SINK_URL" in environ, reason="a real server trusts the real Entra ID")
APPLICATION, ADMINISTRATOR, MACHINE = (f"0a1b2c3d-0000-4000-8000-00000000000{n}" for n in (1, 2, 3))
SECRET, ADMINISTRATORS = "s3cret'~;}of-the-app", "s3cret-of-the-administrator"
DIRECTORY = Directory("key-of-tests", "dba", {"etl app": APPLICATION, "dba": ADMINISTRATOR, "machine": MACHINE})
PIPELINE = make(ORDERS)
KINDS = ("service-principal", "managed-identity")


@dataclass(frozen=True)
class Site:
    """A prepared sink in which an identity loads, and the variables of that identity."""

    server: SqlServerDouble
    orders: PipelineFixture
    variables: dict[str, str]
    entra: Entra

    def settings(self, **changes: str) -> Settings:
        values = {"SOURCE_URL": self.orders.source_url, "STAGING_URL": self.orders.settings.staging_url}
        return Settings.model_validate({k.lower(): v for k, v in (values | self.variables | changes).items() if v})

    def pipeline(self, **changes: str) -> PipelineFixture:
        return replace(self.orders, settings=self.settings(**changes))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.of_server(tmp_path_factory.mktemp("authority"), "sink", "localhost")


@pytest.fixture(scope="module")
def azure(authority: Authority) -> Iterator[Entra]:
    with run_entra(authority, DIRECTORY, {APPLICATION: SECRET, ADMINISTRATOR: ADMINISTRATORS}) as made:
        yield made


@pytest.fixture
def server(authority: Authority) -> Iterator[SqlServerDouble]:
    certificate = authority.certificate_of("sink"), authority.key_of("sink")
    with SqlServerDouble(directory=asdict(DIRECTORY), certificate=certificate) as made:
        yield made


@pytest.fixture(autouse=True)
def endpoints(azure: Entra, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tokens come from the doubles, and none of an earlier test is kept."""
    for name, value in azure.environment.items():
        monkeypatch.setenv(name, value)
    azure.lifetime, azure.is_busy = 3600, False
    azure.asked.clear()
    entra._credential.cache_clear()
    yield
    entra._credential.cache_clear()
    entra._issued.clear()


def variables(kind: str, server: SqlServerDouble) -> dict[str, str]:
    name, client = ("etl%20app", APPLICATION) if kind == KINDS[0] else ("machine", MACHINE)
    return {
        "SINK_URL": f"mssql://{name}@localhost:{server.port}/sink?encrypt=yes",
        "SINK_CA_FILE": environ["REQUESTS_CA_BUNDLE"],
        "SINK_AUTH": kind,
        "ENTRA_TENANT": TENANT,
        "ENTRA_CLIENT_ID": client,
        "ENTRA_CLIENT_SECRET": SECRET if kind == KINDS[0] else "",
        "SINK_ADMIN_CLIENT_ID": ADMINISTRATOR,
        "SINK_ADMIN_CLIENT_SECRET": ADMINISTRATORS,
    }


@pytest.fixture(params=KINDS)
def site(
    server: SqlServerDouble, azure: Entra, source_url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Site:
    found = variables(request.param, server)
    made = Site(server, existing_fixture(PIPELINE, source_url, found["SINK_URL"], tmp_path), found, azure)
    prepare_sink(made.settings(), [PIPELINE])
    return made


@pytest.fixture
def application(server: SqlServerDouble, azure: Entra, source_url: str, tmp_path: Path) -> Site:
    """A site of the service principal, whose sink may not be prepared."""
    found = variables(KINDS[0], server)
    return Site(server, existing_fixture(PIPELINE, source_url, found["SINK_URL"], tmp_path), found, azure)


def test_an_identity_loads_with_statements_and_bulk_copy(site: Site) -> None:
    made = site.pipeline()
    made.run("run-1")
    assert made.sink_rows() == made.source_rows("status = 'confirmed'")


def test_prepare_sink_makes_the_user_of_an_identity_once_and_no_login(site: Site) -> None:
    assert prepare_sink(site.settings(), [PIPELINE]) == []
    with connect_to_prepare(site.settings(), site.settings().sink_admin(), database="sink") as sink:
        assert sink.rows("SELECT name FROM sys.sql_logins") == []
        name = site.settings().sink_logins()[0].user
        assert sink.value("SELECT IS_ROLEMEMBER(?, ?)", "etl_loader", name) == 1


def test_a_login_by_password_cannot_make_that_user_and_says_who_can(application: Site) -> None:
    by_password = {"SINK_ADMIN_CLIENT_ID": "", "SINK_ADMIN_PASSWORD": application.server.password}
    with pytest.raises(ConfigurationError, match=r"Only connections established .* Set SINK_ADMIN_CLIENT_ID"):
        prepare_sink(application.settings(**by_password))


def test_whole_runs_log_in_so_plan_and_reconcile_too(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in site.variables.items():
        monkeypatch.setenv(variable, value)
    runs = Runs(site.pipeline(), monkeypatch)
    assert runs.run("run-1")["verdict"] == "adds up"
    site.orders.change("UPDATE public.orders SET status = 'confirmed', updated_at = now() WHERE order_id = 1")
    assert runs.run("run-2")["verdict"] == "adds up"
    assert runs.made.sink_rows() == runs.made.source_rows("status = 'confirmed'")


def test_an_image_of_airflow_without_the_driver_says_so(application: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    airflow_has(monkeypatch, "sink", **application.variables)
    monkeypatch.setattr("etl_airflow.dag.token_login._DRIVER", "no_such_driver")
    with pytest.raises(AirflowFailException, match="image of Airflow cannot log in by tokens"):
        SinkHook("sink")


@pytest.mark.parametrize(
    ("changes", "kind", "told"),
    [
        ({"ENTRA_CLIENT_SECRET": "wrong"}, AirflowFailException, "AADSTS7000215"),
        ({"AZURE_AUTHORITY_HOST": "https://127.0.0.1:1"}, AirflowException, "does not answer on port 1"),
    ],
    ids=["secret", "endpoint"],
)
def test_plan_retries_an_endpoint_and_not_a_secret(
    application: Site,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, str],
    kind: type[Exception],
    told: str,
) -> None:
    airflow_has(monkeypatch, "sink", **(application.variables | changes))
    with pytest.raises(AirflowException, match=told) as caught:
        SinkHook("sink").get_first("SELECT 1")
    assert type(caught.value) is kind
    assert SECRET not in str(caught.value)


def test_metrics_are_read_by_the_loader_s_identity_as_there_are_no_logins_by_password(site: Site) -> None:
    poller = Poller(sink_database(site.settings(SINK_EXPORTER_PASSWORD="of-none")))
    poller.poll()
    up = {
        sample.labels["query"]: sample.value
        for metric in poller.collect()
        if metric.name == "sink_query_up"
        for sample in metric.samples
    }
    assert up["watermarks"] == 1


def test_a_check_of_a_sink_that_is_well(site: Site) -> None:
    _, lines = check(site.orders, "sink", **site.variables)
    assert lines["sink"]["problem"] == ""


@pytest.mark.parametrize(
    ("changes", "code", "word", "told"),
    [
        (
            {"AZURE_AUTHORITY_HOST": "https://127.0.0.1:1"},
            ExitCode.TRY_AGAIN,
            "endpoint",
            "no token from 127.0.0.1:1: 127.0.0.1 (127.0.0.1) does not answer on port 1",
        ),
        ({"ENTRA_CLIENT_SECRET": "wr0ng"}, ExitCode.CONFIGURATION, "token", "AADSTS7000215: Invalid client secret"),
        ({"ENTRA_CLIENT_ID": MACHINE}, ExitCode.CONFIGURATION, "token", "AADSTS700016: Application with identifier"),
        ({"ENTRA_TENANT": "elsewhere"}, ExitCode.CONFIGURATION, "token", "AADSTS90002: Tenant 'elsewhere' not found"),
        (
            {"SINK_AUTH": "managed-identity", "ENTRA_CLIENT_ID": APPLICATION},
            ExitCode.CONFIGURATION,
            "token",
            "Identity not found",
        ),
        (
            {"SINK_AUTH": "managed-identity", "AZURE_POD_IDENTITY_AUTHORITY_HOST": "http://127.0.0.1:1"},
            ExitCode.TRY_AGAIN,
            "endpoint",
            "does not answer on port 1",
        ),
        (
            {"ENTRA_CLIENT_SECRET": ""},
            ExitCode.CONFIGURATION,
            "settings",
            "logs in by ENTRA_CLIENT_ID, ENTRA_TENANT, ENTRA_CLIENT_SECRET; set ENTRA_CLIENT_SECRET.",
        ),
    ],
    ids=["endpoint", "secret", "application", "tenant", "identity", "machine", "settings"],
)
def test_a_check_says_which_step_failed(
    application: Site, changes: dict[str, str], code: ExitCode, word: str, told: str
) -> None:
    found = problem(application.orders, "sink", "sink", **(application.variables | changes))
    assert found[:2] == (code, word)
    assert told in found[2]
    assert "Trace ID" not in found[2]


def test_a_check_of_the_source_says_so_too(application: Site) -> None:
    found = application.variables | {"SOURCE_AUTH": KINDS[0], "ENTRA_CLIENT_SECRET": "wr0ng"}
    code, word, words = problem(application.orders, "source", "source", **found)
    assert (code, word) == (ExitCode.CONFIGURATION, "token")
    assert "AADSTS7000215" in words


def test_a_check_of_an_identity_without_a_user(application: Site) -> None:
    code, word, words = problem(application.orders, "sink", "sink", **application.variables)
    assert (code, word) == (ExitCode.CONFIGURATION, "login")
    assert "Login failed for user '<token-identified principal>'" in words
    assert "`etl prepare-sink` makes the user" in words


def test_no_output_shows_the_secret_or_a_token(application: Site) -> None:
    settings = application.settings()
    token = settings.identity("service-principal").get_token(AUDIENCE + ".default").token
    assert {SECRET, ADMINISTRATORS, token} <= set(settings.secrets())
    for text in (repr(settings), repr(settings.sink().identity), repr(settings.sink())):
        assert SECRET not in text
        assert ADMINISTRATORS not in text


def test_a_token_may_end_while_rows_are_copied(application: Site) -> None:
    """Each connection gets a token that is valid when it begins; what is open stays open."""
    application.entra.lifetime = 3
    prepare_sink(application.settings(), [PIPELINE])
    made = application.pipeline()
    made.run("run-2", None, "extract", "filter")
    inject(made, "bulk_delay", 4_000)
    application.entra.asked.clear()
    began = time.monotonic()
    made.run("run-2", None, "load")
    assert time.monotonic() - began > application.entra.lifetime
    assert application.entra.asked.count(APPLICATION) >= 2
    assert made.sink_rows() == made.source_rows("status = 'confirmed'")


def test_a_token_is_not_sent_where_anybody_could_pose_as_the_sink() -> None:
    for option in ("encrypt=no", "encrypt=yes&trustservercertificate=yes"):
        given = {"sink_url": f"mssql://etl@sql.example.com/sink?{option}", "sink_auth": "managed-identity"}
        with pytest.raises(ConfigurationError, match="whoever poses as the sink would get a token"):
            Settings.model_validate(given).sink()


def test_nor_where_anybody_could_pose_as_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql://etl@db.example.com/shop?sslmode=require"
    with pytest.raises(ConfigurationError, match="whoever poses as the source would get a token"):
        Settings.model_validate({"source_url": url, "source_auth": KINDS[1]}).source()
    airflow_has(monkeypatch, "source", SOURCE_URL=url, SOURCE_AUTH=KINDS[1])
    with pytest.raises(AirflowFailException, match="whoever poses as the source would get a token"):
        source_hook("source")


@pytest.fixture
def by_token(azure: Entra, source_url: str) -> Iterator[str]:
    """A role of the source whose password is the next token: so Azure's Postgres checks one."""
    role = f"reader_{uuid.uuid4().hex[:8]}"
    entra_token = azure.give(APPLICATION, "https://ossrdbms-aad.database.windows.net/")["access_token"]
    azure.give = lambda *_: {"access_token": entra_token, "token_type": "Bearer", "expires_in": 3600}  # type: ignore[method-assign]
    with psycopg.connect(source_url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN SUPERUSER PASSWORD '{entra_token}'".encode())
    parts = urlsplit(source_url)
    yield parts._replace(netloc=f"{role}@{parts.hostname}:{parts.port}").geturl()
    with psycopg.connect(source_url, autocommit=True) as connection:
        connection.execute(f"DROP ROLE {role}".encode())
    del azure.give


@pytest.mark.parametrize("kind", KINDS)
def test_a_source_takes_a_token_as_the_password(
    by_token: str, application: Site, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    found = variables(kind, application.server) | {"SOURCE_URL": by_token, "SOURCE_AUTH": kind}
    _, lines = check(application.orders, "source", **found)
    assert lines["source"]["problem"] == ""
    airflow_has(monkeypatch, "source", **found)
    assert source_hook("source").get_first("SELECT current_user") == (urlsplit(by_token).username,)


@pytest.mark.parametrize(("kind", "told"), [(KINDS[0], "HTTP Error: 503"), (KINDS[1], "Too many requests")])
def test_what_passes_by_itself_is_tried_again(azure: Entra, kind: str, told: str) -> None:
    azure.is_busy = True
    client, *rest = (APPLICATION, TENANT, SECRET) if kind == KINDS[0] else (MACHINE, "", "")
    with pytest.raises(TryAgainError, match=told):
        entra.identity(kind, client, *rest).get_token(entra.SOURCE_SCOPE)
    azure.is_busy = False
    entra._credential.cache_clear()  # the next try is another process
    assert entra.identity(kind, client, *rest).get_token(entra.SOURCE_SCOPE).token


def test_a_refused_token_stops_a_step_and_an_endpoint_that_is_away_does_not(application: Site) -> None:
    with pytest.raises(ConfigurationError, match=r"^orders.*: Entra ID .* gives the service principal .* no token"):
        application.pipeline(ENTRA_CLIENT_SECRET="wrong").run("run-3")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AZURE_AUTHORITY_HOST", f"https://127.0.0.1:{free_port()}")
        entra._credential.cache_clear()
        with pytest.raises(TryAgainError, match=r"no token from 127\.0\.0\.1"):
            application.pipeline().run("run-4")
