"""Stack on one machine: a real Postgres, a sink, and the environment of Airflow.

The sink is the SQL Server of SINK_URL, else the SQL Server double.
"""

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dev.sandbox.postgres import run_postgres

ROOT = Path(__file__).resolve().parents[2]
_OF_ANOTHER_SOURCE = ("SOURCE_PASSWORD", "SOURCE_PASSWORD_FILE", "SOURCE_CA_FILE", "SOURCE_AUTH")
_OF_ANOTHER_SINK = ("SINK_PASSWORD", "SINK_PASSWORD_FILE", "SINK_CA_FILE", "SINK_AUTH")
"""Variables of other servers that the shell may have set."""
INIT_SQL = ROOT / "external-db" / "init.sql"


@dataclass(frozen=True)
class Stack:
    """A running stack: URLs, log, and the environment of Airflow and `etl`."""

    source_url: str
    sink_url: str
    sink_is_double: bool
    environment: dict[str, str] = field(repr=False)
    log: Path

    def run(self, *command: str, quiet: bool = False) -> None:
        """Run a command with the stack's environment. Raises CalledProcessError."""
        subprocess.run(command, env=os.environ | self.environment, check=True, capture_output=quiet, cwd=ROOT)

    def run_dag(self, dag_id: str, *, retry: bool = True, **params: Any) -> dict[str, Any]:
        """Run a DAG once; returns the result of dev.sandbox.run_dag. Its output goes to `log`."""
        command = [sys.executable, "-m", "dev.sandbox.run_dag", dag_id, "--conf", json.dumps(params)]
        command += [] if retry else ["--no-retry"]
        with self.log.open("ab") as log:
            completed = subprocess.run(
                command, env=os.environ | self.environment, stdout=subprocess.PIPE, stderr=log, check=False, cwd=ROOT
            )
            log.write(completed.stdout)
        if completed.returncode != 0:
            raise RuntimeError(f"{dag_id} could not be run; its output ends:\n{self.log_end()}")
        result: dict[str, Any] = json.loads(completed.stdout.splitlines()[-1])
        return result

    def log_end(self, lines: int = 40) -> str:
        """The last lines of the output of Airflow and the steps."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


@contextmanager
def run_stack(folder: Path, source_url: str = "", dags: Path = ROOT / "dags") -> Iterator[Stack]:
    """Run the databases until the block ends; `folder` is for Airflow's home and staging.

    Without a `source_url` the source is a database of orders. It is in another server than Airflow's database, so that
    the source can be stopped while Airflow runs.
    """
    with run_postgres() as metadata, run_sink() as (sink_url, is_double), _source(source_url) as url:
        environment = airflow_environment(folder, metadata.create_database("airflow"), url, sink_url)
        environment["AIRFLOW__CORE__DAGS_FOLDER"] = str(dags)
        yield Stack(url, sink_url, is_double, environment, folder / "log")


@contextmanager
def _source(url: str) -> Iterator[str]:
    if url:
        yield url
        return
    for name in _OF_ANOTHER_SOURCE:
        os.environ.pop(name, None)
    with run_postgres() as postgres:
        yield postgres.create_database("orders", INIT_SQL)


def airflow_environment(folder: Path, metadata_url: str, source_url: str, sink_url: str) -> dict[str, str]:
    """Environment of Airflow and of steps as processes."""
    return {
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__MP_START_METHOD": "fork",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": metadata_url.replace("postgresql://", "postgresql+psycopg2://"),
        "AIRFLOW__SECRETS__BACKEND": "etl_airflow.secrets_backend.UrlConnections",
        "ETL_RUNNER": "process",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}/airflow_image/config",
        "SOURCE_URL": source_url,
        "SINK_URL": sink_url,
        "STAGING_URL": f"file://{folder}/staging",
    }


@contextmanager
def run_sink() -> Iterator[tuple[str, bool]]:
    """The URL of the SQL Server of SINK_URL, else of a SQL Server double; and whether it is the double."""
    if url := os.environ.get("SINK_URL"):
        yield url, False
        return
    from dev.sandbox.sqlserver import SqlServerDouble

    for name in _OF_ANOTHER_SINK:
        os.environ.pop(name, None)
    with SqlServerDouble(password=secrets.token_urlsafe(16)) as server:
        yield server.url, True
