"""Connection URLs as people write them reach real servers: by the steps, by `etl check`, and by plan and reconcile."""

import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote, urlsplit

import mssql_python
import pytest
from airflow.providers.common.compat.sdk import AirflowException
from airflow.sdk.exceptions import AirflowFailException
from etl.check import check
from etl.config.settings import read_settings
from etl.errors import ExitCode, TryAgainError
from etl.exporter.sink import sink_database
from etl.postgres.connection import connect_source
from etl.sqlserver.connection import connect_sink
from etl_airflow.dag.hooks import SinkHook, source_hook
from etl_airflow.dag.plan import plan_partitions
from pydantic import SecretStr
from structlog.testing import capture_logs

from dev.sandbox.pipeline_fixture import PipelineFixture, as_json, pipeline_fixture
from dev.sandbox.pipelines import ORDERS
from dev.sandbox.postgres import Postgres
from dev.sandbox.process import free_port
from dev.sandbox.sqlserver import SqlServerDouble
from tests.harness.airflow.connections import airflow_has
from tests.harness.runs import Runs

needs_own_postgres = pytest.mark.skipif("SOURCE_URL" in os.environ, reason="a real server's sockets are not seen here")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for side in ("SOURCE", "SINK"):
        for name in ("URL", "PASSWORD", "PASSWORD_FILE"):
            monkeypatch.delenv(f"{side}_{name}", raising=False)
    monkeypatch.setenv("FREETDSCONF", "")


