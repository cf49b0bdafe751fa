"""Findings of `doctor.sh` at pipelines' connections, in Airflow, and in monitoring. One fault each, and no other."""

import pytest
from orders_etl import dag as orders_dag

from ops.doctor.airflow import TAG, source_tables
from ops.doctor.snapshot import Answer, FailedRun, Snapshot
from tests.harness.doctor.healthy_deployment import ago, alert, target, task
from tests.harness.doctor.verdict import get, only, verdict


@pytest.mark.parametrize(
    ("end", "problem", "name"),
    [
        ("source", "name", "source-name-unknown"),
        ("source", "port", "source-unreachable"),
        ("source", "connection", "source-unreachable"),
        ("source", "silent", "source-unreachable"),
        ("source", "login", "source-login"),
        ("source", "table", "source-not-readable"),
        ("source", "database", "source-not-readable"),
        ("sink", "name", "sink-name-unknown"),
        ("sink", "port", "sink-unreachable"),
        ("sink", "connection", "sink-unreachable"),
        ("sink", "login", "sink-login"),
        ("sink", "recovering", "sink-recovering"),
        ("sink", "endpoint", "sink-token"),
        ("sink", "token", "sink-token"),
        ("source", "token", "source-token"),
        ("sink", "database", "sink-not-prepared"),
        ("sink", "unprepared", "sink-not-prepared"),
        ("metadata", "port", "metadata-down"),
        ("metadata", "login", "metadata-login"),
        ("metadata", "unprepared", "metadata-not-migrated"),
        ("staging", "write", "staging-not-writable"),
    ],
)
def test_what_a_pod_finds_at_an_end_is_told_with_its_words(seen: Snapshot, end: str, problem: str, name: str) -> None:
    seen.answers[end] = Answer(seen.answers[end].where, problem, "the words of the server.")
    only(seen, name, "the words of the server.")


def test_an_unreachable_source_is_told_with_the_address_that_was_tried(seen: Snapshot) -> None:
    seen.answers["source"] = Answer("source-postgres:5432/orders", "port", "it does not answer.")
    only(seen, "source-unreachable", "at 198.51.100.7", "10.42.0.0/16", "--source-address")


def test_the_address_of_the_source_was_never_set(seen: Snapshot) -> None:
    get(seen, "EndpointSlice", "source-postgres")["endpoints"][0]["addresses"] = ["192.0.2.10"]
    seen.answers["source"] = Answer("source-postgres:5432/orders", "port", "it does not answer.")
    only(seen, "source-address-missing", "still 192.0.2.10", "--source-address IP", follows={"source-unreachable"})


def test_nothing_names_an_address_of_the_source(seen: Snapshot) -> None:
    get(seen, "EndpointSlice", "source-postgres")["endpoints"] = []
    only(seen, "source-address-missing", "no EndpointSlice names one")


def test_a_source_that_is_named_by_its_url_needs_no_address(seen: Snapshot) -> None:
    get(seen, "ConfigMap", "etl-connections")["data"]["SOURCE_URL"] = "postgresql://orders@db.example.com:5432/orders"
    get(seen, "EndpointSlice", "source-postgres")["endpoints"] = []
    assert verdict(seen).causes == []


def test_a_bucket_that_cannot_be_written_to(seen: Snapshot) -> None:
    seen.answers["staging"] = Answer("s3://etl-staging", "write", "Access Denied")
    only(seen, "staging-not-writable", "s3://etl-staging", "AWS_ENDPOINT_URL")


def test_airflow_says_that_its_database_is_away(seen: Snapshot) -> None:
    del seen.answers["metadata"]
    seen.unseen["metadata"] = "the pod that tries them does not start."
    seen.airflow.health["metadatabase"] = {"status": "unhealthy"}
    for part in ("scheduler", "triggerer", "dag_processor"):
        seen.airflow.health[part] = {"status": "unhealthy"}
    only(seen, "metadata-down", follows={"scheduler-silent", "triggerer-silent", "dag-processor-silent"})


def test_the_api_server_does_not_answer(seen: Snapshot) -> None:
    seen.airflow.down = "Airflow answered 500 to GET /api/v2/pools: no reason"
    seen.unseen["airflow"] = "Airflow could not be asked."
    only(seen, "airflow-down", "Airflow answered 500", "logs deployment/airflow-api-server")


@pytest.mark.parametrize("part", ["scheduler", "dag_processor", "triggerer"])
def test_a_part_of_airflow_that_is_silent(seen: Snapshot, part: str) -> None:
    seen.airflow.health[part] = {"status": "unhealthy", f"latest_{part}_heartbeat": ago(90)}
    name = part.replace("_", "-")
    only(seen, f"{name}-silent", "no sign of life for 90 s", f"rollout restart deployment/airflow-{name}")


def test_a_part_of_airflow_that_was_never_heard_of(seen: Snapshot) -> None:
    seen.airflow.health["triggerer"] = {"status": None, "latest_triggerer_heartbeat": None}
    only(seen, "triggerer-silent", "no sign of life at all")


def test_a_silent_scheduler_explains_tasks_and_runs_that_wait(seen: Snapshot) -> None:
    seen.airflow.health["scheduler"] = {"status": "unhealthy", "latest_scheduler_heartbeat": ago(2000)}
    seen.airflow.dags[0]["next_dagrun_run_after"] = ago(1000)
    seen.airflow.waiting = [task("queued", 1200)]
    only(seen, "scheduler-silent", follows={"dag-late", "task-stuck"})


