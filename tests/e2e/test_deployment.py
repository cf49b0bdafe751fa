"""From nothing to a green run, and a user's next steps: each test goes on from the state of the one before."""

import json
from dataclasses import replace
from typing import Any

import mssql_python
import psycopg
import pytest
from orders_etl import ORDERS

from tests.harness.direct import DIRECT
from tests.harness.e2e.deployment import Deployment, task_name, wait_for
from tests.harness.e2e.one_more_table import ACTIVE
from tests.harness.e2e.pod_history import PodWatch

DAGS = ("orders_etl", "stock_etl", "pallets_etl")
STEPS = {"partition.extract[0]", "partition.filter[0]", "partition.load[0]"}


@pytest.fixture(scope="module")
def first_run_id(first_run: str, deployment: Deployment) -> str:
    with deployment.airflow() as airflow:
        manual = [run for run in airflow.runs("orders_etl") if run["run_type"] == "manual"]
    return str(manual[0]["dag_run_id"])


def test_apply_all_goes_from_nothing_to_a_green_run_that_adds_up(first_run: str, deployment: Deployment) -> None:
    assert "adds up" in first_run
    with deployment.site(ORDERS) as site:
        confirmed = site.source_rows("status = 'confirmed'")
        assert len(confirmed) == 1600
        assert site.sink_rows() == confirmed
        (audit,) = site.audits()
        assert (audit["extracted"], audit["dropped"], audit["inserted"]) == (4000, 2400, 1600)


def test_apply_all_tries_whether_network_policies_are_enforced(first_run: str) -> None:
    assert "Network policies are enforced on" in first_run


def test_no_password_is_shown(first_run: str, deployment: Deployment) -> None:
    for secret in deployment.objects("secrets"):
        for key in secret.get("data", {}):
            assert deployment.secret(secret["metadata"]["name"], key) not in first_run


def test_every_task_ran_in_a_worker_and_every_step_in_a_pod_of_its_own(
    first_run_id: str, deployment: Deployment, pods: PodWatch
) -> None:
    with deployment.airflow() as airflow:
        tasks = airflow.tasks("orders_etl", first_run_id)
    assert set(tasks) == STEPS | {"plan", "reconcile"}
    workers = pods.workers("orders_etl", first_run_id)
    assert {_task_of(worker) for worker in workers} == set(tasks)
    assert {worker["spec"]["containers"][0]["image"] for worker in workers} == {"localhost/etl-airflow:0.1.0"}
    steps = pods.steps("orders_etl", first_run_id)
    assert {step["spec"]["containers"][0]["args"][1] for step in steps} == {"extract", "filter", "load"}
    assert {step["spec"]["containers"][0]["image"] for step in steps} == {"localhost/etl:0.1.0"}
    assert all(pod["status"]["phase"] == "Succeeded" for pod in steps)


def test_a_worker_knows_no_database_and_no_key(first_run_id: str, pods: PodWatch) -> None:
    for worker in pods.workers("orders_etl", first_run_id):
        text = json.dumps(worker["spec"])
        assert "SQL_ALCHEMY" not in text
        assert "secretRef" not in text
        assert "secretKeyRef" not in text
        assert "airflow-common" in text


def test_no_pod_stays_behind(first_run_id: str, deployment: Deployment, pods: PodWatch) -> None:
    made = pods.workers("orders_etl", first_run_id) + pods.steps("orders_etl", first_run_id)
    names = {pod["metadata"]["name"] for pod in made}
    assert names

    def gone() -> bool:
        return not names & {pod["metadata"]["name"] for pod in deployment.objects("pods")}

    wait_for("the pods of the run to be deleted", gone, seconds=60)


def test_every_service_has_endpoints(first_run: str, deployment: Deployment) -> None:
    ready = {
        slices["metadata"]["labels"]["kubernetes.io/service-name"]
        for slices in deployment.objects("endpointslices")
        if any(endpoint["conditions"]["ready"] for endpoint in slices.get("endpoints") or [])
    }
    assert {service["metadata"]["name"] for service in deployment.objects("services")} == ready


def test_the_login_of_the_pipelines_can_neither_make_nor_drop_a_table_in_the_sink(
    first_run: str, deployment: Deployment
) -> None:
    with deployment.site(ORDERS) as site:
        for statement in (
            "DROP TABLE [dbo].[orders]",
            "TRUNCATE TABLE [dbo].[orders]",
            "CREATE TABLE [dbo].[n] ([n] int)",
        ):
            with pytest.raises(mssql_python.Error, match="permission"):
                site.execute(statement)


