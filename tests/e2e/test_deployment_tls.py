"""On the cluster the source is verified by an authority of ours, the sink by the certificate that apply-all.sh made."""

import re
from pathlib import Path

import pytest
from etl.config.settings import Settings
from etl.errors import ConfigurationError
from etl.sqlserver.connection import connect_to_prepare
from orders_etl import ORDERS
from pydantic import SecretStr

from tests.harness.e2e.deployment import Deployment
from tests.harness.e2e.testbed import SOURCE_NAME


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Environment variables for the driver, restored after the test."""
    monkeypatch.setenv("SSL_CERT_FILE", "")


def test_the_rows_came_from_a_source_that_was_verified(first_run: str, deployment: Deployment) -> None:
    data = deployment.objects("configmaps", "--field-selector=metadata.name=etl-connections")[0]["data"]
    assert re.search(rf"@{SOURCE_NAME}:5432/.*sslmode=verify-full", data["SOURCE_URL"])
    assert data["SOURCE_CA_FILE"] == "/etc/etl-trust/source-ca.crt"
    assert "not verified" not in first_run
    with deployment.site(ORDERS) as site:
        assert site.sink_rows() == site.source_rows("status = 'confirmed'")


def test_no_task_and_no_step_has_left_anything_unverified(first_run: str, deployment: Deployment) -> None:
    with deployment.airflow() as airflow:
        run = next(str(one["dag_run_id"]) for one in airflow.runs("orders_etl") if one["run_type"] == "manual")
        tasks = airflow.tasks("orders_etl", run).values()
        lines = [
            str(line["event"])
            for task in tasks
            for line in airflow.log("orders_etl", run, task["task_id"], task["map_index"], task["try_number"])
        ]
    assert len(lines) > len(tasks)
    assert [line for line in lines if "Not verified" in line] == []


@pytest.mark.parametrize("believed", ["its own certificate", "another"])
def test_the_sink_shows_its_own_certificate(
    first_run: str, deployment: Deployment, tmp_path: Path, believed: str
) -> None:
    file = tmp_path / "ca.crt"
    file.write_text(deployment.secret("mssql-tls" if believed == "its own certificate" else "ui-tls", "tls.crt"))
    options = "encrypt=yes&hostnameincertificate=mssql-svc"
    password = deployment.secret("etl-connections", "SINK_PASSWORD")
    with deployment.forwarded("mssql-svc", 1433) as port:
        url = SecretStr(f"mssql://etl:{password}@127.0.0.1:{port}/sink?{options}")
        settings = Settings(sink_url=url, sink_ca_file=file)
        if believed == "another":
            with pytest.raises(ConfigurationError, match="certificate verify failed"):
                connect_to_prepare(settings, settings.sink()).__enter__()
            return
        with connect_to_prepare(settings, settings.sink()) as sink:
            assert sink.value("SELECT 1") == 1