def test_an_import_error_is_told_with_its_file_and_line(seen: Snapshot) -> None:
    trace = (
        "Traceback (most recent call last):\n"
        '  File "/opt/airflow/venv/lib/python3.13/site-packages/airflow/dag.py", line 300, in load\n'
        '  File "/opt/airflow/dags/stock_etl.py", line 12, in <module>\n'
        "    STOCK = Pipelin(\n"
        "NameError: name 'Pipelin' is not defined\n"
    )
    seen.airflow.import_errors = [{"filename": "stock_etl.py", "stack_trace": trace}]
    only(seen, "import-error", "stock_etl.py, line 12: NameError: name 'Pipelin' is not defined")


def test_an_import_error_without_a_trace(seen: Snapshot) -> None:
    seen.airflow.import_errors = [{"filename": "a.py", "stack_trace": "DagBag import timeout for a.py after 30.0s"}]
    only(seen, "import-error", "a.py: DagBag import timeout")


def test_a_pool_without_slots(seen: Snapshot) -> None:
    seen.airflow.pools[0]["slots"] = 0
    seen.airflow.waiting = [task("scheduled", 1200)]
    only(seen, "pool-without-slots", "default_pool has 0 slots")


def test_a_pool_that_has_been_full_for_long(seen: Snapshot) -> None:
    seen.airflow.pools[0] |= {"open_slots": 0, "occupied_slots": 4}
    seen.airflow.waiting = [task("scheduled", 1200), task("scheduled", 5)]
    only(seen, "pool-full", "default_pool is full (4 of 4 slots)", "1 tasks have waited")


def test_a_pool_that_is_full_for_a_moment_is_at_work(seen: Snapshot) -> None:
    seen.airflow.pools[0] |= {"open_slots": 0, "occupied_slots": 4}
    seen.airflow.waiting = [task("scheduled", 30)]
    assert verdict(seen).causes == []


def test_an_unlimited_pool_is_never_full(seen: Snapshot) -> None:
    seen.airflow.pools[0] |= {"slots": -1, "open_slots": -1}
    seen.airflow.waiting = [task("scheduled", 1200)]
    assert verdict(seen).causes == []


def test_a_task_that_is_queued_for_long(seen: Snapshot) -> None:
    seen.airflow.waiting = [task("queued", 1200), task("queued", 10)]
    only(seen, "task-stuck", "plan of orders_etl", "queued for 20 minutes", "kubernetes_executor=True")


def test_a_dag_that_is_paused(seen: Snapshot) -> None:
    seen.airflow.dags[0]["is_paused"] = True
    seen.airflow.dags[0]["next_dagrun_run_after"] = ago(90_000)
    only(seen, "dag-paused", "orders_etl is paused", "Switch it on")


def test_a_paused_dag_that_moves_no_rows_is_nobodys_business(seen: Snapshot) -> None:
    seen.airflow.dags.append({"dag_id": "tidy", "is_paused": True, "description": None, "tags": []})
    assert verdict(seen).causes == []


def test_a_dag_whose_run_is_late(seen: Snapshot) -> None:
    seen.airflow.dags[0]["next_dagrun_run_after"] = ago(3600)
    only(seen, "dag-late", "was due 60 minutes ago")


def test_a_run_that_failed_is_told_with_its_task_and_its_last_words(seen: Snapshot) -> None:
    words = "etl ended with exit code 65: 3 rows are rejected"
    seen.airflow.failed = {"orders_etl": FailedRun("manual__1", "partition.filter[2]", words)}
    seen.alerts = [alert("DagFailing", dag_id="orders_etl")]
    only(seen, "run-failed", "manual__1", "partition.filter[2]", words, follows={"alert-firing"})


def test_a_run_that_failed_without_a_task(seen: Snapshot) -> None:
    seen.airflow.failed = {"orders_etl": FailedRun("manual__1", "", "")}
    only(seen, "run-failed", "The last run of orders_etl (manual__1) failed.")


def test_the_tables_to_read_are_in_the_descriptions_that_the_factory_writes() -> None:
    tags = [{"name": tag} for tag in orders_dag.tags]
    assert TAG in orders_dag.tags
    assert source_tables([{"description": orders_dag.description, "tags": tags}]) == ["public.orders"]


def test_a_target_that_does_not_answer(seen: Snapshot) -> None:
    down = target("statsd-exporter", "statsd-exporter:9102")
    seen.targets.append(down | {"health": "down", "lastError": "connection refused"})
    seen.alerts = [alert("TargetDown", job="statsd-exporter", instance="statsd-exporter:9102")]
    words = ("statsd-exporter at statsd-exporter:9102", "connection refused")
    only(seen, "target-down", *words, follows={"alert-firing"})


def test_an_alert_that_nothing_else_tells_of(seen: Snapshot) -> None:
    seen.alerts = [alert("SinkStale", pipeline="orders")]
    only(seen, "alert-firing", "alert SinkStale orders", "The summary of SinkStale", "docs/runbooks/SinkStale.md")


def test_an_alert_that_is_only_pending_is_none(seen: Snapshot) -> None:
    seen.alerts = [alert("SinkStale") | {"state": "pending"}]
    assert verdict(seen).causes == []
