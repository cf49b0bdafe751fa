"""`etl check` says of each state in which a pipeline cannot read the source's log what it is, and what to do."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from etl.config.settings import Settings
from etl.errors import ConfigurationError, ExitCode
from etl.model.pipeline import Pipeline
from etl.postgres.log_checks import check_log
from etl.postgres.log_problems import log_problems, log_warnings
from etl.postgres.log_state import read_log_state
from etl.postgres.prepare import prepare_source
from pydantic import SecretStr

import dev.sandbox.postgres
from dev.sandbox.pipeline_fixture import PipelineFixture
from dev.sandbox.pipelines import ORDERS, make
from dev.sandbox.postgres import PASSWORD, Postgres, run_postgres, run_standby
from dev.sandbox.stack import INIT_SQL
from dev.sandbox.waiting import wait_for
from tests.harness.etl_check import check, problem

LOG = make(ORDERS, name="orders_problems", capture="log")
ARGUMENT = f"--pipeline={LOG.model_dump_json()}"


def run(url: str, *statements: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def prepare(url: str) -> None:
    user, password = urlsplit(url).username, urlsplit(url).password
    settings = Settings.model_validate(
        {"source_url": url, "source_admin_user": user, "source_admin_password": password}
    )
    prepare_source(settings, [LOG], undo=False, execute=True, wait_seconds=10)


def said(url: str, pipeline: Pipeline = LOG) -> list[str]:
    with psycopg.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        return log_problems(pipeline, read_log_state(pipeline, cursor))


@contextmanager
def server_with(**settings: object) -> Iterator[str]:
    """A server with other settings: the URL of its orders."""
    before = dict(dev.sandbox.postgres.LOGICAL)
    dev.sandbox.postgres.LOGICAL.update(settings)
    try:
        with run_postgres() as server:
            yield server.create_database("orders", INIT_SQL)
    finally:
        dev.sandbox.postgres.LOGICAL.clear()
        dev.sandbox.postgres.LOGICAL.update(before)


@pytest.fixture
def ready(orders: PipelineFixture) -> Iterator[PipelineFixture]:
    """A site whose source is prepared for the log."""
    orders.run()
    prepare(orders.source_url)
    yield orders
    run(
        orders.source_url,
        f"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{LOG.slot_name}'",
    )


def test_all_is_well_and_log_without_a_limit_is_warned_of(ready: PipelineFixture) -> None:
    code, lines = check(ready, "source", ARGUMENT)
    assert (code, lines["source"]["problem"]) == (ExitCode.OK, "")
    assert "max_slot_wal_keep_size of the source is -1" in lines["source"]["advice"][0]


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        (f"SELECT pg_drop_replication_slot('{LOG.slot_name}')", f"has no replication slot {LOG.slot_name}"),
        (f"DROP PUBLICATION {LOG.publication_name}", f"the source has no publication {LOG.publication_name}"),
        (f"ALTER PUBLICATION {LOG.publication_name} DROP TABLE orders", "does not have public.orders"),
        (f"ALTER PUBLICATION {LOG.publication_name} SET (publish = 'insert')", "not publish both inserts and updates"),
        (f"ALTER PUBLICATION {LOG.publication_name} SET TABLE orders WHERE (amount > 1)", "has the row filter"),
        ("ALTER TABLE orders REPLICA IDENTITY DEFAULT", "logged without the values of customer, note, status"),
        ("ALTER TABLE orders REPLICA IDENTITY NOTHING", "has no replica identity, so UPDATE and DELETE fail"),
        (
            "ALTER TABLE orders REPLICA IDENTITY DEFAULT, DROP CONSTRAINT orders_pkey,"
            " ADD PRIMARY KEY (order_id) DEFERRABLE",
            "has no replica identity, so UPDATE and DELETE fail",
        ),
        ("ALTER TABLE orders SET UNLOGGED", "public.orders is unlogged"),
        ("ALTER TABLE orders RENAME TO gone", "there is no table public.orders"),
    ],
)
def test_a_state_in_which_no_run_can_read(ready: PipelineFixture, statement: str, sentence: str) -> None:
    # A published table may not become unlogged.
    run(ready.source_url, *[f"DROP PUBLICATION {LOG.publication_name}"] * ("UNLOGGED" in statement), statement)
    code, word, words = problem(ready, "source", "source", ARGUMENT)
    assert (code, word) == (ExitCode.CONFIGURATION, "log")
    assert sentence in words
    if not statement.endswith("IDENTITY DEFAULT"):  # of which plan warns: short values are sent
        with psycopg.connect(ready.source_url) as connection, pytest.raises(ConfigurationError, match=LOG.name):
            check_log(LOG, connection.cursor())
    assert words.startswith(f"{LOG.name}: ")


def test_columns_that_are_not_in_the_publications_list_or_generated(ready: PipelineFixture) -> None:
    run(
        ready.source_url,
        "ALTER TABLE orders REPLICA IDENTITY DEFAULT",
        f"ALTER PUBLICATION {LOG.publication_name} SET TABLE orders (order_id, status)",
    )
    assert any("does not send amount, created_at, currency" in each for each in said(ready.source_url))
    run(ready.source_url, f"ALTER PUBLICATION {LOG.publication_name} SET TABLE orders")
    run(ready.source_url, "ALTER TABLE orders ADD twice numeric(12,2) GENERATED ALWAYS AS (amount * 2) STORED")
    wider = make(ORDERS, name=LOG.name, capture="log", columns={**ORDERS["columns"], "twice": "numeric(12,2) null"})
    assert any("does not send twice, a generated column" in each for each in said(ready.source_url, wider))


def test_a_view_has_no_log(ready: PipelineFixture) -> None:
    run(ready.source_url, "CREATE VIEW seen AS SELECT * FROM orders")
    assert "is no table but a view" in said(ready.source_url, make(ORDERS, capture="log", source="public.seen"))[0]


def test_partitions_published_under_their_own_names(ready: PipelineFixture) -> None:
    run(
        ready.source_url,
        "CREATE TABLE parts (LIKE orders, PRIMARY KEY (order_id)) PARTITION BY RANGE (order_id)",
        "CREATE TABLE part PARTITION OF parts DEFAULT",
        "ALTER TABLE part REPLICA IDENTITY FULL",
        f"ALTER PUBLICATION {LOG.publication_name} SET TABLE parts",
    )
    parts = make(ORDERS, name=LOG.name, capture="log", source="public.parts")
    assert "does not have public.parts under this name" in said(ready.source_url, parts)[0]
    run(ready.source_url, f"ALTER PUBLICATION {LOG.publication_name} SET (publish_via_partition_root)")
    assert said(ready.source_url, parts) == []


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        ("'test_decoding'", "and the plugin test_decoding"),
        ("'pgoutput', false, true", "decodes prepared transactions"),
    ],
)
def test_a_slot_of_another_kind(ready: PipelineFixture, made: str, sentence: str) -> None:
    try:
        run(
            ready.source_url,
            f"SELECT pg_drop_replication_slot('{LOG.slot_name}')",
            f"SELECT pg_create_logical_replication_slot('{LOG.slot_name}', {made})",
        )
    except psycopg.errors.UndefinedFile:
        pytest.skip("the server has no other plugin")
    assert any(sentence in each for each in said(ready.source_url))


def test_a_slot_of_another_database(ready: PipelineFixture, postgres: Postgres) -> None:
    run(ready.source_url, f"SELECT pg_drop_replication_slot('{LOG.slot_name}')")
    run(postgres.url("postgres"), f"SELECT pg_create_logical_replication_slot('{LOG.slot_name}', 'pgoutput')")
    assert any("is of the database postgres" in each for each in said(ready.source_url))


def test_a_slot_that_another_reader_has(ready: PipelineFixture) -> None:
    with psycopg.connect(f"{ready.source_url}?replication=database", autocommit=True) as connection:
        options = f"(proto_version '1', publication_names '{LOG.publication_name}')"
        connection.pgconn.send_query(f"START_REPLICATION SLOT {LOG.slot_name} LOGICAL 0/0 {options}".encode())
        wait_for(lambda: bool(said(ready.source_url)), 30, 0.05)
        assert f"{LOG.slot_name} is in use by process" in said(ready.source_url)[0]
        connection.pgconn.finish()
    wait_for(lambda: not said(ready.source_url), 30, 0.05)


def test_a_role_that_may_not_read_the_log(ready: PipelineFixture) -> None:
    role = f"reader_{uuid.uuid4().hex[:8]}"
    run(ready.source_url, f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
    try:
        parts = urlsplit(ready.source_url)
        found = said(f"postgresql://{role}:{PASSWORD}@{parts.hostname}:{parts.port}{parts.path}")
        assert [f'ALTER ROLE "{role}" REPLICATION' in found[0], "may not read public.orders" in found[1]] == [True] * 2
    finally:
        run(ready.source_url, f"DROP ROLE {role}")


def test_a_standby(ready: PipelineFixture, postgres: Postgres) -> None:
    if postgres.server is None:
        pytest.skip("the server of SOURCE_URL is not ours to copy")
    with run_standby(postgres) as standby:
        url = standby.url(urlsplit(ready.source_url).path[1:])
        assert "the source is a standby" in said(url)[0]
        with pytest.raises(ConfigurationError, match="the source is a standby; let SOURCE_URL name the primary"):
            prepare(url)


def test_a_server_whose_log_has_no_rows(capsys: pytest.CaptureFixture[str]) -> None:
    with server_with(wal_level="replica") as url:
        assert (
            "wal_level of the source is replica, so its log has no rows; as a superuser: ALTER SYSTEM" in said(url)[0]
        )
        with pytest.raises(ConfigurationError, match="wal_level of the source is replica"):
            prepare(url)
        assert run(url, "SELECT FROM pg_publication") == []
        settings = Settings(source_url=SecretStr(url))
        prepare_source(settings, [LOG], undo=False, execute=False, wait_seconds=10)
        assert "ALTER SYSTEM SET wal_level = 'logical';" in capsys.readouterr().out


def test_a_slot_that_lost_its_log_is_made_anew(capsys: pytest.CaptureFixture[str]) -> None:
    with server_with(max_slot_wal_keep_size="1MB") as url:
        prepare(url)
        for _ in range(3):
            run(url, "SELECT pg_logical_emit_message(false, '', 'x')", "SELECT pg_switch_wal()")
        with psycopg.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
            warned = log_warnings(LOG, read_log_state(LOG, cursor))
        assert "is lost at the next checkpoint: run the pipeline now" in warned[-1]
        run(url, "CHECKPOINT")
        assert f"the replication slot {LOG.slot_name} is lost: the server removed log" in said(url)[0]
        prepare(url)
        assert said(url) == []


def test_no_free_slot() -> None:
    with server_with(max_replication_slots=1) as url:
        run(url, "SELECT pg_create_physical_replication_slot('other')")
        with pytest.raises(ConfigurationError, match="all replication slots of the source are in use"):
            prepare(url)
