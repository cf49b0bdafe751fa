"""`k8s/base/metadata/prepare.sh` with a real PostgreSQL: Airflow's login owns its database and is no superuser."""

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import psycopg2
import pytest
from etl_airflow.grants import ROLE, TABLES

from dev.sandbox import postgres as server
from dev.sandbox.process import free_port
from dev.sandbox.stack import ROOT

SCRIPTS = ROOT / "k8s" / "base" / "metadata"
NAMES = ("METADATA_ADMIN_PASSWORD", "METADATA_PASSWORD", "METADATA_EXPORTER_PASSWORD")
ROLES = dict(zip(("postgres", "airflow", ROLE), NAMES, strict=True))
AIRFLOW = "SELECT rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication FROM pg_roles WHERE rolname = 'airflow'"
POOLS = "CREATE TABLE slot_pool (id serial, pool text, slots int, description text, include_deferred boolean)"
# As `airflow db migrate` makes them: a sequence, an enumeration, a view, a function.
OBJECTS = """
CREATE TYPE state AS ENUM ('running'); CREATE SEQUENCE alone; CREATE TABLE ab_user (id serial, password text);
CREATE VIEW users AS SELECT id FROM ab_user; CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1';
"""


class Pod:
    """The data, and what the pod of the database does with it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data, self.port = folder, folder / "pgdata", free_port()
        self.binaries, self.user = server._binaries(folder)
        for path in SCRIPTS.glob("*.[s]*"):
            shutil.copy(path, folder)
        self.environment = {
            "PATH": f"{self.binaries}:/usr/bin:/bin", "PGDATA": str(self.data), "PGHOST": str(folder),
            "PGPORT": str(self.port), "LC_ALL": "C.UTF-8",
        }  # fmt: skip
        self.passwords: dict[str, str] = {}
        self.change_passwords()
        if self.user:
            subprocess.run(["chown", "--recursive", self.user, folder], check=True)

    def change_passwords(self) -> None:
        self.passwords = {name: f"it's \\{secrets.token_urlsafe(16)}" for name in NAMES}

    def run(self, *command: str, check: bool = True) -> str:
        done = subprocess.run(
            command, env=self.environment | self.passwords, user=self.user, cwd=self.folder, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        said = done.stdout + done.stderr
        assert done.returncode == 0 or not check, said
        assert not any(password in said for password in self.passwords.values())
        return said

    def prepare(self) -> str:
        """The init container."""
        return self.run("bash", str(self.folder / "prepare.sh"))

    @contextmanager
    def running(self) -> Iterator[None]:
        """The container: the server listens at loopback."""
        options = f"-c unix_socket_directories={self.folder} -c listen_addresses=127.0.0.1"
        self.run("pg_ctl", "start", "--silent", "--wait", f"--log={self.folder}/log", f"--options={options}")
        try:
            yield
        finally:
            self.run("pg_ctl", "stop", "--silent", "--mode=fast")

    def connect(self, role: str, database: str = "airflow") -> psycopg.Connection:
        password = self.passwords[ROLES[role]]
        address = {"host": "127.0.0.1", "port": self.port, "dbname": database}
        return psycopg.connect(user=role, password=password, autocommit=True, **address)  # type: ignore[arg-type]

    def make_as_before(self) -> None:
        """A deployment in which `airflow` is the first role, as the images make it of POSTGRES_USER."""
        self.run("initdb", "--username=airflow", "--auth-local=trust", "--auth-host=scram-sha-256")
        with self.running(), psycopg.connect(host=str(self.folder), port=self.port, user="airflow", dbname="postgres",
                                             autocommit=True) as connection:  # fmt: skip
            password = psycopg.sql.Literal(self.passwords["METADATA_PASSWORD"])
            connection.execute(psycopg.sql.SQL("ALTER ROLE airflow PASSWORD {}").format(password))
            connection.execute("CREATE DATABASE airflow")
            with self.connect("airflow") as inside:
                inside.execute(OBJECTS.encode())


@pytest.fixture
def pod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    folder = Path(os.environ.get("TMPDIR", "/tmp")) / f"roles-{secrets.token_hex(4)}"
    folder.mkdir()
    yield Pod(folder)
    shutil.rmtree(folder)


def refused(connection: psycopg.Connection, *statements: str) -> None:
    for statement in statements:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement.encode())


@pytest.mark.parametrize("is_old", [False, True], ids=["new", "of an earlier version"])
def test_the_login_of_airflow_is_no_superuser_and_owns_what_it_needs(pod: Pod, is_old: bool) -> None:
    if is_old:
        pod.make_as_before()
    # Twice, as the pod may start at any time.
    pod.prepare()
    pod.prepare()
    with pod.running(), pod.connect("airflow") as connection:
        assert connection.execute(AIRFLOW.encode()).fetchall() == [(False,)]
        refused(connection, "COPY (SELECT 1) TO PROGRAM 'id'", "CREATE ROLE mine SUPERUSER", "CREATE DATABASE mine")
        refused(connection, "SELECT pg_read_file('/etc/passwd')", "ALTER SYSTEM SET log_statement = 'all'")
        if not is_old:
            connection.execute(OBJECTS.encode())
        # What a migration does.
        connection.execute("ALTER TABLE ab_user ADD COLUMN name text; ALTER TYPE state ADD VALUE 'failed'")
        connection.execute("ALTER SEQUENCE alone RESTART; DROP VIEW users; DROP FUNCTION one(); DROP TABLE ab_user")


def test_the_next_start_gives_the_roles_the_passwords_of_the_secrets(pod: Pod) -> None:
    pod.prepare()
    old = dict(pod.passwords)
    pod.change_passwords()
    pod.prepare()
    with pod.running():
        for role in ROLES:
            pod.connect(role).close()
        pod.passwords = old
        for role in ROLES:
            with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
                pod.connect(role)
    assert not any(password in (pod.folder / "log").read_text() for password in old.values())


def test_a_first_start_that_was_killed_is_repeated(pod: Pod) -> None:
    left = pod.data.with_name("pgdata.new")
    left.mkdir()
    (left / "PG_VERSION").write_text("17\n")
    if pod.user:
        shutil.chown(left, pod.user)
    pod.prepare()
    assert not left.exists()
    with pod.running():
        pod.connect("airflow").close()


def test_the_exporter_reads_its_tables_and_statistics_and_nothing_else(
    pod: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    import etl_airflow.grants
    import etl_airflow.probe

    pod.prepare()
    with pod.running():
        with pod.connect("airflow") as owner:
            for table in (*TABLES, "ab_user", "connection"):
                owner.execute(f"CREATE TABLE {table} (id int)".encode())
            owner.execute(POOLS)
        monkeypatch.setattr(
            etl_airflow.probe,
            "connect",
            lambda: psycopg2.connect(
                host="127.0.0.1",
                port=pod.port,
                user="airflow",
                password=pod.passwords["METADATA_PASSWORD"],
                dbname="airflow",
            ),
        )
        etl_airflow.grants.main()
        etl_airflow.grants.main()
        with closing(pod.connect("airflow")) as owner:
            assert owner.execute("SELECT pool, slots FROM slot_pool").fetchall() == [("verify", 1)]
        with closing(pod.connect(ROLE)) as connection:
            for table in TABLES:
                connection.execute(f"SELECT * FROM {table}".encode())
            connection.execute("SELECT count(*) FROM pg_stat_activity WHERE query <> ''")
            refused(connection, "SELECT * FROM ab_user", "SELECT * FROM connection", "DELETE FROM dag_run")
            refused(connection, "CREATE TABLE mine (id int)")
