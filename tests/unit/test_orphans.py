"""Leftovers of ended runs are deleted, and nothing that is still needed."""

from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import pytest
from airflow.providers.cncf.kubernetes.pod_generator import make_safe_label_value
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time.comms import ErrorResponse
from etl_airflow.pods.orphans import delete_orphans
from kubernetes.client import models as k8s
from kubernetes.client.exceptions import ApiException

ENDED, GOING_ON, OURS = "by hand $(X) $$", "manual__2026-01-02T00:00:00+00:00", "scheduled__now"


def step(run_id: str, phase: str = "Running", **metadata: Any) -> k8s.V1Pod:
    """The pod of a step, with the labels of KubernetesPodOperator and the annotations of EtlPodOperator."""
    labels = {"kubernetes_pod_operator": "True", "run_id": make_safe_label_value(run_id)}
    metadata = {"annotations": {"run_id": run_id}} | metadata
    return k8s.V1Pod(
        metadata=k8s.V1ObjectMeta(name=f"step of {run_id}", labels=labels, **metadata),
        spec=k8s.V1PodSpec(containers=[k8s.V1Container(name="base")]),
        status=k8s.V1PodStatus(phase=phase),
    )


def worker(run_id: str, phase: str) -> k8s.V1Pod:
    """The pod of a worker, as the KubernetesExecutor labels it."""
    labels = {"kubernetes_executor": "True", "run_id": make_safe_label_value(run_id)}
    return k8s.V1Pod(
        metadata=k8s.V1ObjectMeta(name=f"worker of {run_id}", labels=labels, annotations={"run_id": run_id}),
        spec=k8s.V1PodSpec(containers=[k8s.V1Container(name="base", args=["python"])]),
        status=k8s.V1PodStatus(phase=phase),
    )


def deleted(*pods: k8s.V1Pod) -> list[str]:
    """The names of those that are deleted, where the cluster has these."""
    client = mock.Mock()
    client.list_namespaced_pod.return_value = k8s.V1PodList(items=list(pods))
    names = delete_orphans(client, "orders_etl", OURS, {ENDED: "failed", GOING_ON: "running"}.__getitem__)
    assert names == [call.args[0] for call in client.delete_namespaced_pod.call_args_list]
    return names


@pytest.mark.parametrize("phase", ["Pending", "Running", "Succeeded", "Failed"])
def test_the_step_of_an_ended_run_is_deleted(phase: str) -> None:
    assert deleted(step(ENDED, phase), step(GOING_ON, phase)) == [f"step of {ENDED}"]


def test_of_an_ended_run_only_workers_that_have_ended_are_deleted() -> None:
    assert deleted(worker(ENDED, "Running")) == []
    assert deleted(worker(ENDED, "Failed"), worker(GOING_ON, "Failed")) == [f"worker of {ENDED}"]


def test_the_step_of_a_run_that_was_deleted_is_deleted() -> None:
    """As the supervisor reports what the API server does not have."""
    gone = ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail={"status_code": 404, "message": "Not Found"})
    client = mock.Mock()
    client.list_namespaced_pod.return_value = k8s.V1PodList(items=[step("deleted"), step(ENDED)])
    states = mock.Mock(side_effect=[AirflowRuntimeError(gone), "failed"])
    assert delete_orphans(client, "orders_etl", OURS, states) == ["step of deleted", f"step of {ENDED}"]


@pytest.mark.parametrize(("hours", "is_deleted"), [(12, False), (25, True)])
def test_a_step_of_the_version_before_annotations_is_deleted_after_a_day(hours: int, is_deleted: bool) -> None:
    old = step(ENDED, annotations=None, creation_timestamp=datetime.now(UTC) - timedelta(hours=hours))
    assert deleted(old) == [f"step of {ENDED}"] * is_deleted


def test_what_ends_already_is_left_alone() -> None:
    assert deleted(step(ENDED, deletion_timestamp=datetime.now(UTC))) == []


def test_this_run_and_other_dags_are_not_even_looked_at() -> None:
    client = mock.Mock()
    client.list_namespaced_pod.return_value = k8s.V1PodList(items=[])
    delete_orphans(client, "orders_etl", OURS, mock.Mock())
    assert client.list_namespaced_pod.call_args.kwargs == {"label_selector": f"dag_id=orders_etl,run_id!={OURS}"}


@pytest.mark.parametrize("at", ["list_namespaced_pod", "delete_namespaced_pod"])
@pytest.mark.parametrize("status", [404, 500])
def test_a_cluster_that_does_not_answer_keeps_no_run_from_beginning(at: str, status: int) -> None:
    client = mock.Mock()
    client.list_namespaced_pod.return_value = k8s.V1PodList(items=[step(ENDED)])
    getattr(client, at).side_effect = ApiException(status=status)
    delete_orphans(client, "orders_etl", OURS, lambda _: "success")
