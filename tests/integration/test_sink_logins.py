"""The logins of the sink beside the loader's: the exporter's reads what metrics are made of, that of backups backs up.

Against the SQL Server double, which answers as Microsoft documents these permissions.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from os import environ
from pathlib import Path
from urllib.parse import quote

import pytest
from etl.config.settings import Settings
from etl.errors import ConfigurationError
from etl.exporter.poller import Poller
from etl.exporter.sink import sink_database
from etl.sqlserver import ledger, prepare_sql
from etl.sqlserver import sql as sink_sql
from etl.sqlserver.backup import backup_sink, restore_sink
from prometheus_client import Metric

from dev.sandbox.sqlserver import SqlServerDouble
from tests.harness.sink_server import ORDERS_PIPELINE, Server, refused, run

pytestmark = pytest.mark.skipif("SINK_URL" in environ, reason="a real server's logins are not the tests' own")
EXPORTER, BACKUP = "Exporter-1", "B@ckups;-1"
COUNTERS = {"sink_sessions", "sink_open_transactions", "sink_deadlocks", "sink_lock_waits"}


@dataclass(frozen=True)
class Logins(Server):
    """A server on which the exporter and backups have logins of their own."""

    own: dict[str, str] = field(
        default_factory=lambda: {
            "SINK_EXPORTER_PASSWORD": EXPORTER,
            "SINK_EXPORTER_COUNTERS": "true",
            "SINK_BACKUP_PASSWORD": BACKUP,
        }
    )

    @property
    def environment(self) -> dict[str, str]:
        """The environment of `etl prepare-sink`."""
        return super().environment | self.own

    def holding(self, *names: str, **more: str) -> Settings:
        """The settings of a process that knows SINK_URL and these secrets alone."""
        known = {name: self.environment[name] for name in ("SINK_URL", *names)} | more
        return Settings.model_validate({name.lower(): value for name, value in known.items()})

    def do(self, who: str, statement: str, database: str = "") -> list[tuple[object, ...]]:
        """Run a statement as the exporter or as who backs up."""
        password = {"exporter": "SINK_EXPORTER_PASSWORD", "backup": "SINK_BACKUP_PASSWORD"}[who]
        user = f"{self.login}_{who}:{quote(self.own[password], safe='')}@"
        return run(self.url(user, database), statement)

    def metrics(self) -> dict[str, Metric]:
        """Metrics of `etl export-metrics`, with the password of the exporter alone."""
        poller = Poller(sink_database(self.holding("SINK_EXPORTER_PASSWORD")))
        poller.poll()
        return {metric.name: metric for metric in poller.collect()}


@pytest.fixture
def server() -> Iterator[Logins]:
    """A server that was prepared, from whose sink a row was erased once."""
    with SqlServerDouble(password="Adm1n-of-the-'stand-in'", database="") as sql_server:
        made = Logins(sql_server.url, "sink", "etl")
        made.prepare(ORDERS_PIPELINE)
        made.as_administrator(sink_sql.create_table(ledger.erasure_table()))
        yield made


def answered(metrics: dict[str, Metric]) -> dict[str, float]:
    """By query, whether it was answered."""
    return {sample.labels["query"]: sample.value for sample in metrics["sink_query_up"].samples}


def test_each_has_a_login_a_user_and_a_role(server: Logins) -> None:
    assert server.as_administrator("SELECT name FROM sys.sql_logins ORDER BY name", database="master") == [
        ("etl",), ("etl_backup",), ("etl_exporter",),
    ]  # fmt: skip
    for user, role in (("etl_exporter", "etl_metrics"), ("etl_backup", "etl_backups")):
        assert server.as_administrator(prepare_sql.IS_MEMBER, role, user) == [(1,)]
        assert server.as_administrator(prepare_sql.IS_MEMBER, prepare_sql.ROLE, user) == [(0,)]


def test_without_passwords_there_are_no_such_logins_and_the_loader_s_is_used() -> None:
    with SqlServerDouble(password="Adm1n-of-the-'stand-in'", database="") as sql_server:
        alone = Logins(sql_server.url, "sink", "etl", own={})
        alone.prepare(ORDERS_PIPELINE)
        assert alone.as_administrator("SELECT name FROM sys.sql_logins", database="master") == [("etl",)]
        settings = alone.holding("SINK_PASSWORD")
        assert settings.sink_exporter() == settings.sink()


def test_prepared_twice_is_once(server: Logins) -> None:
    assert server.prepare(ORDERS_PIPELINE) == []


def test_the_exporter_reads_all_of_its_metrics(server: Logins) -> None:
    server.as_administrator(
        "INSERT INTO [etl].[watermark] ([pipeline], [value], [run_id], [advanced_at])"
        " VALUES (N'orders', '2026-01-01', N'run', '2026-01-01')"
    )
    metrics = server.metrics()
    assert set(answered(metrics)) == {"size", "edition", "watermarks", "log_positions", "loads", "counters"}
    assert set(answered(metrics).values()) == {1.0}
    assert metrics.keys() >= COUNTERS
    assert [sample.labels for sample in metrics["etl_watermark_age_seconds"].samples] == [{"pipeline": "orders"}]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT [order_id] FROM [dbo].[orders]",
        "SELECT [pipeline] FROM [etl].[settled]",
        "SELECT [row_mask] FROM [etl].[erasure]",
        "INSERT INTO [dbo].[orders] ([order_id]) VALUES (1)",
        "INSERT INTO [etl].[audit] ([pipeline]) VALUES (N'orders')",
        "DELETE FROM [etl].[audit]",
        "UPDATE [etl].[watermark] SET [value] = '2030-01-01'",
        "TRUNCATE TABLE [etl].[audit]",
        "CREATE TABLE [etl_staging].[mine] ([n] int)",
        "GRANT DELETE ON SCHEMA::[dbo] TO [etl_metrics]",
        "BACKUP DATABASE [sink] TO DISK = N'/tmp/none.bak' WITH COPY_ONLY, CHECKSUM",
    ],
)
def test_the_exporter_may_do_nothing_else(server: Logins, statement: str) -> None:
    with refused("permission"):
        server.do("exporter", statement)


def test_counters_of_the_whole_server_are_shown_where_that_is_asked_for(server: Logins) -> None:
    with SqlServerDouble(password="Adm1n-of-the-'stand-in'", database="") as sql_server:
        of_others = Logins(sql_server.url, "sink", "etl", own={"SINK_EXPORTER_PASSWORD": EXPORTER})
        of_others.prepare()
        metrics = of_others.metrics()
        assert {query for query, is_answered in answered(metrics).items() if not is_answered} == {"counters"}
        assert not metrics.keys() & COUNTERS


def test_the_loader_sees_the_counters_no_longer(server: Logins) -> None:
    grant = f"GRANT VIEW SERVER PERFORMANCE STATE TO [{server.login}]"
    server.as_administrator(grant, database="master")
    counters = "SELECT cntr_value FROM sys.dm_os_performance_counters"
    assert server.as_loader(counters)
    server.prepare(ORDERS_PIPELINE)
    with refused("VIEW SERVER PERFORMANCE STATE permission was denied"):
        server.as_loader(counters)


@pytest.mark.parametrize(
    ("version", "permission"),
    [(None, "VIEW SERVER STATE"), ("15", "VIEW SERVER STATE"), ("16", "VIEW SERVER PERFORMANCE STATE")],
)
def test_the_counters_need_less_from_2022_on(version: str, permission: str) -> None:
    assert prepare_sql.grants_of_counters("etl_exporter", "etl", version) == [
        f"GRANT {permission} TO [etl_exporter]",
        f"REVOKE {permission} FROM [etl]",
    ]


def test_in_an_azure_sql_database_the_exporter_reads_its_metrics_too() -> None:
    with SqlServerDouble(password="Adm1n-of-the-'stand-in'", database="", azure=True) as azure:
        own = {"SINK_EXPORTER_PASSWORD": EXPORTER, "SINK_EXPORTER_COUNTERS": "true"}
        server = Logins(azure.url, "sink", "etl", own=own)
        server.prepare()
        assert set(answered(server.metrics()).values()) == {1.0}
        with pytest.raises(ConfigurationError, match="keeps backups itself: unset it"):
            replace(server, own=own | {"SINK_BACKUP_PASSWORD": BACKUP}).prepare()


@pytest.mark.parametrize("who", ["exporter", "backup"])
def test_another_password_takes_the_place_of_the_old_one(server: Logins, who: str) -> None:
    variable = f"SINK_{who.upper()}_PASSWORD"
    rotated = replace(server, own=server.own | {variable: "Another-1'"})
    assert rotated.prepare(ORDERS_PIPELINE) == [f"changed the password of login etl_{who}"]
    assert rotated.do(who, "SELECT 1") == [(1,)]
    with refused("Login failed"):
        server.do(who, "SELECT 1")


def test_a_backup_is_made_and_read_again_without_the_administrator(server: Logins, tmp_path: Path) -> None:
    settings = server.holding("SINK_BACKUP_PASSWORD", BACKUP_FOLDER=str(tmp_path))
    made = backup_sink(settings, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == [made.name]
    with pytest.raises(ConfigurationError, match="SINK_PASSWORD is not set"):
        restore_sink(settings, made.name)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT [order_id] FROM [dbo].[orders]",
        "SELECT [pipeline] FROM [etl].[audit]",
        "SELECT [row_mask] FROM [etl].[erasure]",
        "DELETE FROM [etl].[audit]",
        "CREATE TABLE [dbo].[mine] ([n] int)",
        "ALTER DATABASE [sink] SET OFFLINE WITH ROLLBACK IMMEDIATE",
        "RESTORE DATABASE [sink] FROM DISK = N'/tmp/none.bak' WITH CHECKSUM, REPLACE",
        "CREATE LOGIN [mine] WITH PASSWORD = N'Mine-all-1'",
        "SELECT cntr_value FROM sys.dm_os_performance_counters",
    ],
)
def test_who_backs_up_may_neither_read_nor_change_the_sink(server: Logins, statement: str) -> None:
    with refused("permission"):
        server.do("backup", statement)


def test_a_sink_restored_on_another_server_lets_all_of_them_in(server: Logins, tmp_path: Path) -> None:
    name = backup_sink(server.settings.model_copy(update={"backup_folder": tmp_path}), keep=1).name
    with SqlServerDouble(password="Another-Adm1n", database="") as sql_server:
        other = replace(server, admin_url=sql_server.url)
        other.prepare(ORDERS_PIPELINE)
        restore_sink(other.settings.model_copy(update={"backup_folder": tmp_path}), name)
        assert set(answered(other.metrics()).values()) == {1.0}
        assert backup_sink(other.holding("SINK_BACKUP_PASSWORD", BACKUP_FOLDER=str(tmp_path)), keep=2)
        assert other.prepare(ORDERS_PIPELINE) == []


def test_a_backup_from_before_there_were_such_logins_lets_them_in_too(tmp_path: Path) -> None:
    with SqlServerDouble(password="Adm1n-of-the-'stand-in'", database="") as sql_server:
        before = Logins(sql_server.url, "sink", "etl", own={})
        before.prepare(ORDERS_PIPELINE)
        name = backup_sink(before.settings.model_copy(update={"backup_folder": tmp_path}), keep=1).name
        server = Logins(sql_server.url, "sink", "etl")
        server.prepare(ORDERS_PIPELINE)
        restore_sink(server.settings.model_copy(update={"backup_folder": tmp_path}), name)
        assert set(answered(server.metrics()).values()) == {1.0}
        assert server.do("backup", "SELECT 1") == [(1,)]
