"""Everything is lost, the data and their folders too, and comes back from the backups.

The sink is older than Airflow's database then, which knows a green run whose rows are gone: the next run brings them,
for it reads from where the sink stands.
"""

import subprocess
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from orders_etl import ORDERS

from tests.harness.e2e.deployment import Deployment
from tests.harness.e2e.ledger import watermark, windows

pytestmark = pytest.mark.acceptance
CONFIRM = (
    "UPDATE orders SET status = 'confirmed' WHERE order_id ="
    " (SELECT min(order_id) FROM orders WHERE status <> 'confirmed') RETURNING order_id"
)


@dataclass(frozen=True)
class Backups:
    """Contents of the databases at the time of the backup."""

    rows: dict[Any, tuple[Any, ...]]
    watermark: datetime
    audited: set[str]
    """Runs that the sink knows."""
    runs: dict[str, str]
    """Runs that Airflow knows, with their states."""
    since: str
    """The one that ended after the backup of the sink and before that of Airflow's database."""


@pytest.fixture(scope="module")
def backups(observed: Deployment) -> Backups:
    """Backups by the CronJobs: first of the sink; then an order is confirmed and moved; then of Airflow's database."""
    if observed.sink:
        pytest.skip("A sink outside is backed up by its operators.")
    with observed.airflow() as airflow:
        airflow.rest("orders_etl")
        with observed.site(ORDERS) as site:
            rows, reached = site.sink_rows(), watermark(observed)
        audited = set(windows(observed))
        _run_now(observed, "sink-backup")
        _confirm(observed)
        since = airflow.trigger("orders_etl")
        airflow.pause("orders_etl", False)
        airflow.await_run("orders_etl", since)
        airflow.rest("orders_etl")
        _run_now(observed, "metadata-backup", "airflow-clean")
        return Backups(rows, reached, audited, _runs(observed), since)


def test_each_database_is_backed_up_and_it_shows(backups: Backups, observed: Deployment) -> None:
    listed = observed.restore()
    assert "metadata-" in listed
    assert "sink-" in listed
    assert watermark(observed) > backups.watermark
    for name in ("sink-backup", "metadata-backup"):
        status = observed.objects("cronjobs", f"--field-selector=metadata.name={name}")[0]["status"]
        assert status["lastSuccessfulTime"]


def test_everything_is_lost_and_the_next_run_goes_on_from_the_watermark_of_the_backup(
    backups: Backups, observed: Deployment, tmp_path: Path
) -> None:
    secrets, data = _secrets(observed), observed.data_folder
    observed.apply_all("down")
    assert observed.objects("pods") == []
    assert _secrets(observed) == secrets
    assert any((data / "mssql").iterdir())
    assert any((data / "metadata").iterdir())
    # To be kept off the machine, by docs/operations.md.
    kept = [data / "backup", data / "generated-secrets.json"]
    subprocess.run(["cp", "--archive", *kept, tmp_path], check=True)
    observed.apply_all("down", "--delete-data", "--yes")
    assert not data.exists()
    _confirm(observed)

    data.mkdir(mode=0o700)
    subprocess.run(["cp", "--archive", *(tmp_path / path.name for path in kept), data], check=True)
    observed.apply_all()
    assert _secrets(observed) == secrets
    told = observed.restore("--metadata=latest", "--sink=latest", "--yes")
    assert backups.watermark.isoformat(timespec="seconds") in told
    assert watermark(observed) == backups.watermark
    assert _runs(observed) == backups.runs
    assert backups.runs[backups.since] == "success"
    with observed.site(ORDERS) as site:
        assert site.sink_rows() == backups.rows
    assert set(windows(observed)) == backups.audited

    with observed.airflow() as airflow:
        run = airflow.trigger("orders_etl")
        airflow.pause("orders_etl", False)
        airflow.await_run("orders_etl", run)
    with observed.site(ORDERS) as site:
        assert site.sink_rows() == site.source_rows("status = 'confirmed'")
        assert len(site.sink_rows()) == len(backups.rows) + 2
    # A run of the schedule may have come first.
    new = [low for run_id, (low, _) in windows(observed).items() if run_id not in backups.audited]
    assert min(new) == backups.watermark - ORDERS.look_back


def _run_now(deployment: Deployment, *cron_jobs: str) -> None:
    """Run the nightly CronJobs now."""
    for name in cron_jobs:
        deployment.kubectl("create", "job", f"--from=cronjob/{name}", f"{name}-now")
    names = [f"job/{name}-now" for name in cron_jobs]
    deployment.kubectl("wait", "--for=condition=complete", "--timeout=180s", *names)


def _confirm(deployment: Deployment) -> None:
    with psycopg.connect(deployment.source_url, autocommit=True) as connection:
        assert connection.execute(CONFIRM.encode()).fetchall()


def _runs(deployment: Deployment) -> dict[str, str]:
    with deployment.airflow() as airflow:
        return {run["dag_run_id"]: run["state"] for run in airflow.runs("orders_etl")}


def _secrets(deployment: Deployment) -> dict[str, Any]:
    """Except certificates, which are issued again."""
    found = deployment.objects("secrets", "--field-selector=type!=kubernetes.io/tls")
    return {secret["metadata"]["name"]: secret["data"] for secret in found}
