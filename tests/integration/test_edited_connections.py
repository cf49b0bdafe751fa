"""Edited Airflow connections do not change those of pipelines: these are answered before its database."""

import json
import os
import secrets
import subprocess
from collections.abc import Iterator

import pytest

from dev.sandbox.postgres import Postgres
from dev.sandbox.stack import ROOT, airflow_environment
from tests.harness.manifests.kustomizations import K8S

ENDS = {"SOURCE_URL": "postgresql://orders@source.example.com/orders", "SINK_URL": "mssql://etl@sink.example.com/sink"}
OURS = ("source", "sink", "kubernetes_default", "git_default")
EDITED = {"conn_type": "kubernetes", "host": "evil.example.com", "extra": {"kube_config": "{}", "in_cluster": False}}


@pytest.fixture(scope="module")
def environment(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of Airflow's servers, with a database in which the connections were edited."""
    name = f"airflow_{secrets.token_hex(4)}"
    git = (K8S / "components" / "git-dags" / "servers.env").read_text().splitlines()[-1]
    made = airflow_environment(tmp_path_factory.mktemp("airflow"), postgres.create_database(name), *ENDS.values())
    made |= dict([git.split("=", 1)])
    airflow(made, "db", "migrate")
    for conn_id in (*OURS, "of_somebody"):
        airflow(made, "connections", "add", conn_id, f"--conn-json={json.dumps(EDITED)}")
    yield made
    postgres.drop_database(name)


def airflow(environment: dict[str, str], *arguments: str) -> str:
    command = ["airflow", *arguments]
    return subprocess.run(
        command, env=os.environ | environment, cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout


def test_the_database_is_asked_for_other_connections_alone(environment: dict[str, str]) -> None:
    def found(conn_id: str) -> str:
        return airflow(environment, "connections", "get", conn_id, "--output=json")

    assert "evil.example.com" in found("of_somebody")
    for conn_id in OURS:
        assert "evil.example.com" not in found(conn_id)
    (cluster,) = json.loads(found("kubernetes_default"))
    assert cluster["extra_dejson"] == {"in_cluster": "True"}
