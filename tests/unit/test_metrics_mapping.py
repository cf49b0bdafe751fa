"""The StatsD exporter's mapping beyond a run on one machine: Kubernetes, several executors, time."""

import pytest

from tests.harness.metrics.capture import MAPPING
from tests.harness.metrics.documented import documented_metrics
from tests.harness.metrics.statsd import Line, Mapping

DOCUMENTED = {metric.name: metric for metric in documented_metrics()}
MADE = Mapping(MAPPING)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("airflow.kubernetes_executor.pod_creation:42|ms", "airflow_kubernetes_executor_pod_creation_seconds"),
        ("airflow.kubernetes_executor.pod_deletion:42|ms", "airflow_kubernetes_executor_pod_deletion_seconds"),
        (
            "airflow.kubernetes_executor.pod_creation_batch_duration:42|ms",
            "airflow_kubernetes_executor_pod_creation_batch_duration_seconds",
        ),
        (
            "airflow.kubernetes_executor.adopt_task_instances.duration:42|ms",
            "airflow_kubernetes_executor_adopt_task_instances_duration_seconds",
        ),
        (
            "airflow.kubernetes_executor.pod_creation_status,status=403:1|c",
            "airflow_kubernetes_executor_pod_creation_status",
        ),
        (
            "airflow.kubernetes_executor.pod_creation_batch_size:3|g",
            "airflow_kubernetes_executor_pod_creation_batch_size",
        ),
        (
            "airflow.executor.open_slots.KubernetesExecutor,status=open,executor_class_name=KubernetesExecutor:4|g",
            "airflow_executor_open_slots",
        ),
        (
            "airflow.task_instances_without_heartbeats_killed,dag_id=a,task_id=b:1|c",
            "airflow_task_instances_without_heartbeats_killed",
        ),
    ],
)
def test_it_is_mapped_to_what_is_documented(text: str, name: str) -> None:
    series = MADE.series(Line.parse(text))
    assert series is not None
    assert series.name == name
    assert (series.kind, series.labels) == (DOCUMENTED[name].kind, DOCUMENTED[name].labels)


def test_the_name_that_airflow_does_not_send_yet_will_not_be_there_twice() -> None:
    assert MADE.series(Line.parse("airflow.task.queued_duration,dag_id=a,task_id=b,queue=default:42|ms")) is None


@pytest.mark.parametrize(
    "text",
    [
        "airflow.ti.running,dag_id=a,task_id=b,queue=default:1|g",
        "airflow.pool.starving_tasks,pool_name=a:1|g",
        "airflow.executor.open_slots,status=open,executor_class_name=LocalExecutor:4|g",
        "airflow.scheduler.tasks.starving:1|g",
        "airflow.dag_processing.last_run.seconds_ago,bundle_name=a,file_name=b,file_path=b.py:1|g",
        "airflow.triggers.running,hostname=10.42.0.9:1|g",
        "airflow.triggerer.capacity_left,hostname=10.42.0.9:1|g",
        "airflow.etl.lag,pipeline=a:1|g",
        "airflow.etl.log_retained,pipeline=a:1|g",
        "airflow.etl.log_retained_share,pipeline=a:1|g",
        "airflow.etl.log_slot_lost,pipeline=a:1|g",
        "airflow.etl.reconciliation_difference,pipeline=a:1|g",
        "airflow.etl.tolerated_rejects,pipeline=a:1|g",
        "airflow.etl.unreachable_versions,pipeline=a:1|g",
    ],
)
def test_a_gauge_of_something_that_is_gone_goes_away(text: str) -> None:
    assert MADE.ttl(Line.parse(text))


@pytest.mark.parametrize("text", ["airflow.ti.start,dag_id=a,task_id=b:1|c", "etl.rows,pipeline=a:1|c"])
def test_a_counter_stays(text: str) -> None:
    """It would begin at zero again."""
    assert not MADE.ttl(Line.parse(text))
