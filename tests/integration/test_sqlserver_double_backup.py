"""BACKUP and RESTORE of the double: of the database alone, and only without other sessions in it."""

from collections.abc import Iterator
from pathlib import Path

import mssql_python
import pytest

from dev.sandbox.sqlserver import SqlServerDouble
from tests.harness.sqlserver_clients import connect, error_of, rows

PASSWORD = "Loader-1"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[SqlServerDouble]:
    """A server that keeps its database in a file, with a login and its user."""
    with SqlServerDouble(database="", database_file=tmp_path / "own.duckdb") as server:
        server.database = "own"
        for statement in (
            "CREATE DATABASE [own]",
            f"CREATE LOGIN [loader] WITH PASSWORD = N'{PASSWORD}'",
            "USE [own]; CREATE USER [loader] FOR LOGIN [loader]; CREATE TABLE [dbo].[t] ([n] int NOT NULL)",
            "USE [own]; GRANT SELECT ON OBJECT::[dbo].[t] TO [loader]; INSERT INTO [dbo].[t] ([n]) VALUES (1)",
            f"BACKUP DATABASE [OWN] TO DISK = N'{tmp_path}/one.bak' WITH COPY_ONLY, CHECKSUM",
        ):
            administer(server, statement)
        yield server


def administer(server: SqlServerDouble, statement: str) -> None:
    mssql_python.pooling(enabled=False)
    with connect(server, database="master") as master:
        master.cursor().execute(statement)


def restore(server: SqlServerDouble, file: Path) -> None:
    administer(server, "ALTER DATABASE [own] SET OFFLINE WITH ROLLBACK IMMEDIATE")
    administer(server, f"RESTORE DATABASE [own] FROM DISK = N'{file}' WITH CHECKSUM, REPLACE")


def test_logins_are_the_server_s_and_not_in_it(own: SqlServerDouble, tmp_path: Path) -> None:
    administer(
        own, "ALTER LOGIN [loader] WITH PASSWORD = N'Another-1'; CREATE LOGIN [since] WITH PASSWORD = N'Since-12'"
    )
    administer(own, "USE [own]; CREATE USER [since] FOR LOGIN [since]; CREATE SCHEMA [since]; DROP TABLE [dbo].[t]")
    restore(own, tmp_path / "one.bak")
    with connect(own, user="loader", password="Another-1") as loader:
        assert rows(loader, "SELECT [n] FROM [dbo].[t]") == [(1,)]
    assert "Login failed" in error_of(lambda: connect(own, user="since", password="Since-12"))
    with connect(own) as administrator:
        assert rows(administrator, "SELECT SCHEMA_ID(N'since')") == [(None,)]


def test_what_is_restored_is_in_the_file_of_the_server(own: SqlServerDouble, tmp_path: Path) -> None:
    administer(own, "USE [own]; DELETE FROM [dbo].[t]")
    restore(own, tmp_path / "one.bak")
    own.stop()
    own.start()
    with connect(own) as administrator:
        assert rows(administrator, "SELECT [n] FROM [dbo].[t]") == [(1,)]


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("BACKUP DATABASE [other] TO DISK = N'FOLDER/x.bak' WITH COPY_ONLY, CHECKSUM", "does not exist"),
        ("BACKUP DATABASE [master] TO DISK = N'FOLDER/x.bak' WITH COPY_ONLY, CHECKSUM", "does not exist"),
        ("BACKUP DATABASE [own] TO DISK = N'FOLDER/one.bak' WITH COPY_ONLY, CHECKSUM", "existing file"),
        ("BACKUP DATABASE [own] TO DISK = N'FOLDER/no/x.bak' WITH COPY_ONLY, CHECKSUM", "Cannot open backup device"),
        ("BACKUP DATABASE [own] TO DISK = N'FOLDER/x.bak'", "does not know"),
        ("BACKUP LOG [own] TO DISK = N'FOLDER/x.bak'", "does not know"),
        ("RESTORE VERIFYONLY FROM DISK = N'FOLDER/x.bak' WITH CHECKSUM", "Cannot open backup device"),
        ("RESTORE DATABASE [own] FROM DISK = N'FOLDER/one.bak' WITH CHECKSUM, REPLACE", "Exclusive access"),
        ("RESTORE DATABASE [other] FROM DISK = N'FOLDER/one.bak' WITH CHECKSUM, REPLACE", "keeps one database"),
        ("ALTER DATABASE [other] SET OFFLINE WITH ROLLBACK IMMEDIATE", "does not exist"),
        (
            "BEGIN TRANSACTION; BACKUP DATABASE [own] TO DISK = N'FOLDER/x.bak' WITH COPY_ONLY, CHECKSUM",
            "not allowed within multi-statement transaction",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(own: SqlServerDouble, tmp_path: Path, statement: str, told: str) -> None:
    assert told in error_of(lambda: administer(own, statement.replace("FOLDER", str(tmp_path))))
    assert not (tmp_path / "x.bak").exists()


def test_only_the_administrator_may(own: SqlServerDouble, tmp_path: Path) -> None:
    with connect(own, user="loader", password=PASSWORD) as loader:
        for statement in (
            f"BACKUP DATABASE [own] TO DISK = N'{tmp_path}/x.bak' WITH COPY_ONLY, CHECKSUM",
            f"RESTORE VERIFYONLY FROM DISK = N'{tmp_path}/one.bak' WITH CHECKSUM",
            "ALTER DATABASE [own] SET OFFLINE WITH ROLLBACK IMMEDIATE",
        ):
            assert "permission" in error_of(lambda statement=statement: loader.cursor().execute(statement))  # type: ignore[misc]
