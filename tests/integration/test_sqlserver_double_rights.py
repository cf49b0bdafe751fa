"""Permissions in the SQL Server double: logins are checked, and grants enforced."""

from collections.abc import Iterator
from typing import Any

import mssql_python
import pytest

from dev.sandbox.sqlserver import SqlServerDouble
from tests.harness.sqlserver_clients import bulk_copy, connect, connect_pymssql, error_of, numbers, rows

PASSWORD = "Loader-1"
TABLES = ("[dbo].[t]", "[theirs].[t]", "[closed].[t]", "[closed].[seen]", "[closed].[filled]")


@pytest.fixture(scope="module")
def own() -> Iterator[SqlServerDouble]:
    """A server with a database that its administrator has created, with a login, and with tables."""
    with SqlServerDouble(database="") as server:
        server.database = "own"
        with connect(server, database="master") as master:
            for statement in (
                "CREATE DATABASE [own]",
                "ALTER DATABASE [OWN] SET READ_COMMITTED_SNAPSHOT ON WITH ROLLBACK IMMEDIATE",
                f"CREATE LOGIN [loader] WITH PASSWORD = N'{PASSWORD}'",
                f"CREATE LOGIN [stranger] WITH PASSWORD = N'{PASSWORD}'",
                "USE [own]",
                "CREATE USER [loader] FOR LOGIN [loader]",
                "CREATE ROLE [loaders]",
                "ALTER ROLE [loaders] ADD MEMBER [loader]",
                "CREATE SCHEMA [closed]",
                "CREATE SCHEMA [theirs] AUTHORIZATION [loaders]",
                *(f"CREATE TABLE {table} ([n] int)" for table in TABLES),
                "GRANT CREATE TABLE TO [loaders]",
                "GRANT SELECT, INSERT ON SCHEMA::[dbo] TO [loaders]",
                "GRANT UPDATE, DELETE ON OBJECT::[dbo].[t] TO [loaders]",
                "REVOKE DELETE ON OBJECT::[dbo].[t] FROM [loaders]",
                "GRANT SELECT ON OBJECT::[closed].[seen] TO [loader]",
                "GRANT INSERT ON OBJECT::[closed].[filled] TO [loader]",
                "USE [master]",
                "GRANT VIEW SERVER PERFORMANCE STATE TO [stranger]",
                "GRANT CREATE ANY DATABASE, VIEW SERVER STATE TO [stranger]",
                "REVOKE VIEW SERVER PERFORMANCE STATE FROM [stranger]",
            ):
                master.cursor().execute(statement)
        yield server


@pytest.fixture
def loader(own: SqlServerDouble) -> Iterator[Any]:
    with connect(own, user="loader", password=PASSWORD) as connection:
        yield connection


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT n FROM dbo.t WHERE n IN (SELECT n FROM theirs.t)",
        "INSERT INTO dbo.t (n) SELECT n FROM theirs.t",
        "UPDATE dbo.t SET n = 1",
        "UPDATE t SET t.n = s.n FROM dbo.t AS t JOIN theirs.t AS s ON t.n = s.n",
        "DELETE FROM theirs.t WHERE n = 1",
        "TRUNCATE TABLE theirs.t",
        "CREATE TABLE theirs.u (n int); DROP TABLE theirs.u",
    ],
)
def test_what_is_granted_or_owned_is_allowed(loader: Any, statement: str) -> None:
    loader.cursor().execute(statement)


@pytest.mark.parametrize(
    ("number", "statement", "told"),
    [
        (229, "SELECT n FROM closed.t", "The SELECT permission was denied on the object 't', database 'own',"
              " schema 'closed'."),
        (229, "SELECT n FROM dbo.t WHERE n IN (SELECT n FROM closed.t)", "SELECT permission"),
        (229, "INSERT INTO closed.t (n) VALUES (1)", "INSERT permission"),
        (229, "INSERT INTO dbo.t (n) SELECT n FROM closed.t", "SELECT permission"),
        (229, "UPDATE closed.t SET n = 1", "UPDATE permission"),
        (229, "DELETE FROM dbo.t", "DELETE permission"),
        (259, "UPDATE sys.sql_logins SET name = N'sa'", "Ad hoc updates"),
        (1088, "TRUNCATE TABLE dbo.t", "do not have permissions"),
        (3701, "DROP TABLE dbo.t", "do not have permission"),
        (2760, "CREATE TABLE dbo.u (n int)", "do not have permission"),
        (262, "CREATE SCHEMA s", "CREATE SCHEMA permission denied in database 'own'"),
        (300, "SELECT cntr_value FROM sys.dm_os_performance_counters", "VIEW SERVER PERFORMANCE STATE permission was"
              " denied on object 'server', database 'master'."),
        (262, "BACKUP DATABASE own TO DISK = N'/tmp/none' WITH COPY_ONLY, CHECKSUM", "BACKUP DATABASE permission denied"
              " in database 'own'."),
        (262, "RESTORE VERIFYONLY FROM DISK = N'/tmp/none' WITH CHECKSUM", "CREATE DATABASE permission denied in"
              " database 'master'."),
        (262, "CREATE DATABASE d", "CREATE DATABASE permission denied in database 'master'"),
        (15151, "DROP SCHEMA closed", "do not have permission"),
        (15247, "CREATE LOGIN l WITH PASSWORD = N'Loader-1'", "does not have permission"),
        (15247, "ALTER LOGIN stranger WITH PASSWORD = N'Loader-1'", "does not have permission"),
        (15247, "CREATE USER stranger FOR LOGIN stranger", "does not have permission"),
        (15247, "ALTER ROLE loaders ADD MEMBER loader", "does not have permission"),
        (15247, "GRANT DELETE ON SCHEMA::dbo TO loaders", "does not have permission"),
    ],
)  # fmt: skip
def test_all_else_is_refused(own: SqlServerDouble, loader: Any, number: int, statement: str, told: str) -> None:
    assert told in error_of(lambda: loader.cursor().execute(statement))
    with connect_pymssql(own, user="loader", password=PASSWORD) as connection:
        assert str(number) in error_of(lambda: connection.cursor().execute(statement))


