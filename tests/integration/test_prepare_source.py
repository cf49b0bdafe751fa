"""`etl prepare-source` lets a pipeline read the source's log, and takes that back; the application's writes never fail.

On the sandbox's Postgres, and on that of /usr/lib/postgresql, another major version.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from etl.config.settings import Settings
from etl.errors import ConfigurationError, TryAgainError
from etl.model.pipeline import Pipeline
from etl.postgres import log_sql
from etl.postgres.log_checks import check_log
from etl.postgres.log_problems import log_problems
from etl.postgres.log_state import LogState, read_log_state
from etl.postgres.prepare import prepare_source
from etl.postgres.prepare_steps import Step, steps_to_prepare
from pydantic import SecretStr

from dev.sandbox.pipeline_fixture import pipeline_fixture
from dev.sandbox.pipelines import ORDERS, make
from dev.sandbox.postgres import PASSWORD, Postgres
from dev.sandbox.stack import INIT_SQL
from dev.sandbox.waiting import wait_for
from tests.harness.runs import Runs

LONG = "(SELECT string_agg(md5(n::text), '') FROM generate_series(1, 400) AS n)"
"""Too long for its row, and not to be compressed to that."""


@dataclass(frozen=True)
class Site:
    """A source with orders, a role that reads it, and the administrator."""

    url: str
    role: str
    pipeline: Pipeline

    def settings(self, **changes: Any) -> Settings:
        parts = urlsplit(self.url)
        where = f"{parts.hostname}:{parts.port}{parts.path}"
        url = SecretStr(f"postgresql://{self.role}:{PASSWORD}@{where}?sslmode=disable")
        administrator = {"source_admin_user": parts.username, "source_admin_password": parts.password}
        return Settings.model_validate({"source_url": url} | administrator | changes)

    def prepare(self, *, undo: bool = False, execute: bool = True, wait: float = 10) -> None:
        prepare_source(self.settings(), [self.pipeline], undo=undo, execute=execute, wait_seconds=wait)

    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements, each in its own transaction; the rows of the last."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def state(self) -> LogState:
        with psycopg.connect(self.url, autocommit=True) as connection, connection.cursor() as cursor:
            return read_log_state(self.pipeline, cursor, self.role)

    def problems(self) -> list[str]:
        return log_problems(self.pipeline, self.state())

    def missing(self) -> list[Step]:
        return steps_to_prepare(self.pipeline, self.state())

    def identity(self, table: str = "orders") -> str:
        with psycopg.connect(self.url) as connection:
            query = "SELECT relreplident::text FROM pg_class WHERE relname = %s"
            return str(connection.execute(query, (table,)).fetchall()[0][0])


@pytest.fixture(scope="module", params=["the sandbox's", "another major"])
def server(request: pytest.FixtureRequest) -> Postgres:
    name = "postgres" if request.param == "the sandbox's" else "full_postgres"
    made: Postgres = request.getfixturevalue(name)
    return made


@pytest.fixture
def site(server: Postgres) -> Iterator[Site]:
    mark = uuid.uuid4().hex[:8]
    url = server.create_database(f"log_{mark}", INIT_SQL)
    pipeline = make(ORDERS, name=f"orders_{mark}", capture="log")
    made = Site(url, f"reader_{mark}", pipeline)
    made.run(f"CREATE ROLE {made.role} LOGIN PASSWORD '{PASSWORD}'")
    yield made
    server.drop_database(f"log_{mark}")  # with its slots
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        connection.execute(f"DROP ROLE {made.role}".encode())


@contextmanager
def streaming(site: Site) -> Iterator[None]:
    """Another reader of the slot."""
    name, publication = site.pipeline.slot_name, site.pipeline.publication_name
    with psycopg.connect(f"{site.url}?replication=database", autocommit=True) as connection:
        options = f"(proto_version '1', publication_names '{publication}')"
        connection.pgconn.send_query(f"START_REPLICATION SLOT {name} LOGICAL 0/0 {options}".encode())
        wait_for(lambda: (slot := site.state().slot) is not None and slot.user is not None, 30, 0.05)
        yield
        connection.pgconn.finish()
    wait_for(lambda: (slot := site.state().slot) is not None and slot.user is None, 30, 0.05)


def changes(site: Site) -> list[bytes]:
    """Messages of the slot, read by the pipeline's role."""
    with psycopg.connect(site.settings().source().get_secret_value(), autocommit=True) as connection:
        rows = connection.execute(
            "SELECT data FROM pg_logical_slot_peek_binary_changes(%s, NULL, NULL, 'proto_version', '1',"
            " 'publication_names', %s)",
            (site.pipeline.slot_name, site.pipeline.publication_name),
        )
        return [row[0] for row in rows.fetchall()]


