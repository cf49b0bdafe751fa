"""No part of a password is in any output, however it is written, wherever it is set, and whatever goes wrong.

A password here is made of words of letters that no message of ours has. A secret part is shown where four letters in a
row of such a word are.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import adbc_driver_manager.dbapi as dbapi
import adbc_driver_postgresql.dbapi as driver
import etl_airflow.probe
import mssql_python
import pytest
import structlog
from adbc_driver_manager import AdbcStatusCode
from etl import cli
from etl.check import check
from etl.config.settings import Settings, read_settings, redacted_location
from etl.errors import EtlError
from etl.exporter.metadata import metadata_database
from etl.exporter.poller import Poller
from etl.logs import configure_logs
from etl.postgres import connection as source
from etl.postgres.connection import connect_source
from etl.sqlserver.connection import connect_sink, connect_to_prepare, translate_error
from etl.steps.context import StepContext
from etl.storage import backup_copy
from etl.storage.staging import Staging
from etl_airflow.secrets_backend import UrlConnections
from etl_airflow.task_logs.loki import Loki, LokiUnavailableError
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from dev.sandbox.pipelines import ORDERS, make, whole

LETTERS = "QXZJKVWY"
_SIGNS = "@/:#?%&;+=,' \"\\{}[]$€ü\n"
_VARIABLES = ("URL", "PASSWORD", "PASSWORD_FILE", "ADMIN_PASSWORD")
_SIDES = ("SOURCE", "SINK", "METADATA")
_LOGINS = ("SINK_ADMIN", "SINK_EXPORTER", "SINK_BACKUP")
_AIRFLOW = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
_DEAD = "127.0.0.1:9"
"""A port where nothing answers."""

_words = st.text(LETTERS, min_size=6, max_size=8)
passwords = st.lists(st.one_of(_words, st.text(_SIGNS, min_size=1, max_size=3)), min_size=2, max_size=5).map("".join)
_ENCODINGS: list[Callable[[str], str]] = [str, quote, lambda text: quote(text, safe="")]
written = st.sampled_from(_ENCODINGS)
"""A password as it is, or encoded as far as people think of it, or as it should be."""


@st.composite
def environments(draw: st.DrawFn) -> dict[str, str]:
    """Variables as people set them: each side with a password somewhere, in a form that may be wrong."""

    def password() -> str:
        return draw(written)(draw(passwords))

    found = {}
    for side, scheme in zip(_SIDES, ("postgresql", "mssql", "postgresql"), strict=True):
        form = draw(st.sampled_from(["url", "options", "variable", "file", "user"]))
        at = "etl" if form != "url" else f"etl:{password()}"
        options = (
            f"?{draw(st.sampled_from(['password', 'PWD', 'sslpassword']))}={password()}" if form == "options" else ""
        )
        if form == "user":  # the host is forgotten
            found[f"{side}_URL"] = f"{scheme}://etl:{draw(_words)}/shop"
        else:
            found[f"{side}_URL"] = f"{scheme}://{at}@{_DEAD}/shop{options}"
        if form in ("variable", "file"):
            found[f"{side}_PASSWORD" if form == "variable" else f"{side}_PASSWORD_FILE"] = draw(passwords)
    for side in _LOGINS:
        found[f"{side}_PASSWORD"] = draw(passwords)
    found[_AIRFLOW] = found["METADATA_URL"].replace("postgresql", "postgresql+psycopg2", 1)
    storage = draw(st.sampled_from(["file:///proc/nonexistent/staging", "s3://AKIA:{}@bucket/etl", "s3://{}@bucket"]))
    found["STAGING_URL"] = found["BACKUP_URL"] = storage.format(password())
    return found


def shown_in(text: str, environment: dict[str, str]) -> set[str]:
    """The parts of the environment's passwords that a text shows."""
    words = {word for value in environment.values() for word in re.findall(f"[{LETTERS}]{{4,}}", value)}
    parts = {word[start : start + 4] for word in words for start in range(len(word) - 3)}
    return {part for part in parts if part in text}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("passwords")


