"""Day 2 of docs/operations.md, executed as written there on a deployment: `make operate`."""

import re
import secrets
import subprocess
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import mssql_python
import psycopg
import pytest
from cryptography.fernet import Fernet
from orders_etl import ORDERS

from dev.sandbox.pipeline_fixture import existing_fixture
from dev.sandbox.stack import ROOT
from ops.cluster.console import DeployError
from tests.harness.direct import DIRECT
from tests.harness.e2e.deployment import Deployment, through_loopback, wait_for
from tests.harness.e2e.ledger import watermark, windows
from tests.harness.e2e.testbed import PASSWORD, TestBed

OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
CONFIRM = "UPDATE orders SET status = 'confirmed', amount = amount + 1 WHERE order_id = %s"


def section(heading: str) -> str:
    """Text below a heading."""
    return OPERATIONS.split(f"### {heading}\n")[1].split("\n### ")[0]


def blocks(text: str) -> list[str]:
    """The blocks of code."""
    return re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


FUNCTIONS = blocks(section("Rotate every secret"))[0]


class Hands:
    """Executes the document's commands, in a shell with the functions that it defines."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment

    def rotate(self, what: str, *values: str) -> None:
        """Go through a row of the table of secrets; each command that reads something is given the next value.

        What has dots in it is not a command but tells which; the test has done it.
        """
        (how,) = re.findall(rf"^\| {re.escape(what)} \| (.*) \|$", section("Rotate every secret"), re.MULTILINE)
        waiting = list(values)
        for command in re.findall(r"`([^`]+)`", how):
            if "…" not in command:
                reads = command.startswith(("set_secret", "airflow users"))
                self.do(command, waiting.pop(0) if reads else "")
        assert not waiting, f"Nothing has read {len(waiting)} of the values."

    def do(self, command: str, read: str = "") -> str:
        """Run one command with `read` on stdin; returns its output."""
        if command == "apply-all.sh":
            return self.deployment.apply_all()
        print(f"  $ {command}", flush=True)
        script = f"set -euo pipefail\n{FUNCTIONS}\n{command}"
        # Some ask twice.
        ran = subprocess.run(
            ["bash", "-c", script], env=self.deployment.environment, input=f"{read}\n{read}\n",
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, f"`{command}` failed: {ran.stdout}{ran.stderr}"
        assert not read or read not in ran.stdout + ran.stderr
        return ran.stdout


@pytest.fixture(scope="module")
def hands(first_run: str, deployment: Deployment) -> Hands:
    return Hands(deployment)


@pytest.fixture
def works(deployment: Deployment) -> "Callable[[], None]":
    """Changes an order and has it brought to the sink."""

    def works() -> None:
        with psycopg.connect(deployment.source_url, autocommit=True) as connection:
            connection.execute(CONFIRM.encode(), (secrets.randbelow(4000) + 1,))
        with deployment.airflow() as airflow:
            airflow.pause("orders_etl", False)
            airflow.await_run("orders_etl", airflow.trigger("orders_etl"))
        with deployment.site(ORDERS) as site:
            assert site.sink_rows() == site.source_rows("status = 'confirmed'")

    return works


def new_password() -> str:
    """One that every server takes."""
    return f"Aa1-{secrets.token_urlsafe(20)}"


def test_the_password_of_the_source(hands: Hands, works: "Callable[[], None]") -> None:
    new = new_password()
    with psycopg.connect(hands.deployment.source_url, autocommit=True) as connection:
        connection.execute(f"ALTER ROLE orders PASSWORD '{new}'".encode())
    hands.rotate("the source's password", new)
    assert new != PASSWORD
    works()


def test_the_password_of_the_sink(hands: Hands, works: "Callable[[], None]") -> None:
    old, new = hands.deployment.secret("etl-connections", "SINK_PASSWORD"), new_password()
    hands.rotate("the sink's", new)
    works()
    with (
        hands.deployment.forwarded("mssql-svc", 1433) as port,
        pytest.raises(mssql_python.Error, match="Login failed"),
    ):
        existing_fixture(ORDERS, hands.deployment.source_url, through_loopback("etl", old, port)).sink_rows()


def test_the_password_of_the_administrator_of_sql_server(hands: Hands, works: "Callable[[], None]") -> None:
    old, new = hands.deployment.secret("mssql", "MSSQL_SA_PASSWORD"), new_password()
    # The SQL Server double takes its administrator's password from the Secret at each start.
    if hands.deployment.overlay != "e2e":
        with hands.deployment.forwarded("mssql-svc", 1433) as port:
            site = existing_fixture(ORDERS, hands.deployment.source_url, through_loopback("sa", old, port))
            site.execute(f"ALTER LOGIN [sa] WITH PASSWORD = N'{new}'")
    hands.rotate("SQL Server's administrator's", new)
    works()


def test_the_password_of_the_metadata_database(hands: Hands, works: "Callable[[], None]") -> None:
    new = secrets.token_urlsafe(24)
    with hands.deployment.airflow() as airflow:
        airflow.rest("orders_etl")
    hands.rotate("the metadata database's", new)
    works()


def test_the_password_of_the_superuser_of_the_metadata_database(hands: Hands, works: "Callable[[], None]") -> None:
    hands.rotate("the metadata database's superuser's", new_password())
    works()


def test_the_password_of_the_metrics_of_the_metadata_database(hands: Hands) -> None:
    hands.rotate("the metadata database's for metrics", new_password())
    await_metric(hands, "metadata_up 1.0")


def test_the_password_of_the_metrics_of_the_sink(hands: Hands) -> None:
    hands.rotate("the sink's for metrics", new_password())
    # Those of the whole server are not to be seen in one outside.
    await_metric(hands, f'sink_query_up{{query="{"watermarks" if hands.deployment.sink else "counters"}"}} 1.0')


def await_metric(hands: Hands, shown: str) -> None:
    """Wait until the exporter shows this line."""
    with hands.deployment.forwarded("database-exporter", 9187) as port:
        asked = f"http://127.0.0.1:{port}/metrics"

        def is_up() -> bool:
            return shown in DIRECT.get(asked, timeout=10).text

        wait_for(f"the exporter to show {shown}", is_up, 60)


def test_the_password_of_the_backups_of_the_sink(hands: Hands) -> None:
    if hands.deployment.sink:
        pytest.skip("A sink outside is backed up by its operators.")
    hands.rotate("the sink's for backups", new_password())
    job = "sink-backup-rotated"
    hands.do(f"kubectl --namespace etl-poc create job --from=cronjob/sink-backup {job}")
    hands.do(f"kubectl --namespace etl-poc wait --for=condition=complete --timeout=300s job/{job}")


def test_the_fernet_key(hands: Hands, works: "Callable[[], None]") -> None:
    old, new = hands.deployment.secret("airflow-keys", "AIRFLOW__CORE__FERNET_KEY"), Fernet.generate_key().decode()
    hands.do("airflow variables set greeting hello")
    hands.rotate("the Fernet key", f"{new},{old}", new)
    assert hands.do("airflow variables get greeting").splitlines()[-1] == "hello"
    works()


def test_the_keys_of_the_api(hands: Hands, works: "Callable[[], None]") -> None:
    with hands.deployment.airflow() as before:
        before.rest("orders_etl")
        hands.rotate("the API's keys", secrets.token_urlsafe(48), secrets.token_urlsafe(48))
        with pytest.raises(DeployError, match="Invalid JWT token"):
            before.runs("orders_etl")
    works()


def test_the_key_of_masks(hands: Hands, works: "Callable[[], None]") -> None:
    new = secrets.token_urlsafe(48)
    hands.rotate("the key of masks", new)
    assert hands.deployment.secret("etl-connections", "MASK_KEY") == new
    works()


def test_the_password_of_the_administrator_of_the_ui(hands: Hands) -> None:
    new = new_password()
    hands.rotate("the UI's administrator's", new, new)
    with hands.deployment.airflow() as airflow:
        assert airflow.runs("orders_etl")


@pytest.mark.parametrize("name", ["SQL Server's certificate", "the UI's certificate"])
def test_a_certificate(hands: Hands, works: "Callable[[], None]", name: str) -> None:
    secret = {"SQL Server's certificate": "mssql-tls", "the UI's certificate": "ui-tls"}[name]
    old = hands.deployment.secret(secret, "tls.crt")
    hands.rotate(name)
    assert hands.deployment.secret(secret, "tls.crt") != old
    works()


def test_another_schedule_leaves_no_gap(hands: Hands) -> None:
    file = hands.deployment.checkout / "dags" / "orders_etl.py"
    before = windows(hands.deployment)
    file.write_text(file.read_text().replace('schedule="*/15 * * * *"', 'schedule="* * * * *"'))
    hands.do("apply-all.sh")
    with hands.deployment.airflow() as airflow:

        def scheduled_since() -> list[str]:
            found = [run for run in airflow.runs("orders_etl") if run["run_type"] == "scheduled"]
            return [run["dag_run_id"] for run in found if run["dag_run_id"] not in before]

        for run in wait_for("two runs of the new schedule", lambda: scheduled_since()[1:] and scheduled_since(), 300):
            airflow.await_run("orders_etl", run)
        airflow.rest("orders_etl")
    after = sorted(windows(hands.deployment).values())
    assert all(low <= high for (_, high), (low, _) in pairwise(after))


def test_a_backfill_leaves_the_watermark(hands: Hands) -> None:
    with hands.deployment.airflow() as airflow:
        airflow.pause("orders_etl", False)
        known = {run["dag_run_id"] for run in airflow.runs("orders_etl")}
        before = watermark(hands.deployment)
        (command,) = blocks(section("Backfill"))
        hands.do(command)
        (run,) = {run["dag_run_id"] for run in airflow.runs("orders_etl") if run["run_type"] == "manual"} - known
        airflow.await_run("orders_etl", run)
    assert watermark(hands.deployment) >= before


def test_the_data_moves_to_another_disk(
    hands: Hands, bed: TestBed, tmp_path: Path, works: "Callable[[], None]"
) -> None:
    if bed.cluster is None:
        pytest.skip("The node is not ours.")
    data, larger = hands.deployment.data_folder, tmp_path / "larger"
    commands, _fstab = blocks(section("Grow a volume"))
    assert [line.split()[1] for line in commands.splitlines()][1:4] == ["cp", "mv", "mount"]
    hands.deployment.apply_all("down")
    # As written there, on this machine and in the mount namespace of the node.
    subprocess.run(["cp", "--archive", f"{data}/.", f"{larger}/"], check=True)
    before = {file: file.stat().st_mtime_ns for file in (data / "mssql").rglob("*") if file.is_file()}
    old = data.rename(data.with_name("old"))
    data.mkdir(mode=0o700)
    with pytest.raises(AssertionError, match="ended with 1"):
        hands.deployment.apply_all()  # the disk is not mounted
    assert not list(data.iterdir())
    places: list[list[str]] = [[], ["nsenter", f"--mount=/proc/{bed.cluster.namespaces}/ns/mnt"]]
    for place in places:
        subprocess.run([*place, "mount", "--bind", str(larger), str(data)], check=True)
    try:
        hands.deployment.apply_all()
        works()
        assert {file: file.stat().st_mtime_ns for file in before} == before
    finally:
        hands.deployment.apply_all("down")
        for place in places:
            subprocess.run([*place, "umount", str(data)], check=True)
        data.rmdir()
        old.rename(data)