def test_a_bulk_load_needs_both_rights(loader: Any) -> None:
    bulk_copy(loader, "[dbo].[t]", numbers(3))
    for table, missing in {"seen": "INSERT", "filled": "SELECT"}.items():
        message = error_of(lambda table=table: bulk_copy(loader, f"[closed].[{table}]", numbers(3)))  # type: ignore[misc]
        assert f"The {missing} permission was denied on the object '{table}'" in message


def test_only_who_has_a_user_enters_the_database(own: SqlServerDouble) -> None:
    with connect(own, user="stranger", password=PASSWORD, database="master") as connection:
        assert rows(connection, "SELECT DB_NAME()") == [("master",)]
        assert "not able to access the database" in error_of(lambda: connection.cursor().execute("USE [own]"))
        assert rows(connection, "SELECT HAS_DBACCESS(N'own'), HAS_DBACCESS(N'none')") == [(0, None)]
    assert "Login failed" in error_of(lambda: connect(own, user="stranger", password=PASSWORD))


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("CREATE DATABASE [OWN]", "already exists"),
        ("CREATE DATABASE [another]", "one database beside master"),
        ("CREATE LOGIN [SA] WITH PASSWORD = N'Loader-1'", "already exists"),
        ("CREATE LOGIN [Loader] WITH PASSWORD = N'Loader-1'", "already exists"),
        ("CREATE LOGIN [l] WITH PASSWORD = N'Short-1'", "at least 8 characters"),
        ("CREATE LOGIN [l] WITH PASSWORD = N'no-capitals'", "not complex enough"),
        ("ALTER LOGIN [nobody] WITH PASSWORD = N'Loader-1'", "does not exist"),
        ("CREATE USER [u] FOR LOGIN [nobody]", "not a valid login"),
        ("CREATE USER [loaders] FOR LOGIN [loader]", "already exists in the current database"),
        ("ALTER ROLE [nobody] ADD MEMBER [loader]", "does not exist"),
        ("ALTER AUTHORIZATION ON SCHEMA::[dbo] TO [loaders]", "Cannot alter the schema"),
        ("GRANT SELECT ON SCHEMA::[nowhere] TO [loaders]", "Cannot find the schema"),
        ("GRANT SELECT ON OBJECT::[dbo].[nothing] TO [loaders]", "Invalid object name"),
        ("GRANT SELECT ON SCHEMA::[dbo] TO [nobody]", "Cannot find the user"),
        ("GRANT CREATE TABLE ON SCHEMA::[dbo] TO [loaders]", "does not know"),
        ("GRANT VIEW SERVER STATE TO [loader]", "only be granted when the current database is master"),
        ("GRANT CONTROL ON SCHEMA::[dbo] TO [loaders]", "does not know"),
        ("BEGIN TRANSACTION; CREATE DATABASE [another]", "not allowed within multi-statement transaction"),
    ],
)
def test_what_makes_no_sense_is_refused(own: SqlServerDouble, statement: str, told: str) -> None:
    with connect(own) as administrator:
        assert told in error_of(lambda: administrator.cursor().execute(statement))


def test_a_permission_on_the_server_is_a_login_s_in_every_database(own: SqlServerDouble) -> None:
    with connect(own, user="stranger", password=PASSWORD, database="master") as connection:
        assert "one database beside master" in error_of(lambda: connection.cursor().execute("CREATE DATABASE d"))
        grant = "GRANT VIEW SERVER STATE TO [loader]"
        assert "does not have permission" in error_of(lambda: connection.cursor().execute(grant))
        verify = "RESTORE VERIFYONLY FROM DISK = N'/tmp/none' WITH CHECKSUM"
        assert "Cannot open backup device" in error_of(lambda: connection.cursor().execute(verify))


def test_a_role_of_the_database_has_no_permission_on_the_server(own: SqlServerDouble) -> None:
    with connect(own, database="master") as master:
        grant = "GRANT VIEW SERVER STATE TO [loaders]"
        assert "Cannot find the login" in error_of(lambda: master.cursor().execute(grant))


def test_nothing_is_kept_in_master(own: SqlServerDouble) -> None:
    with connect(own, database="master") as master:
        for statement in (
            "SELECT n FROM dbo.t",
            "SELECT TABLE_NAME FROM INFORMATION_SCHEMA.TABLES",
            "CREATE TABLE u (n int)",
            "CREATE USER stranger FOR LOGIN stranger",
        ):
            with pytest.raises(mssql_python.Error):
                master.cursor().execute(statement)
        names = rows(master, "SELECT name, is_read_committed_snapshot_on FROM sys.databases ORDER BY name")
        assert names == [("master", False), ("own", True)]