@pytest.fixture(autouse=True)
def _talkative_drivers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Drivers at their worst: whatever they are given is in their message. No network is used."""

    def sink(connection_string: str, **_: Any) -> None:
        raise mssql_python.OperationalError(
            f"cannot parse {connection_string}", f"[Microsoft][ODBC] {connection_string}"
        )

    def postgres(url: str, **_: Any) -> None:
        raise dbapi.OperationalError(f"[libpq] failed: {url}\nand {url}", status_code=AdbcStatusCode.IO)

    monkeypatch.setattr(mssql_python, "connect", sink)
    monkeypatch.setattr(driver, "connect", postgres)
    configured = structlog.get_config()
    yield
    structlog.configure(**configured)


@settings(max_examples=1000)
@given(environment=environments())
def test_no_part_of_a_password_is_in_any_output(folder: Path, environment: dict[str, str]) -> None:
    given_to = dict(environment)
    with pytest.MonkeyPatch.context() as patch, pytest.MonkeyPatch.context() as stderr:
        for side in (*_SIDES, *_LOGINS):
            for variable in _VARIABLES:
                patch.delenv(f"{side}_{variable}", raising=False)
        for name, value in environment.items():
            if name.endswith("_FILE"):
                (folder / name).write_text(value)
                given_to[name] = str(folder / name)
            patch.setenv(name, given_to[name])
        output = Output()
        stderr.setattr(sys, "stderr", output)
        tell(output)
    assert shown_in(output.text, environment) == set()


class Output:
    """A stderr that keeps what is printed."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        """Nothing is kept back."""

    def isatty(self) -> bool:
        return False


def tell(output: Output) -> None:
    """Have everything fail that is made of a connection's settings, and print what is said of it."""
    secrets: list[str] = []
    configure_logs(secrets)
    found = read_settings()
    secrets.extend(found.secrets())
    output.write(f"{found!r} {found} {found.tls_warnings()}")
    for make_url in (
        found.source,
        found.metadata,
        found.sink,
        found.sink_admin,
        found.sink_logins,
        found.sink_exporter,
        found.sink_backup,
    ):
        output.write(message(lambda make_url=make_url: repr(make_url())))
    output.write(" ".join(map(redacted_location, (found.source_url, found.sink_url, found.metadata_url))))
    work = StepContext(make(ORDERS), "run", whole(), found)
    for connecting in (
        lambda: connect_source(work.settings, work.pipeline, str(work)),
        lambda: connect_sink(work.settings, work.pipeline, str(work)),
        lambda: connect_to_prepare(found),
        lambda: connect_to_prepare(found, found.sink()),
    ):
        output.write(message(lambda connecting=connecting: connecting().__enter__()))
    output.write(message(lambda: Staging(found, "orders", "run", "all").has("extract")))
    output.write(message(lambda: backup_copy.copy_backups(found, back=False)))
    with suppress(EtlError):
        Poller(metadata_database(found)).poll()
    check(found, [], [], seconds=20)
    for name in ("source", "sink"):
        made = json.loads(UrlConnections().get_conn_value(name) or "{}")
        if "refused" in made.get("extra", {}):
            output.write(json.dumps(made))
        else:  # Airflow masks the password, and those of the extras whose name says so
            output.write(json.dumps(made | {"password": "", "extra": ""}))
    output.write(etl_airflow.probe.check("database", None))
    cli._unexpected(RuntimeError(f"anything, such as {message(lambda: found.sink().get_secret_value())}"), secrets)


def message(call: Any) -> str:
    """The text of a call's result, or of its failure."""
    try:
        return f"{call()} "
    except (EtlError, OSError) as error:
        return f"{error} "


def test_nor_where_loki_does_not_answer() -> None:
    with pytest.raises(LokiUnavailableError, match=r"^http://127.0.0.1:9 does not answer: ") as caught:
        Loki("http://etl:QXZJKV@127.0.0.1:9").query("{}", 0, 1, 1)
    assert "QXZJ" not in str(caught.value)


def test_what_a_driver_says_is_cut_after_secrets_are_blotted_out() -> None:
    found = Settings(sink_password=SecretStr("QXZJKV\nZZZJKV"), source_password=SecretStr("a failed: QXZJKV"))
    assert "ZZZ" not in str(translate_error(RuntimeError("x QXZJKV\nZZZJKV y"), "load", found))
    error = dbapi.OperationalError("x a failed: QXZJKV y", status_code=AdbcStatusCode.IO)
    assert "QXZ" not in source.server_words(error, found)
