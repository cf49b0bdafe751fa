"""The Job that migrates, and what a restore does after it, with a real Airflow: whom they let in, and to what."""

import os
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import psycopg
import pytest
import yaml
from etl.config.settings import Settings
from etl.exporter.metadata import metadata_database
from etl_airflow.grants import ROLE
from pydantic import SecretStr
from werkzeug.security import check_password_hash

from dev.sandbox.postgres import Postgres
from dev.sandbox.stack import ROOT, airflow_environment
from ops.deploy.data import restore

EXPORTER = secrets.token_urlsafe(16)
JOB = ROOT / "k8s" / "base" / "airflow" / "migrate" / "job.yaml"


@pytest.fixture(scope="module")
def url(postgres: Postgres) -> Iterator[str]:
    """An empty metadata database."""
    name = f"airflow_{secrets.token_hex(4)}"
    url = postgres.create_database(name)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{EXPORTER}'; GRANT pg_monitor TO {ROLE}".encode())
    yield url
    postgres.drop_database(name)
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
        connection.execute(f"DROP ROLE {ROLE}".encode())


def run(command: list[str], environment: Mapping[str, str]) -> str:
    # Without a terminal, as in a pod: from one a password would be read before anything else.
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        start_new_session=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def password_is(url: str, password: str) -> bool:
    with psycopg.connect(url) as connection:
        ((user, kept),) = connection.execute("SELECT username, password FROM ab_user").fetchall()
    return user == "admin" and check_password_hash(kept, password)


def test_the_password_of_the_secret_reaches_airflow_though_it_is_no_argument(url: str, tmp_path: Path) -> None:
    (container,) = yaml.safe_load(JOB.read_text())["spec"]["template"]["spec"]["containers"]
    environment = os.environ | airflow_environment(tmp_path, url, "", "")
    environment["AIRFLOW__CORE__AUTH_MANAGER"] = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"
    first, second = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
    said = run(container["args"], environment | {"ADMIN_PASSWORD": first})
    assert password_is(url, first)
    # Run again it leaves whom it finds; a restore gives him the password of today.
    said += run(container["args"], environment | {"ADMIN_PASSWORD": second})
    assert password_is(url, first)
    said += run(["bash", "-euc", restore.MIGRATE], environment | {"ADMIN_PASSWORD": second})
    assert password_is(url, second)
    assert not {first, second} & set(said.split())
    # Next to the administrator it lets the exporter in, to what that asks and to nothing secret.
    as_exporter = f"postgresql://{ROLE}:{EXPORTER}@{url.partition('@')[2]}"
    database = metadata_database(Settings(metadata_url=SecretStr(as_exporter)))
    with database.connect() as rows:
        for ask in database.queries.values():
            assert list(ask(rows))
    with psycopg.connect(as_exporter, autocommit=True) as connection:
        for table in ("ab_user", "connection", "variable", "session", "trigger"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(f"SELECT * FROM {table}".encode())
