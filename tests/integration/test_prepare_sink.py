"""`etl prepare-sink` makes an empty server ready for the pipelines, whose own login may then do what they do, no more.

Where SINK_URL names a real server, its login has to be an administrator's; database and login are the tests' own there.
"""

import os
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import mssql_python
import pytest
from etl.errors import ConfigurationError, ExitCode
from etl.model.column import Column
from etl.sqlserver import ledger, prepare, prepare_sql
from etl.sqlserver import sql as sink_sql
from etl.sqlserver.backup import backup_sink
from etl.sqlserver.prepare import prepare_sink

from dev.sandbox.pipeline_fixture import as_json
from dev.sandbox.pipelines import ORDERS, make
from dev.sandbox.process import free_port
from tests.faults.double import needs_double
from tests.harness.runs import Runs
from tests.harness.sink_server import ORDERS_PIPELINE, PASSWORD, Server, refused, run

OTHER_PASSWORD = "Another-1'"


@pytest.fixture(scope="session")
def admin_url() -> Iterator[str]:
    """An administrator's URL of the server that SINK_URL names, else of the double without a database."""
    if url := os.environ.get("SINK_URL"):
        if run(url, "SELECT IS_SRVROLEMEMBER(N'sysadmin')") != [(1,)]:
            pytest.skip("the login of SINK_URL is no administrator's")
        yield url
        return
    yield ""


@pytest.fixture
def server(admin_url: str) -> Iterator[Server]:
    if not admin_url:
        from dev.sandbox.sqlserver import SqlServerDouble

        with SqlServerDouble(password="Adm1n-of-the-'stand-in'", database="") as sql_server:
            yield Server(sql_server.url, "sink", "etl")
        return
    name = f"etl test {uuid.uuid4().hex[:8]}"
    made = Server(admin_url, name, name.replace(" ", "_"))
    yield made
    for statement in (
        f"ALTER DATABASE [{name}] SET SINGLE_USER WITH ROLLBACK IMMEDIATE",
        f"DROP DATABASE [{name}]",
        f"DROP LOGIN [{made.login}]",
        f"DROP LOGIN [{made.login}_2]",
    ):
        try:
            made.as_administrator(statement, database="master")
        except mssql_python.Error as error:
            print(error)  # not every test makes all of them


@pytest.fixture
def prepared(server: Server) -> Server:
    """A server on which an earlier load has left a table."""
    server.prepare()
    server.as_loader("CREATE TABLE [dbo].[t] ([n] int NOT NULL)")
    server.as_loader("INSERT INTO [dbo].[t] ([n]) VALUES (1)")
    return server


def test_on_an_empty_server_everything_is_made(server: Server) -> None:
    assert server.prepare() == [
        f"created database {server.database}",
        f"created login {server.login}",
        f"created user {server.login}",
        "created role etl_loader",
        f"added {server.login} to role etl_loader",
        "created schema etl",
        "created schema etl_staging",
        "created table etl.audit",
        "created table etl.watermark",
        "created table etl.settled",
        "created table etl.replaced",
        "created table etl.backfill",
        "created table etl.log_position",
        "created table etl.verification",
    ]
    assert server.as_administrator(prepare_sql.FIND_DATABASE, server.database) == [(True, False, "SIMPLE")]
    assert server.as_loader("SELECT COUNT(*) FROM [etl].[audit]") == [(0,)]


def test_twice_is_once(prepared: Server) -> None:
    prepared.as_administrator(
        "INSERT INTO [etl].[watermark] ([pipeline], [value], [run_id], [advanced_at])"
        " VALUES (N'orders', '2026-01-01', N'run', '2026-01-01')"
    )

    def state() -> list[list[tuple[Any, ...]]]:
        return [
            prepared.as_administrator("SELECT sid, password_hash FROM sys.sql_logins WHERE name = ?", prepared.login),
            prepared.as_administrator("SELECT name, sid FROM sys.database_principals ORDER BY name"),
            prepared.as_administrator(
                "SELECT SCHEMA_NAME, SCHEMA_OWNER FROM INFORMATION_SCHEMA.SCHEMATA ORDER BY SCHEMA_NAME"
            ),
            prepared.as_administrator("SELECT TABLE_SCHEMA, TABLE_NAME FROM INFORMATION_SCHEMA.TABLES ORDER BY 1, 2"),
            prepared.as_administrator("SELECT [pipeline], [run_id] FROM [etl].[watermark]"),
            prepared.as_administrator("SELECT [n] FROM [dbo].[t]"),
        ]

    before = state()
    assert prepared.prepare() == []
    assert state() == before