def test_the_role_reads_changes_afterwards_with_the_values_that_they_left(site: Site) -> None:
    site.run(f"UPDATE orders SET note = {LONG} WHERE order_id = 1")
    ((note,),) = site.run("SELECT note FROM orders WHERE order_id = 1")
    site.prepare()
    assert site.problems() == []
    site.run("UPDATE orders SET status = 'shipped' WHERE order_id = 1")
    assert any(note.encode() in message for message in changes(site))


def test_the_role_needs_no_more_rights_than_it_gets(site: Site) -> None:
    site.prepare()
    with psycopg.connect(site.settings().source().get_secret_value(), autocommit=True) as connection:
        cursor = connection.cursor()
        found = check_log(site.pipeline, cursor)
        cursor.execute(log_sql.peek(site.pipeline, found.flushed).encode())
        cursor.execute(log_sql.advance(site.pipeline, found.flushed).encode())
        cursor.execute("SELECT count(*) FROM orders")
        assert cursor.fetchall() == [(4000,)]


def test_it_may_be_repeated_and_then_changes_nothing(site: Site) -> None:
    site.prepare()
    before = site.state()
    assert site.missing() == []
    site.prepare()
    assert replace(before, slot=None) == replace(site.state(), slot=None)
    assert site.state().slot is not None