@pytest.fixture
def service_file(postgres: Postgres, source_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = {
        "host": postgres.host,
        "port": postgres.port,
        "user": postgres.user,
        "dbname": source_url.rpartition("/")[2],
    }
    file = tmp_path / "services"
    file.write_text("\n".join(["[orders]", *(f"{name}={value}" for name, value in words.items())]))
    monkeypatch.setenv("PGSERVICEFILE", str(file))


FORMS = {
    "several hosts": "postgresql://{user}:{password}@{host}:{dead},{host}:{port}/{database}?target_session_attrs=read-write",
    "a port for several hosts": "postgresql://{user}:{password}@{host},{host}/{database}?port={port}",
    "a socket": "postgresql://{user}:{password}@/{database}?host={sockets}&port={port}",
    "a socket for a host": "postgresql://{user}:{password}@{quoted}:{port}/{database}",
    "a time-out": "postgresql://{user}:{password}@{host}:{port}/{database}?connect_timeout=30",
    "all in options": "postgresql:///?host={host}&port={port}&user={user}&password={password}&dbname={database}",
    "a service": "postgresql://?service=orders&password={password}&sslmode=disable",
}


@needs_own_postgres
@pytest.mark.usefixtures("service_file")
@pytest.mark.parametrize("form", FORMS)
def test_libpq_s_forms_reach_the_source_in_the_steps_the_check_and_plan(
    orders: PipelineFixture, postgres: Postgres, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    assert postgres.server is not None
    sockets = str(postgres.server.sockets)
    url = FORMS[form].format(
        user=postgres.user,
        password=quote(postgres.password, safe=""),
        host=postgres.host,
        port=postgres.port,
        dead=free_port(),
        database=urlsplit(orders.source_url).path[1:],
        sockets=sockets,
        quoted=quote(sockets, safe=""),
    )
    settings = orders.settings.model_copy(update={"source_url": SecretStr(url)})
    replace(orders, settings=settings).run()
    assert orders.sink_rows() == orders.source_rows("status = 'confirmed'")
    assert check(settings, ["source"], ["public.orders"], seconds=15) == ExitCode.OK
    airflow_has(monkeypatch, "source", SOURCE_URL=url)
    assert source_hook("source").get_first("SELECT count(*) FROM orders") == (4000,)


@needs_own_postgres
def test_a_socket_that_is_not_there_is_named(orders: PipelineFixture) -> None:
    settings = orders.settings.model_copy(
        update={"source_url": SecretStr("postgresql://u:p@/db?host=/proc/nonexistent")}
    )
    work = replace(orders, settings=settings).work()
    told = r"source /proc/nonexistent:5432/db: No such file"
    with pytest.raises(TryAgainError, match=told), connect_source(work.settings, work.pipeline, str(work)):
        pytest.fail("There is a server.")


@pytest.fixture
def ipv6_sink() -> Iterator[SqlServerDouble]:
    with SqlServerDouble(host="::1") as server:
        yield server


def test_an_ipv6_address_reaches_the_sink_in_a_whole_run(
    source_url: str, ipv6_sink: SqlServerDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "@[::1]:" in ipv6_sink.url
    with pipeline_fixture(ORDERS, source_url, ipv6_sink.url, tmp_path) as made:
        totals = Runs(made, monkeypatch).run("run")
        assert totals["inserted"] == 1600
        assert check(made.settings, ["sink"], [], seconds=15) == ExitCode.OK


def test_plan_reads_a_password_file_as_the_steps_do(
    orders: PipelineFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, url in (("source", orders.source_url), ("sink", orders.sink_url)):
        parts = urlsplit(url)
        file = tmp_path / name
        file.write_text(f"{parts.password}\n")
        bare = parts._replace(netloc=f"{parts.username}@{parts.hostname}:{parts.port}").geturl()
        side = name.upper()
        airflow_has(monkeypatch, name, **{f"{side}_URL": bare, f"{side}_PASSWORD_FILE": str(file)})
    replace(orders, settings=read_settings().model_copy(update={"staging_url": orders.settings.staging_url})).run()
    assert plan_partitions(orders.pipeline, {}, "source", "sink")


@pytest.mark.parametrize(("address", "host"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")])
def test_a_sink_that_cannot_be_reached_is_described_in_the_same_words_everywhere(
    orders: PipelineFixture, monkeypatch: pytest.MonkeyPatch, address: str, host: str
) -> None:
    connect = mssql_python.connect
    # By itself the driver tries for 15 seconds.
    monkeypatch.setattr(mssql_python, "connect", lambda text, **given: connect(text, **{**given, "timeout": 1}))
    port = free_port()
    url = f"mssql://etl:p@{host}:{port}/shop"
    told = f"{address} ({address}) does not answer on port {port}: Connection refused."
    settings = orders.settings.model_copy(update={"sink_url": SecretStr(url)})
    work = replace(orders, settings=settings).work()
    with pytest.raises(TryAgainError) as step, connect_sink(work.settings, work.pipeline, str(work)):
        pytest.fail("There is a server.")
    with pytest.raises(TryAgainError) as exporter, sink_database(settings).connect():
        pytest.fail("There is a server.")
    airflow_has(monkeypatch, "sink", SINK_URL=url)
    with pytest.raises(AirflowException) as plan:
        SinkHook("sink").get_first("SELECT 1")
    with capture_logs() as lines:
        check(settings, ["sink"], [], seconds=15)
    for words in (str(step.value), str(exporter.value), str(plan.value), lines[0]["event"]):
        assert told in words
    assert str(step.value).endswith(f"the sink {host}:{port}/shop cannot be reached: {told}")
    assert str(plan.value) == f"The sink {host}:{port}/shop cannot be reached: {told}"


@pytest.mark.parametrize("sink_host", ["::1", "127.0.0.1"])
def test_plan_names_the_place_of_a_sink_that_lets_nobody_in(monkeypatch: pytest.MonkeyPatch, sink_host: str) -> None:
    with SqlServerDouble(host=sink_host) as server:
        parts = urlsplit(server.url)
        place = parts.netloc.rpartition("@")[2]
        airflow_has(monkeypatch, "sink", SINK_URL=parts._replace(netloc=f"nobody:p@{place}").geturl())
        with pytest.raises(
            AirflowFailException, match=rf"^The sink {re.escape(place)} does not let the login nobody in"
        ):
            SinkHook("sink").get_first("SELECT 1")


@pytest.mark.parametrize("name", ["source", "sink"])
def test_plan_says_which_url_cannot_be_read(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    scheme = "postgresql" if name == "source" else "mssql"
    airflow_has(monkeypatch, name, **{f"{name.upper()}_URL": f"{scheme}://etl:Tr0u@b4dor/Xy@127.0.0.1:9/shop"})
    make = source_hook if name == "source" else SinkHook
    with pytest.raises(AirflowFailException, match=f"^{name.upper()}_URL is not a URL such as .*%40") as caught:
        make(name)
    assert "b4dor" not in str(caught.value)


@pytest.mark.parametrize("step", ["check", "run", "export-metrics"])
@pytest.mark.parametrize("side", ["SOURCE", "SINK"])
def test_a_command_shows_no_part_of_a_password_that_is_cut_wrongly(
    orders: PipelineFixture, step: str, side: str
) -> None:
    scheme = "postgresql" if side == "SOURCE" else "mssql"
    url = f"{scheme}://orders:QXZJKV@QXZWVY/QXZZXQ?KVWJKV#QJXKWV@127.0.0.1:5999/orders"
    if step == "export-metrics" and side == "SOURCE":
        side = "METADATA"
    only = [side.lower()] if step == "check" else []
    command = orders.command(step) if step == "run" else [sys.executable, "-m", "etl", step, *only]
    environment = orders.environment(**{f"{side}_URL": url})
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == ExitCode.CONFIGURATION
    lines = [line | {"timestamp": ""} for line in as_json(ran)]  # whose digits may be those of the port
    (told,) = [line["event"] for line in lines if line["level"] == "error"]
    assert f"{side}_URL is not a URL such as {scheme}://" in told
    assert "%40" in told
    for part in ("QXZ", "KVW", "QJX", "5999"):
        assert part not in ran.stdout + str(lines)


def test_on_a_terminal_a_check_is_reported_once(orders: PipelineFixture) -> None:
    url = f"postgresql://etl:only-for-tests@127.0.0.1:{free_port()}/shop"
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "etl", "check", "source"]
    with subprocess.Popen(command, env=orders.environment(SOURCE_URL=url, COLUMNS="200"), stderr=theirs) as process:
        os.close(theirs)
        text = b""
        try:
            while received := os.read(ours, 4096):
                text += received
        except OSError:  # the other side is closed
            pass
    os.close(ours)
    assert process.returncode == ExitCode.TRY_AGAIN
    assert text.count(b"does not answer") == 1
    assert text.count(b"/shop") == 1