@pytest.mark.parametrize("named", [False, True])
def test_pipelines_run_with_their_own_login_alone(
    server: Server, source_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    server.prepare(*([ORDERS_PIPELINE] if named else []))
    made = server.pipeline(source_url, tmp_path)
    runs = Runs(made, monkeypatch)
    first = runs.run("first")
    assert (first["inserted"], first["verdict"], first["watermark_advanced"]) == (1600, "adds up", True)
    assert made.sink_rows() == made.source_rows("status = 'confirmed'")
    made.change("UPDATE orders SET amount = amount + 1, status = 'confirmed' WHERE order_id <= 500")
    second = runs.run("second")
    assert (second["updated"], second["verdict"], second["watermark_advanced"]) == (200, "adds up", True)
    assert made.sink_rows() == made.source_rows("status = 'confirmed'")
    made.run("second", None, "extract", "filter", "load")
    assert made.staging_tables() == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE [etl].[audit] SET [kept] = 0",
        "DELETE FROM [etl].[watermark]",
        "TRUNCATE TABLE [etl].[audit]",
        "DROP TABLE [etl].[audit]",
        "CREATE TABLE [etl].[mine] ([n] int)",
        "CREATE SCHEMA [mine]",
        "CREATE DATABASE [mine]",
        "CREATE LOGIN [mine] WITH PASSWORD = N'Mine-all-1'",
        "CREATE ROLE [mine]",
        "GRANT DELETE ON SCHEMA::[dbo] TO [etl_loader]",
        "ALTER AUTHORIZATION ON SCHEMA::[etl] TO [etl_loader]",
    ],
)
def test_their_login_may_do_nothing_else(prepared: Server, statement: str) -> None:
    with refused("permission"):
        prepared.as_loader(statement)
    assert prepared.as_loader("SELECT [n] FROM [dbo].[t]") == [(1,)]
    assert prepared.as_loader("SELECT COUNT(*) FROM [etl].[audit]") == [(0,)]


def test_with_named_pipelines_their_tables_are_made_and_no_others_can_be(prepared: Server) -> None:
    assert prepared.prepare(ORDERS_PIPELINE, make(ORDERS, name="sales", sink="shop.sales")) == [
        "created schema shop",
        "created table dbo.orders",
        "created table shop.sales",
    ]
    for table in ("[dbo].[orders]", "[shop].[sales]"):
        assert prepared.as_loader(f"SELECT COUNT(*) FROM {table}") == [(0,)]
        for statement in ("DELETE FROM", "TRUNCATE TABLE", "DROP TABLE"):
            with refused("permission"):
                prepared.as_loader(f"{statement} {table}")
    for statement in ("CREATE TABLE [dbo].[other] ([n] int)", "SELECT [n] FROM [dbo].[t]", "DROP TABLE [dbo].[t]"):
        with refused("permission"):
            prepared.as_loader(statement)


def test_the_right_to_delete_goes_with_the_pipeline_that_deletes(prepared: Server) -> None:
    prepared.prepare(make(ORDERS, deletes="delete"))
    prepared.as_loader("DELETE FROM [dbo].[orders]; SELECT 1")
    prepared.prepare(make(ORDERS))
    with refused("permission"):
        prepared.as_loader("DELETE FROM [dbo].[orders]")


def test_another_password_takes_the_place_of_the_old_one(prepared: Server) -> None:
    rotated = replace(prepared, password=OTHER_PASSWORD)
    assert rotated.prepare() == [f"changed the password of login {prepared.login}"]
    assert rotated.as_loader("SELECT [n] FROM [dbo].[t]") == [(1,)]
    with refused("Login failed"):
        prepared.as_loader("SELECT 1")


