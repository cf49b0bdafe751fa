"""A real DAG processor with the one key that it holds: it reads a DAG file that asks for an encrypted variable."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg
from cryptography.fernet import Fernet

from dev.sandbox.process import die_with_parent, kill_session
from dev.sandbox.stack import airflow_environment
from dev.sandbox.waiting import wait_for
from tests.harness.manifests.pods import SECRET, pods_of
from tests.harness.manifests.rendering import rendering

DAG = """
from airflow.sdk import DAG, Variable
dag = DAG(dag_id=f"of_{Variable.get('whose')}", schedule=None)
"""
READ = "SELECT dag_id FROM dag UNION SELECT stacktrace FROM import_error"
KEYS = {"AIRFLOW__CORE__FERNET_KEY", "AIRFLOW__API__SECRET_KEY", "AIRFLOW__API_AUTH__JWT_SECRET"}


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(query.encode()).fetchall()


def airflow(environment: Mapping[str, str], *words: str) -> None:
    done = subprocess.run(
        ["airflow", *words], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dag_processor_needs_no_key_that_signs(empty: str, tmp_path: Path) -> None:
    (pod,) = (pod for pod in pods_of(rendering("single-node")) if pod.owner == "Deployment/airflow-dag-processor")
    held = KEYS & {name for name, value in pod.containers[0].environment().items() if value == SECRET}
    assert held == {"AIRFLOW__CORE__FERNET_KEY"}
    dags = tmp_path / "dags"
    dags.mkdir()
    (dags / "whose.py").write_text(DAG)
    inherited = {name: value for name, value in os.environ.items() if name not in KEYS}
    environment = inherited | airflow_environment(tmp_path, empty, "", "")
    del environment["AIRFLOW__SECRETS__BACKEND"]  # the API server's alone
    environment |= dict.fromkeys(held, Fernet.generate_key().decode())
    environment["AIRFLOW__CORE__DAGS_FOLDER"] = str(dags)
    airflow(environment, "db", "migrate")
    airflow(environment, "variables", "set", "whose", "nobody")
    assert rows(empty, "SELECT is_encrypted FROM variable") == [(True,)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            ["airflow", "dag-processor"], env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            preexec_fn=die_with_parent, start_new_session=True,
        )  # fmt: skip
    try:
        wait_for(lambda: rows(empty, READ), 120, 0.5)
    finally:
        kill_session(process.pid)
        process.wait()
    assert rows(empty, READ) == [("of_nobody",)]
