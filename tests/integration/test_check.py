"""`etl check` says of each end what is wrong first, in one line, with the real servers' own words and no secret."""

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from etl.errors import ExitCode

from dev.sandbox.pipeline_fixture import PipelineFixture
from dev.sandbox.process import free_port
from tests.harness.etl_check import check, problem

TABLE = "--table=public.orders"
needs_stand_in = pytest.mark.skipif("SINK_URL" in os.environ, reason="a real server's grants are its administrator's")


def elsewhere(url: str, **changes: Any) -> str:
    """The URL with another `host`, `port` or `database`."""
    parts = urlsplit(url)
    host, port = changes.get("host", parts.hostname), changes.get("port", parts.port)
    user = parts.netloc.rpartition("@")[0]
    return parts._replace(netloc=f"{user}@{host}:{port}", path=changes.get("database", parts.path)).geturl()


@pytest.fixture
def ready(orders: PipelineFixture) -> PipelineFixture:
    """A site whose sink has what loads need."""
    orders.run()
    return orders


def test_all_is_well(ready: PipelineFixture) -> None:
    code, lines = check(ready, TABLE)
    assert code == ExitCode.OK
    assert {name: line["problem"] for name, line in lines.items()} == {"source": "", "sink": "", "staging": ""}
    assert 0 < lines["staging"]["free_bytes"] <= lines["staging"]["size_bytes"]
    assert list(Path(urlsplit(ready.settings.staging_url).path).glob(".check-*")) == []


def test_only_what_is_asked_for_is_looked_at(ready: PipelineFixture) -> None:
    _, lines = check(ready, "staging")
    assert set(lines) == {"staging"}


@pytest.mark.parametrize("side", ["source", "sink"])
def test_a_name_that_does_not_resolve(ready: PipelineFixture, side: str) -> None:
    urls = {"source": ready.source_url, "sink": ready.sink_url}
    changed = {f"{side.upper()}_URL": elsewhere(urls[side], host="nowhere.invalid")}
    _, word, words = problem(ready, side, **changed)
    assert word in ("name", "dns")  # where no server of names answers at all
    assert "nowhere.invalid does not resolve" in words


@pytest.mark.parametrize("side", ["source", "sink"])
def test_a_port_where_nobody_answers(ready: PipelineFixture, side: str) -> None:
    urls = {"source": ready.source_url, "sink": ready.sink_url}
    code, word, words = problem(ready, side, **{f"{side.upper()}_URL": elsewhere(urls[side], port=free_port())})
    assert (code, word) == (ExitCode.TRY_AGAIN, "port")
    assert "does not answer on port" in words


@pytest.mark.parametrize("side", ["source", "sink"])
def test_a_wrong_password(ready: PipelineFixture, side: str) -> None:
    code, word, words = problem(ready, side, **{f"{side.upper()}_PASSWORD": "wrong-and-secret"})
    assert (code, word) == (ExitCode.CONFIGURATION, "login")
    assert "wrong-and-secret" not in words


@pytest.mark.parametrize("side", ["source", "sink"])
def test_a_database_that_does_not_exist(ready: PipelineFixture, side: str) -> None:
    urls = {"source": ready.source_url, "sink": ready.sink_url}
    changed = {f"{side.upper()}_URL": elsewhere(urls[side], database="/nowhere")}
    assert problem(ready, side, **changed)[:2] == (ExitCode.CONFIGURATION, "database")


def test_a_source_table_that_may_not_be_read(ready: PipelineFixture) -> None:
    ready.change("CREATE ROLE reader LOGIN PASSWORD 'only-for-tests'")
    try:
        user = elsewhere(ready.source_url).replace("postgres:", "reader:", 1)
        code, word, words = problem(ready, "source", TABLE, SOURCE_URL=user)
        assert (code, word) == (ExitCode.CONFIGURATION, "table")
        assert "permission denied for table orders" in words
    finally:
        ready.change("DROP ROLE reader")


def test_a_source_table_that_is_not_there(ready: PipelineFixture) -> None:
    _, word, words = problem(ready, "source", "--table=public.nothing")
    assert word == "table"
    assert "public.nothing cannot be read" in words
    assert "does not exist" in words


@needs_stand_in
def test_a_sink_that_was_never_prepared(orders: PipelineFixture) -> None:
    from dev.sandbox.sqlserver import SqlServerDouble

    with SqlServerDouble(password="Aa1-only-for-tests") as server:  # of its own: the others' is prepared by their loads
        _, word, words = problem(orders, "sink", SINK_URL=server.url)
    assert word == "unprepared"
    ledger = "etl.audit, etl.watermark, etl.settled, etl.replaced, etl.backfill, etl.log_position, etl.verification"
    assert f"it lacks {ledger}, schema etl_staging" in words


def test_a_staging_folder_that_cannot_be_written_to(ready: PipelineFixture, tmp_path: Path) -> None:
    file = tmp_path / "a-file"
    file.touch()
    _, word, words = problem(ready, "staging", STAGING_URL=f"file://{file}/staging")
    assert word == "write"
    assert "Staging cannot be written" in words


def test_a_server_that_does_not_answer_is_told_in_time(ready: PipelineFixture) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as mute:
        changed = elsewhere(ready.source_url, port=mute.getsockname()[1])
        _, word, words = problem(ready, "source", "--seconds=3", SOURCE_URL=changed)
    assert word in ("silent", "connection")
    assert words


def test_what_cannot_be_checked_is_refused(ready: PipelineFixture) -> None:
    code, lines = check(ready, "weather")
    assert (code, lines) == (ExitCode.CONFIGURATION, {})