def test_applying_again_changes_nothing(first_run: str, deployment: Deployment) -> None:
    before = _servers(deployment), _secrets(deployment)
    replace(deployment, overlay="").apply_all()
    assert (_servers(deployment), _secrets(deployment)) == before


def test_the_api_is_closed_to_strangers(first_run: str, deployment: Deployment) -> None:
    with deployment.forwarded("airflow-api-server", 8080) as port:
        assert DIRECT.get(f"http://127.0.0.1:{port}/api/v2/dags").status_code == 401


def test_a_pipeline_added_as_one_file_appears_and_its_schedule_fires(stock: str, deployment: Deployment) -> None:
    with deployment.airflow() as airflow:
        airflow.await_dag(stock)
        airflow.pause(stock, False)

        def scheduled() -> list[str]:
            return [run["dag_run_id"] for run in airflow.runs(stock) if run["run_type"] == "scheduled"]

        first = wait_for("a run of the schedule", scheduled, seconds=120)[-1]
        airflow.await_run(stock, first)
        # Not before: no task of a paused DAG is started.
        airflow.pause(stock, True)
        assert {"partition.load[0]", "partition.load[1]"} <= set(airflow.tasks(stock, first))
    with deployment.site(ORDERS) as site:
        assert site.query("SELECT COUNT_BIG(*) FROM [dbo].[stock]") == [(ACTIVE,)]


def test_a_failed_partition_is_retried_alone(stock: str, deployment: Deployment) -> None:
    """A weight that SQL Server cannot hold stands in the second of two partitions; then it is mended."""
    dag = "pallets_etl"  # no run of its schedule comes between
    with psycopg.connect(deployment.source_url, autocommit=True) as connection:
        connection.execute("UPDATE pallets SET weight = CASE sku WHEN 61 THEN 'NaN'::real ELSE 1 END")
        with deployment.airflow() as airflow:
            run = airflow.trigger(dag)
            airflow.pause(dag, False)
            airflow.await_run(dag, run, "failed")
            before = airflow.tasks(dag, run)
            assert {name for name, task in before.items() if task["state"] == "failed"} == {"partition.filter[1]"}
            # The version is not touched: the row stays in the window of the run.
            connection.execute("UPDATE pallets SET weight = 61 WHERE sku = 61")
            airflow.clear(dag, run, "partition.extract", 1)
            airflow.await_run(dag, run)
            airflow.pause(dag, True)
            after = airflow.tasks(dag, run)
    again = {name for name, task in after.items() if task["try_number"] > before[name]["try_number"]}
    assert again == {"partition.extract[1]", "partition.filter[1]", "partition.load[1]", "reconcile"}
    with deployment.site(ORDERS) as site:
        weights = site.query("SELECT [weight] FROM [dbo].[pallets] WHERE [sku] IN (61, 62) ORDER BY [sku]")
        assert weights == [(61.0,), (1.0,)]


def test_data_survives_the_end_of_every_pod(stock: str, deployment: Deployment) -> None:
    before = _everything(deployment)
    deployment.kubectl("delete", "pods", "--all", "--wait=true", "--timeout=180s")
    deployment.apply_all("--wait-for-first-run")
    assert _everything(deployment, runs_of=before["runs"]) == before


def _task_of(worker: dict[str, Any]) -> str:
    annotations = worker["metadata"]["annotations"]
    return task_name({"task_id": annotations["task_id"], "map_index": int(annotations.get("map_index", -1))})


def _servers(deployment: Deployment) -> dict[str, str]:
    """The pods that stay, by name, and which they are."""
    found = deployment.objects("pods", "--selector=!kubernetes_executor,!kubernetes_pod_operator,!job-name")
    return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in found}


def _secrets(deployment: Deployment) -> dict[str, Any]:
    return {secret["metadata"]["name"]: secret["data"] for secret in deployment.objects("secrets")}


def _everything(deployment: Deployment, runs_of: "dict[str, str] | None" = None) -> dict[str, Any]:
    """The rows in the sink, the runs that Airflow remembers (those that are asked for), and the Secrets."""
    with deployment.airflow() as airflow:
        runs = {run["dag_run_id"]: run["state"] for dag in DAGS for run in airflow.runs(dag)}
    with deployment.site(ORDERS) as site:
        rows = site.sink_rows()
    asked = runs if runs_of is None else {name: state for name, state in runs.items() if name in runs_of}
    return {"rows": rows, "runs": asked, "secrets": _secrets(deployment)}
