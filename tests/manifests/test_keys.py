"""No component holds a key that it does not use; docs/security.md says what each is for."""

import pytest

from tests.harness.manifests.pods import SECRET, Pod, all_pods
from tests.harness.manifests.rendering import Rendering, renderings

FERNET, API, JWT = "AIRFLOW__CORE__FERNET_KEY", "AIRFLOW__API__SECRET_KEY", "AIRFLOW__API_AUTH__JWT_SECRET"
DATABASE = {"METADATA_PASSWORD"}
STEPS = "etl-connections"
STEP = {"SOURCE_PASSWORD", "SINK_PASSWORD", "MASK_KEY"}
COUNTERS = "SINK_EXPORTER_COUNTERS"
HELD: dict[str, set[str]] = {
    # It signs and believes tokens (JWT), cookies and links to logs (API), and hands connections out (Fernet, STEP).
    "Deployment/airflow-api-server": {FERNET, API, JWT} | DATABASE | STEP,
    # It signs the tokens of workers, and encrypts the arguments of triggers.
    "Deployment/airflow-scheduler": {FERNET, JWT} | DATABASE,
    # DAG authors' code runs in these two.
    "Deployment/airflow-dag-processor": {FERNET} | DATABASE,
    "Deployment/airflow-triggerer": {FERNET, API} | DATABASE,
    "StatefulSet/metadata-postgres": {"METADATA_ADMIN_PASSWORD", "METADATA_EXPORTER_PASSWORD"} | DATABASE,
    "CronJob/metadata-backup": {"PGPASSWORD"},
    "Job/airflow-migrate": {"ADMIN_PASSWORD"} | DATABASE,
    "CronJob/airflow-clean": DATABASE,
    "Pod/airflow-worker": set(),
    "Pod/etl": STEP,
    "Deployment/database-exporter": {"METADATA_PASSWORD", "SINK_EXPORTER_PASSWORD"},
}
OF_OWN_SINK: dict[str, set[str]] = {
    "StatefulSet/mssql": {"MSSQL_SA_PASSWORD"},
    "CronJob/sink-backup": {"SINK_BACKUP_PASSWORD"},
    "Job/mssql-init-job": {"SINK_ADMIN_PASSWORD", "SINK_PASSWORD", "SINK_EXPORTER_PASSWORD", "SINK_BACKUP_PASSWORD"},
}
OF_EXTERNAL_SINK: dict[str, set[str]] = {
    "Job/mssql-init-job": {"SINK_ADMIN_PASSWORD", "SINK_PASSWORD", "SINK_EXPORTER_PASSWORD"},
}
OF_SERVICE_PRINCIPAL: dict[str, set[str]] = {
    "Deployment/airflow-api-server": {"ENTRA_CLIENT_SECRET"},
    "Deployment/database-exporter": {"ENTRA_CLIENT_SECRET"},
    "Job/mssql-init-job": {"ENTRA_CLIENT_SECRET", "SINK_ADMIN_CLIENT_SECRET"},
}

each_rendering = pytest.mark.parametrize("rendering", renderings(), ids=str)


def held(pod: Pod) -> set[str]:
    """The secrets among the variables of a pod."""
    return {name for one in pod.containers for name, value in one.environment().items() if value == SECRET}


@each_rendering
def test_a_pod_holds_the_keys_that_it_uses_and_no_others(rendering: Rendering) -> None:
    found = {pod.owner: held(pod) for pod in all_pods(rendering)}
    of_sink = OF_OWN_SINK if rendering.find("StatefulSet", "mssql") else OF_EXTERNAL_SINK
    expected = HELD | of_sink
    parts = str(rendering).split("+")
    if "oidc" in parts:
        expected["Deployment/airflow-api-server"] = expected["Deployment/airflow-api-server"] | {"OIDC_CLIENT_SECRET"}
    if "service-principal" in parts:
        expected |= {owner: expected[owner] | names for owner, names in OF_SERVICE_PRINCIPAL.items()}
    assert {owner: found[owner] for owner in expected} == expected


@each_rendering
def test_the_exporter_of_a_server_of_others_does_not_see_what_runs_on_it(rendering: Rendering) -> None:
    (job,) = (pod for pod in all_pods(rendering) if pod.owner == "Job/mssql-init-job")
    asked = {value for one in job.containers for name, value in one.environment().items() if name == COUNTERS}
    assert asked == ({"true"} if rendering.find("StatefulSet", "mssql") else set())


@each_rendering
def test_all_that_the_secret_of_the_steps_has_is_for_steps_alone(rendering: Rendering) -> None:
    """Among them a bucket's keys, if staging is in one."""
    whole = {pod.owner for pod in all_pods(rendering) for one in pod.containers if ("Secret", STEPS) in one.sources()}
    assert whole == {"Pod/etl"}


@each_rendering
def test_the_api_server_starts_where_whoever_owns_that_secret_gives_no_key_for_masks(rendering: Rendering) -> None:
    """A tool that owns it would remove a key added by apply-all.sh; then all masks are equal."""
    (server,) = (pod for pod in all_pods(rendering) if pod.owner == "Deployment/airflow-api-server")
    variables = {one["name"]: one for each in server.containers for one in each.content.get("env", [])}
    assert variables["MASK_KEY"]["valueFrom"]["secretKeyRef"]["optional"]
