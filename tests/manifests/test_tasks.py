"""The pods that Airflow starts: a worker that knows no secret, and the pod of a step as that worker makes it."""

import re
from urllib.parse import urlsplit

import pytest
from etl_airflow.task_logs.remote import TERMINATION_MARK

from tests.harness.manifests.pods import Container, Pod, all_pods, pods_of, step, worker
from tests.harness.manifests.rendering import NAMESPACE, Rendering, renderings

SECRET_NAMES = re.compile(r"PASSWORD|SECRET|FERNET|JWT|SQL_ALCHEMY|_CONN_|CONNECTION|TOKEN", re.IGNORECASE)
SETTINGS = "AIRFLOW__KUBERNETES_EXECUTOR"

each_rendering = pytest.mark.parametrize("rendering", renderings(), ids=str)


def container_of(rendering: Rendering, owner: str) -> Container:
    return next(pod for pod in pods_of(rendering) if pod.owner == owner).containers[0]


def scheduler(rendering: Rendering) -> Container:
    return container_of(rendering, "Deployment/airflow-scheduler")


@each_rendering
def test_a_worker_refers_to_no_secret(rendering: Rendering) -> None:
    assert not re.search(r"'secret\w*'|'projected'", str(worker(rendering).content))


@each_rendering
def test_no_setting_of_a_worker_is_a_secret(rendering: Rendering) -> None:
    for name, value in worker(rendering).containers[0].environment().items():
        assert not SECRET_NAMES.search(name)
        assert not urlsplit(value).password


@each_rendering
def test_the_way_of_a_worker_to_airflow_is_the_execution_api(rendering: Rendering) -> None:
    environment = worker(rendering).containers[0].environment()
    assert environment["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"].endswith("/execution/")
    # The worker reads the DAG file too, and that may name an executor.
    assert environment["AIRFLOW__CORE__EXECUTOR"] == scheduler(rendering).environment()["AIRFLOW__CORE__EXECUTOR"]


@each_rendering
def test_who_edits_connections_says_nothing_of_how_a_repository_is_reached(rendering: Rendering) -> None:
    for owner in ("Deployment/airflow-dag-processor", "Deployment/airflow-api-server"):
        asked = "AIRFLOW_CONN_GIT_DEFAULT" not in container_of(rendering, owner).environment()
        assert asked == ("git-dags" not in rendering.name)


@each_rendering
def test_the_executor_finds_its_template_and_its_container(rendering: Rendering) -> None:
    container = scheduler(rendering)
    (mount,) = [one for one in container.content["volumeMounts"] if one["name"] == "pod-template"]
    template = container.environment()[f"{SETTINGS}__POD_TEMPLATE_FILE"]
    assert template == f"{mount['mountPath']}/pod-template.yaml"
    # The executor replaces the first container's command, and looks for this name.
    assert worker(rendering).containers[0].name == "base"
    assert worker(rendering).spec["restartPolicy"] == "Never"


@each_rendering
def test_a_worker_is_of_the_scheduler_s_image_and_a_step_of_the_init_job_s(rendering: Rendering) -> None:
    assert worker(rendering).containers[0].content["image"] == scheduler(rendering).content["image"]
    (prepares,) = (pod for pod in pods_of(rendering) if pod.owner == "Job/mssql-init-job")
    assert step(rendering).containers[0].content["image"] == prepares.spec["containers"][0]["image"]


@each_rendering
def test_the_tables_of_the_sink_are_made_by_its_administrator_where_the_image_has_the_dags(
    rendering: Rendering,
) -> None:
    (pod,) = (pod for pod in pods_of(rendering) if pod.owner == "Job/mssql-init-job")
    arguments = pod.spec["containers"][0]["args"]
    if "git-dags" in rendering.name:
        assert arguments == ["etl", "prepare-sink"]
        return
    assert arguments == ["etl", "prepare-sink", "--pipeline", "/pipelines"]
    (names,) = pod.spec["initContainers"]
    assert names["image"] == scheduler(rendering).content["image"]
    assert names["args"][-1] == "/pipelines"


@each_rendering
def test_tasks_run_in_the_namespace(rendering: Rendering) -> None:
    assert scheduler(rendering).environment()[f"{SETTINGS}__NAMESPACE"] == NAMESPACE
    assert step(rendering).content["metadata"]["namespace"] == NAMESPACE


@each_rendering
def test_a_worker_outlives_the_pod_of_its_step(rendering: Rendering) -> None:
    graces = [pod.spec["terminationGracePeriodSeconds"] for pod in (worker(rendering), step(rendering))]
    assert graces[0] > 2 * graces[1]


@each_rendering
def test_a_worker_notes_that_it_was_told_to_end(rendering: Rendering) -> None:
    (container,) = worker(rendering).containers
    assert container.content["lifecycle"]["preStop"] == {"exec": {"command": ["touch", str(TERMINATION_MARK)]}}


@each_rendering
def test_a_step_stages_on_the_volume_or_in_a_bucket_and_never_in_its_own_pod(rendering: Rendering) -> None:
    (container,) = step(rendering).containers
    staging = urlsplit(container.environment()["STAGING_URL"])
    claimed = [one["name"] for one in step(rendering).volumes if "persistentVolumeClaim" in one]
    paths = [one["mountPath"] for one in container.content["volumeMounts"] if one["name"] in claimed]
    assert paths == ([staging.path] if staging.scheme == "file" else [])


def variables(pod: Pod) -> set[str]:
    return {name for container in pod.containers for name in container.environment()}


@each_rendering
def test_the_passwords_of_the_databases_are_known_where_they_are_used_and_nowhere_else(rendering: Rendering) -> None:
    known = {pod.owner for pod in all_pods(rendering) if {"SOURCE_PASSWORD", "SINK_PASSWORD"} & variables(pod)}
    assert known == {"Pod/etl", "Job/mssql-init-job", "Deployment/airflow-api-server"}