def test_a_login_without_a_user_cannot_enter(prepared: Server) -> None:
    prepared.as_administrator(f"CREATE LOGIN [{prepared.login}_2] WITH PASSWORD = N'{OTHER_PASSWORD[:-1]}'")
    with refused("Login failed"):
        replace(prepared, login=f"{prepared.login}_2", password=OTHER_PASSWORD[:-1]).as_loader("SELECT 1")
    with refused("Login failed"):
        replace(prepared, login=f"{prepared.login}_3").as_loader("SELECT 1")


def test_a_sink_that_loads_have_made_themselves_gets_the_right_owner(server: Server) -> None:
    server.as_administrator(f"CREATE DATABASE [{server.database}]", database="master")
    server.as_administrator("CREATE SCHEMA [etl_staging]")
    server.as_administrator("CREATE TABLE [etl_staging].[left] ([n] int)")
    done = server.prepare()
    assert f"created database {server.database}" not in done
    assert "gave schema etl_staging to etl_loader" in done
    server.as_loader("DROP TABLE [etl_staging].[left]")
    assert server.as_administrator(prepare_sql.FIND_DATABASE, server.database)[0][0] is False


def test_of_a_database_that_is_there_its_options_are_said_and_left(
    server: Server,
) -> None:
    server.as_administrator(f"CREATE DATABASE [{server.database}]", database="master")
    options = ("AUTO_CLOSE ON", "RECOVERY FULL")
    for option in options:
        server.as_administrator(f"ALTER DATABASE [{server.database}] SET {option}", database="master")
    completed = server.cli()
    assert completed.returncode == 0, completed.stderr
    told = [line["event"].rpartition(": ") for line in as_json(completed)]
    statements = [words for _, _, words in told if words.startswith("ALTER DATABASE")]
    assert server.as_administrator(prepare_sql.FIND_DATABASE, server.database) == [(False, True, "FULL")]
    for statement in statements:
        server.as_administrator(statement, database="master")
    assert server.as_administrator(prepare_sql.FIND_DATABASE, server.database) == [(False, False, "SIMPLE")]
    assert "SET RECOVERY" not in server.cli().stderr


@pytest.mark.parametrize("rows", [0, 1])
def test_a_table_without_its_index_gets_it_where_that_takes_no_time(prepared: Server, rows: int) -> None:
    """If it has rows the statement is printed, by `etl check` too."""
    table = sink_sql.sink_table(ORDERS_PIPELINE)
    prepared.as_administrator(sink_sql.create_table(replace(table, indexed=())))
    values = "1, N'A', N'confirmed', N'EUR', 1, NULL, '2026-01-01', '2026-01-01'"
    for _ in range(rows):
        prepared.as_administrator(
            f"INSERT INTO [dbo].[orders] ({sink_sql.quote_names(table.columns)}) VALUES ({values})"
        )
    completed = prepared.cli("--pipeline", ORDERS_PIPELINE.model_dump_json())
    assert completed.returncode == 0, completed.stderr
    *told, last = as_json(completed)
    assert last["done"] == ([] if rows else ["created the index on updated_at of dbo.orders"])
    checked = prepared.checked(ORDERS_PIPELINE)
    assert [line["event"] for line in told] == [f"prepare-sink: {advice}" for advice in checked]
    for advice in checked:
        prepared.as_administrator(advice.rpartition(": ")[2])
    assert len(checked) == rows
    assert prepared.checked(ORDERS_PIPELINE) == []
    assert prepared.prepare(ORDERS_PIPELINE) == []


def test_two_pipelines_that_would_delete_each_others_rows_are_refused(server: Server) -> None:
    other = make(ORDERS, name="others", sink="DBO.Orders", deletes="mark")
    with pytest.raises(ConfigurationError, match=r"Pipelines orders and others load the same table, DBO\.Orders,"):
        server.prepare(ORDERS_PIPELINE, other)
    assert server.prepare(ORDERS_PIPELINE, other.model_copy(update={"deletes": "keep"}))


