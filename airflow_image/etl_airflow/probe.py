"""Probes of Airflow's components: each costs one query, where `airflow jobs check` costs seconds of CPU.

    python -m etl_airflow.probe database --wait 300
        The metadata database answers.
    python -m etl_airflow.probe migrated --wait 300 -- airflow scheduler
        It has this version's tables; then run the command.
    python -m etl_airflow.probe heartbeat TriggererJob
        The component in this pod wrote a heartbeat within a minute.

Imports nothing of Airflow: the import alone would take longer than the rest.
"""

import argparse
import os
import socket
import sys
import time
from contextlib import closing
from pathlib import Path

import psycopg2
from etl.config import urls
from etl.errors import ConfigurationError

LATEST_SECONDS = 60
"""Maximum age of a heartbeat; Airflow writes one every 5 seconds."""
MIGRATION_FILE = Path("/opt/airflow/migration")
"""The migration that this version of Airflow needs; written when the image is built."""
_HEARTBEAT = (
    "SELECT latest_heartbeat > now() - make_interval(secs => %s) FROM job"
    " WHERE job_type = %s AND hostname = %s AND state = 'running' ORDER BY latest_heartbeat DESC LIMIT 1"
)


def connect() -> psycopg2.extensions.connection:
    """Connect to the metadata database. Raises ConfigurationError or psycopg2.OperationalError."""
    name = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
    # Parsed here: libpq's error for a malformed URL may show part of the password as the host.
    options = urls.postgres(name, os.environ[name].replace("postgresql+psycopg2", "postgresql", 1))
    return psycopg2.connect(**({"connect_timeout": "5"} | options))


def check(what: str, job: str | None) -> str:
    """Check once; returns the problem, empty if there is none."""
    try:
        connection = connect()
    except ConfigurationError as error:
        return str(error)
    except psycopg2.OperationalError as error:
        return f"The metadata database does not answer: {str(error).strip()}"
    with closing(connection), connection.cursor() as cursor:
        if what == "heartbeat":
            # The same as [core] hostname_callable = airflow.utils.net.get_host_ip_address.
            address = socket.gethostbyname(socket.gethostname())
            cursor.execute(_HEARTBEAT, (LATEST_SECONDS, job, address))
            return (
                ""
                if cursor.fetchone() == (True,)
                else f"{job} on {address} wrote no heartbeat within {LATEST_SECONDS} s."
            )
        if what == "migrated":
            return _check_migration(cursor, MIGRATION_FILE.read_text().strip())
    return ""


def _check_migration(cursor: psycopg2.extensions.cursor, needed: str) -> str:
    cursor.execute("SELECT to_regclass('alembic_version') IS NOT NULL")
    found = None
    if cursor.fetchone() == (True,):
        cursor.execute("SELECT version_num FROM alembic_version")
        found = cursor.fetchone()
    if found == (needed,):
        return ""
    state = f"is at migration {found[0]}" if found else "has no tables yet"
    return f"The metadata database {state}, this Airflow needs {needed}: see the Job airflow-migrate."


def main() -> int:
    """Check once, or with --wait until it succeeds; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("database", "migrated", "heartbeat"))
    parser.add_argument("job", nargs="?", help="for heartbeat: the job type, such as DagProcessorJob")
    parser.add_argument("--wait", type=float, default=0, metavar="SECONDS", help="retry for so long")
    own, command = _split(sys.argv[1:])
    arguments = parser.parse_args(own)
    deadline, logged = time.monotonic() + arguments.wait, ""
    while problem := check(arguments.what, arguments.job):
        if problem != logged:
            print(problem, file=sys.stderr, flush=True)
            logged = problem
        if time.monotonic() >= deadline:
            return 1
        time.sleep(1)
    if command:
        os.execvp(command[0], command)  # noqa: S606 - the component's own command, from its manifest
    return 0


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """The arguments before and after `--`."""
    at = words.index("--") if "--" in words else len(words)
    return words[:at], words[at + 1 :]


if __name__ == "__main__":
    sys.exit(main())
