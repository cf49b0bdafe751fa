"""SQL dumps, restored by psql, which alone knows the commands that they have, such as `COPY … FROM stdin`."""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from dev.sandbox.postgres import Postgres

_ERROR = re.compile(r"\b(ERROR|FATAL|error):")


@dataclass(frozen=True)
class Dump:
    """A restored dump: the URL of its database, and psql's errors, such as a role that is not there."""

    name: str
    url: str
    errors: tuple[str, ...]


@contextmanager
def restored(server: Postgres, path: Path) -> Iterator[Dump]:
    """Restore a dump into a new database, or into the one that it creates and connects to.

    `server` is one for this alone: a dump may drop databases, and those that are new are dropped with it.
    """
    before = _databases(server)
    url = server.create_database(f"schema_{os.getpid()}")
    try:
        yield _restore(server, path, url, before)
    finally:
        for name in _databases(server) - before:
            server.drop_database(name)


def _restore(server: Postgres, path: Path, url: str, before: set[str]) -> Dump:
    psql = server.server.binaries / "psql" if server.server else "psql"
    command = [
        psql, "--no-psqlrc", "--quiet", "--dbname", url, "--output", os.devnull, "--file", path.name,
        "--command", r"\echo :DBNAME",
    ]  # fmt: skip
    completed = subprocess.run(
        command, cwd=path.parent, env=os.environ | {"PGPASSWORD": server.password}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip
    last = completed.stdout.splitlines()[-1:]  # nothing if the script ends psql at its first error
    if set(last) <= _databases(server) - before:
        url = next((server.url(name) for name in last), url)
    return Dump(path.stem, url, tuple(line for line in completed.stderr.splitlines() if _ERROR.search(line)))


def _databases(server: Postgres) -> set[str]:
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        return {name for (name,) in connection.execute("SELECT datname FROM pg_database").fetchall()}