def test_pipelines_of_one_sink_table_may_delete_if_a_constant_in_the_key_says_whose_a_row_is(server: Server) -> None:
    eu, us, again = (
        make(
            ORDERS, name=name, key=["shard", "order_id"], deletes="delete",
            columns={"shard": Column("varchar(2)", constant=shard), **ORDERS["columns"]},
        )
        for name, shard in (("orders", "eu"), ("orders_us", "us"), ("orders_too", "us"))
    )  # fmt: skip
    assert "created table dbo.orders" in server.prepare(eu, us)
    with pytest.raises(ConfigurationError, match="Pipelines orders_us and orders_too load the same table"):
        server.prepare(eu, us, again)


def test_the_index_of_the_audit_is_made_where_an_earlier_version_made_none(server: Server) -> None:
    server.prepare()
    audit, *_ = ledger.tables()
    server.as_administrator("DROP TABLE [etl].[audit]")
    server.as_administrator(sink_sql.create_table(replace(audit, indexed=())))
    assert server.prepare() == ["created the index on pipeline, loaded_at of etl.audit"]


def test_a_login_is_made_with_the_sid_of_the_user_that_has_lost_it(prepared: Server) -> None:
    """So it is the user's own on each server of an availability group, whichever the database moves to."""
    sid = prepared.as_administrator("SELECT sid FROM sys.database_principals WHERE name = ?", prepared.login)
    prepared.as_administrator(f"DROP LOGIN [{prepared.login}]")
    assert prepared.prepare() == [f"created login {prepared.login}"]
    assert prepared.as_administrator("SELECT sid FROM sys.sql_logins WHERE name = ?", prepared.login) == sid
    assert prepared.as_loader("SELECT [n] FROM [dbo].[t]") == [(1,)]


def test_a_user_whose_sid_another_login_has_is_tied_to_its_own(prepared: Server) -> None:
    ((sid,),) = prepared.as_administrator("SELECT sid FROM sys.database_principals WHERE name = ?", prepared.login)
    prepared.as_administrator(f"DROP LOGIN [{prepared.login}]")
    prepared.as_administrator(
        f"CREATE LOGIN [{prepared.login}_2] WITH PASSWORD = N'{OTHER_PASSWORD[:-1]}', SID = 0x{sid.hex()}"
    )
    assert prepared.prepare() == [f"created login {prepared.login}", f"tied user {prepared.login} to its login"]
    assert prepared.as_loader("SELECT [n] FROM [dbo].[t]") == [(1,)]


@needs_double
def test_azure_sql_database_is_prepared_without_leaving_a_database_and_not_backed_up(tmp_path: Path) -> None:
    from dev.sandbox.sqlserver import SqlServerDouble

    with SqlServerDouble(password="Adm1n-of-the-'stand-in'", database="", azure=True) as azure:
        server = Server(azure.url, "sink", "etl")
        with refused("USE statement is not supported"):
            run(server.url(database="master"), "CREATE DATABASE [sink]; USE [sink]")
        assert "created table etl.watermark" in server.prepare()
        assert server.prepare() == []
        assert server.as_loader("SELECT COUNT(*) FROM [etl].[audit]") == [(0,)]
        settings = server.settings.model_copy(update={"backup_folder": tmp_path})
        with pytest.raises(ConfigurationError, match="an Azure SQL Database, which keeps backups"):
            backup_sink(settings, keep=1)


def test_pipelines_may_be_named_as_json_of_any_length(server: Server) -> None:
    pipeline = ORDERS_PIPELINE.model_dump_json()
    assert len(pipeline) > 255  # the longest name of a file
    completed = server.cli("--pipeline", pipeline)
    assert completed.returncode == 0, completed.stderr
    assert as_json(completed)[-1]["done"][-1] == "created table dbo.orders"


def test_a_login_that_cannot_connect_is_told(prepared: Server) -> None:
    prepared.as_administrator(f"ALTER LOGIN [{prepared.login}] DISABLE")
    with pytest.raises(ConfigurationError, match=f"Login failed for user '{prepared.login}'"):
        prepared.prepare()