def test_the_printed_statements_do_the_same(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.prepare(execute=False)
    printed = capsys.readouterr().out
    assert site.state().publication is None, "printing changes nothing"
    site.run(*(line for line in printed.splitlines() if not line.startswith("--")))
    assert site.problems() == []
    site.prepare(execute=False)
    assert "Nothing else is missing" in capsys.readouterr().out
    site.prepare(execute=False, undo=True)
    site.run(*(line for line in capsys.readouterr().out.splitlines() if not line.startswith("--")))
    assert (site.state().publication, site.state().slot, site.identity()) == (None, None, "d")
    site.prepare(execute=False, undo=True)
    assert "Nothing is there to take back" in capsys.readouterr().out


def test_no_step_on_the_way_breaks_the_applications_writes(site: Site) -> None:
    site.run("ALTER TABLE orders DROP CONSTRAINT orders_pkey", "CREATE UNIQUE INDEX own ON orders (order_id)")
    site.prepare(execute=False)
    for step in site.missing():
        site.run(step.statement, "UPDATE orders SET amount = amount WHERE order_id < 3")
        site.run("DELETE FROM orders WHERE order_id = 4000")
    assert site.problems() == []


def test_rows_are_logged_whole_only_where_a_change_would_lack_a_value(site: Site) -> None:
    columns = {name: kind for name, kind in ORDERS["columns"].items() if name not in ("note", "customer", "status")}
    narrow = replace(
        site, pipeline=make(ORDERS, name=site.pipeline.name, capture="log", columns=columns, filter="true")
    )
    narrow.prepare()
    assert narrow.identity() == "d"
    assert narrow.problems() == []
    # The wider pipeline has columns of which an update may not send the value.
    assert "without the values of customer, note, status" in site.problems()[0]
    site.prepare()
    assert site.identity() == "f"


def test_short_values_are_never_moved_out_of_their_row(site: Site) -> None:
    """The rule by which columns need no FULL, tried with the longest values of each type."""
    short = {"one": "varchar(5)", "two": "char(5)", "three": "numeric(29,0)", "four": "numeric(12,2)"}
    columns = ", ".join(f"{name}_{n} {kind}" for n in range(120) for name, kind in short.items())
    site.run(f"CREATE TABLE wide (id bigint PRIMARY KEY, filler text, {columns})")
    site.run("ALTER TABLE wide ALTER filler SET STORAGE EXTERNAL")
    values = ["repeat('🚚', 5)", "repeat('🚚', 5)", "repeat('9', 29)::numeric", "9999999999.99"] * 60
    names = [f"{name}_{n}" for n in range(60) for name in short]
    site.run(f"INSERT INTO wide (id, filler, {', '.join(names)}) SELECT 1, repeat('x', 5000), {', '.join(values)}")
    ((chunks,),) = site.run(
        "SELECT count(DISTINCT chunk_id) FROM pg_toast.pg_toast_" + str(site.run("SELECT 'wide'::regclass::oid")[0][0])
    )
    assert chunks == 1, "the filler alone is stored out of line"
    listed = {"id": "bigint"} | {name: f"{short[name.split('_')[0]]} null" for name in names[:8]}
    pipeline = make(ORDERS, name=site.pipeline.name, capture="log", columns=listed, key=["id"], filter="true",
                    source="public.wide", version=None)  # fmt: skip
    assert replace(site, pipeline=pipeline).missing()[-1].statement.startswith("SELECT")
    assert not [step for step in replace(site, pipeline=pipeline).missing() if "FULL" in step.statement]


def test_each_partition_gets_the_identity_and_changes_come_under_the_tables_name(site: Site) -> None:
    site.run(
        "CREATE TABLE parts (LIKE orders, PRIMARY KEY (order_id)) PARTITION BY RANGE (order_id)",
        "CREATE TABLE low PARTITION OF parts FOR VALUES FROM (0) TO (10)",
        "CREATE TABLE high PARTITION OF parts FOR VALUES FROM (10) TO (20) PARTITION BY RANGE (order_id)",
        "CREATE TABLE highest PARTITION OF high FOR VALUES FROM (10) TO (20)",
    )
    parts = replace(site, pipeline=make(ORDERS, name=site.pipeline.name, capture="log", source="public.parts"))
    parts.prepare()
    assert (parts.identity("low"), parts.identity("highest"), parts.identity("parts")) == ("f", "f", "d")
    assert parts.problems() == []
    parts.run("INSERT INTO parts SELECT * FROM orders WHERE order_id = 12")
    assert any(message[:1] == b"R" and b"parts\0" in message for message in changes(parts))
    # A new partition has the default.
    parts.run("CREATE TABLE later PARTITION OF parts FOR VALUES FROM (20) TO (30)")
    assert "a change of public.later" in parts.problems()[0]
    parts.prepare()
    assert parts.problems() == []
    parts.prepare(undo=True)
    assert [parts.identity(name) for name in ("low", "highest", "later")] == ["d", "d", "d"]


@pytest.mark.parametrize("identity", ["DEFAULT", "NOTHING", "USING INDEX own"])
def test_undo_restores_the_identity_that_was(site: Site, identity: str) -> None:
    site.run("CREATE UNIQUE INDEX own ON orders (order_id)", f"ALTER TABLE orders REPLICA IDENTITY {identity}")
    before = site.state().tables
    site.prepare()
    assert site.identity() == "f"
    site.prepare(undo=True)
    after = site.state()
    assert (after.tables, after.publication, after.slot) == (before, None, None)
    site.prepare(undo=True)


def test_any_name_will_do(site: Site) -> None:
    site.run("""CREATE TABLE "o'r\\d ""e""rs" (LIKE orders, PRIMARY KEY (order_id))""")
    odd = {"source": """"public"."o'r\\d ""e""rs\"""", "publication": """p'u\\b "l" """, "slot": f"{site.role}_1"}
    named = replace(site, pipeline=make(ORDERS, name=site.pipeline.name, capture="log", **odd))
    named.prepare()
    assert (named.problems(), named.identity(odd["source"].partition(".")[2][1:-1].replace('""', '"'))) == ([], "f")
    named.prepare(undo=True)
    assert (named.state().publication, named.state().slot, named.state().tables[0].identity) == (None, None, "d")


def test_undo_leaves_what_others_have(site: Site) -> None:
    own = {"publication": "theirs", "capture": "log"}
    site.run("CREATE PUBLICATION theirs FOR ALL TABLES", "ALTER TABLE orders REPLICA IDENTITY FULL")
    theirs = replace(site, pipeline=make(ORDERS, name=site.pipeline.name, **own))
    theirs.prepare()
    assert theirs.problems() == []
    theirs.prepare(undo=True)
    state = theirs.state()
    assert (state.publication is not None, state.slot, theirs.identity()) == (True, None, "f")
    site.prepare()
    site.prepare(undo=True)
    assert (site.state().publication, site.identity()) == (None, "f")


def test_a_slot_is_not_made_behind_an_open_transaction_which_is_named(site: Site) -> None:
    with psycopg.connect(site.url, application_name="nightly report") as open_one:
        open_one.execute("CREATE TABLE kept_open ()")
        with pytest.raises(
            TryAgainError, match=r"open are process \d+ of \w+ \(nightly report\).* Try again"
        ) as raised:
            site.prepare(wait=1)
        assert "pg_create_logical_replication_slot" in str(raised.value)
        assert site.state().slot is None
    site.prepare()
    assert site.problems() == []


def test_a_table_in_use_is_not_waited_for_longer_than_allowed(site: Site) -> None:
    """Else every query of the table would wait behind ALTER TABLE."""
    with psycopg.connect(site.url) as reader:
        reader.execute("SELECT FROM orders")
        with pytest.raises(TryAgainError, match="lock timeout"):
            site.prepare(wait=1)
    assert site.identity() == "d"


def test_full_is_refused_where_another_publication_lists_columns(site: Site) -> None:
    site.run("CREATE PUBLICATION other FOR TABLE orders (order_id, status)")
    with pytest.raises(ConfigurationError, match="UPDATE and DELETE would fail, because the publication other lists"):
        site.prepare()
    site.run("UPDATE orders SET amount = 1 WHERE order_id = 1")


def test_a_row_filter_is_taken_away_and_the_table_added(site: Site) -> None:
    name = site.pipeline.publication_name
    site.run(f"CREATE PUBLICATION {name} FOR TABLE orders WHERE (order_id > 5) WITH (publish = 'insert')")
    assert len(site.problems()) >= 2
    site.prepare()
    assert site.problems() == []
    site.run(f"ALTER PUBLICATION {name} DROP TABLE orders")
    assert "does not have public.orders" in site.problems()[0]
    site.prepare()
    assert site.problems() == []


def test_a_slot_of_another_plugin_is_left_alone(site: Site) -> None:
    site.run(f"SELECT pg_create_physical_replication_slot('{site.pipeline.slot_name}')")
    try:
        for undo in (False, True):
            with pytest.raises(ConfigurationError, match="is one for a standby"):
                site.prepare(undo=undo)
    finally:
        site.run(f"SELECT pg_drop_replication_slot('{site.pipeline.slot_name}')")


def test_a_slot_in_use_is_not_removed(site: Site) -> None:
    site.prepare()
    with streaming(site), pytest.raises(ConfigurationError, match="is used by process"):
        site.prepare(undo=True)
    site.prepare(undo=True)


def test_a_service_of_amazon_is_recognised(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.run("CREATE ROLE rds_replication")
    try:
        site.prepare(execute=False)
        assert f'GRANT rds_replication TO "{site.role}";' in capsys.readouterr().out
        site.run(f"GRANT rds_replication TO {site.role}")
        role = site.state().role
        assert role is not None
        assert role.reads_log
    finally:
        site.run("DROP ROLE rds_replication")


def test_a_pipeline_of_versions_needs_nothing(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    replace(site, pipeline=make(ORDERS, name=site.pipeline.name)).prepare(execute=False)
    assert ";" not in capsys.readouterr().out
    assert site.state().slot is None


def test_a_prepared_source_is_loaded_and_every_change_arrives(
    source_url: str, sink_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = urlsplit(source_url)
    with pipeline_fixture(ORDERS, source_url, sink_url, tmp_path, capture="log") as made:
        administrator = {"source_admin_user": parts.username, "source_admin_password": parts.password}
        settings = Settings.model_validate({"source_url": source_url} | administrator)
        prepare_source(settings, [made.pipeline], undo=False, execute=True, wait_seconds=10)
        runs = Runs(made, monkeypatch)
        runs.run("first")
        assert made.sink_rows() == made.source_rows("status = 'confirmed'")
        made.change(f"UPDATE orders SET note = {LONG} WHERE order_id < 50 AND status = 'confirmed'")
        # Its long note is not in the change itself.
        made.change("UPDATE orders SET status = 'confirmed' WHERE order_id = 1")
        rows = made.source_rows("status = 'confirmed'")
        made.change("UPDATE orders SET status = 'shipped' WHERE order_id < 100")
        runs.run("second")
        assert made.sink_rows() == rows
        prepare_source(settings, [made.pipeline], undo=True, execute=True, wait_seconds=10)