@pytest.mark.parametrize(
    ("environment", "code", "told"),
    [
        ({"SINK_ADMIN_PASSWORD": "wrong-and-secret"}, ExitCode.CONFIGURATION, "Login failed for user"),
        ({"SINK_ADMIN_USER": "nobody"}, ExitCode.CONFIGURATION, "Login failed for user 'nobody'"),
        ({"SINK_ADMIN_PASSWORD": ""}, ExitCode.CONFIGURATION, "SINK_ADMIN_PASSWORD is not set"),
        ({"SINK_PASSWORD": ""}, ExitCode.CONFIGURATION, "SINK_PASSWORD is not set"),
        ({"SINK_PASSWORD": "sh0rt-E"}, ExitCode.CONFIGURATION, "too short"),
        ({"SINK_PASSWORD": "a-b-c-d-e-f-g-h"}, ExitCode.CONFIGURATION, "Choose another SINK_PASSWORD"),
        ({"SINK_ADMIN_USER": "ETL", "SINK_URL": "mssql://etl@db/sink"}, ExitCode.CONFIGURATION, "the administrator"),
        ({"SINK_URL": f"mssql://etl@127.0.0.1:{free_port()}/sink"}, ExitCode.TRY_AGAIN, "the sink 127.0.0.1"),
    ],
)
def test_what_is_wrong_is_one_sentence_without_secrets(
    server: Server, environment: dict[str, str], code: ExitCode, told: str
) -> None:
    completed = server.cli(**environment)
    assert completed.returncode == code, completed.stderr
    (line,) = as_json(completed)
    assert told in line["event"]
    assert line["level"] == "error"
    for name, value in (server.environment | environment).items():
        assert "PASSWORD" not in name or not value or value not in completed.stderr + completed.stdout


def test_the_command_says_what_it_did_without_secrets(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "orders.json"
    file.write_text(ORDERS_PIPELINE.model_dump_json())
    completed = server.cli("--pipeline", str(file))
    assert completed.returncode == 0, completed.stderr
    (line,) = as_json(completed)
    assert (line["step"], line["login"], line["done"][-1]) == ("prepare-sink", server.login, "created table dbo.orders")
    for name, value in server.environment.items():
        assert "PASSWORD" not in name or value not in completed.stderr + completed.stdout


def test_pipelines_may_be_named_by_their_folder(server: Server, tmp_path: Path) -> None:
    for pipeline in (ORDERS_PIPELINE, make(ORDERS, name="sales", sink="shop.sales")):
        (tmp_path / f"{pipeline.name}.json").write_text(pipeline.model_dump_json())
    completed = server.cli("--pipeline", str(tmp_path))
    assert completed.returncode == 0, completed.stderr
    assert as_json(completed)[0]["done"][-2:] == ["created table dbo.orders", "created table shop.sales"]


def test_a_folder_without_pipelines_gives_no_rights(server: Server, tmp_path: Path) -> None:
    completed = server.cli("--pipeline", str(tmp_path))
    assert completed.returncode != 0
    assert "holds no pipeline" in completed.stderr
    with pytest.raises(Exception, match="Login failed"):
        server.as_loader("SELECT 1")


def test_only_an_administrator_can_prepare(prepared: Server) -> None:
    loader = {"SINK_ADMIN_USER": prepared.login, "SINK_ADMIN_PASSWORD": PASSWORD}
    completed = prepared.cli(**loader, SINK_URL=prepared.url("another@"), SINK_PASSWORD=OTHER_PASSWORD)
    assert completed.returncode == ExitCode.CONFIGURATION, completed.stderr
    assert "permission" in as_json(completed)[-1]["event"]


@needs_double
def test_a_server_that_is_coming_up_is_waited_for(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "_PAUSE_SECONDS", 0.1)
    inject = "EXEC standin_inject @fault = N'login_failure', @times = 3"
    server.as_administrator(inject, database="master")
    assert prepare_sink(server.settings, wait_seconds=30)
    server.as_administrator(inject, database="master")
    with pytest.raises(ConfigurationError, match="Login failed"):
        prepare_sink(server.settings, wait_seconds=0)
