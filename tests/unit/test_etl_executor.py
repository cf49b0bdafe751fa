"""The scheduler gives up the pods of a node that does not answer, and no others."""

from datetime import UTC, datetime, timedelta
from unittest import mock

import etl_airflow.executor
import pytest
from airflow.providers.cncf.kubernetes.executors import kubernetes_executor
from etl_airflow.executor import NODE_LOST, PATIENCE, KubernetesExecutor, give_up_lost_pods
from etl_airflow.pods import completion
from kubernetes.client import models as k8s
from kubernetes.client.exceptions import ApiException

LONG_AGO = datetime.now(UTC) - PATIENCE - timedelta(seconds=5)


def pod(name: str, gone_at: datetime | None, phase: str = "Running", reason: str | None = None) -> k8s.V1Pod:
    """A pod that was deleted and was to be gone at a time, if it was."""
    return k8s.V1Pod(
        metadata=k8s.V1ObjectMeta(name=name, deletion_timestamp=gone_at),
        spec=k8s.V1PodSpec(node_name="second", containers=[]),
        status=k8s.V1PodStatus(phase=phase, reason=reason),
    )


def client_with(*pods: k8s.V1Pod) -> mock.Mock:
    client = mock.Mock()
    client.list_namespaced_pod.return_value = k8s.V1PodList(items=list(pods))
    return client


@pytest.mark.parametrize("phase", ["Running", "Pending"])
def test_a_pod_that_was_to_be_gone_long_ago_has_failed(phase: str) -> None:
    client = client_with(pod("lost", LONG_AGO, phase))
    assert give_up_lost_pods(client, "etl-poc") == ["lost"]
    name, namespace, body = client.patch_namespaced_pod_status.call_args.args
    assert (name, namespace) == ("lost", "etl-poc")
    assert (body["status"]["phase"], body["status"]["reason"]) == ("Failed", NODE_LOST)
    assert "second" in body["status"]["message"]


def test_one_that_was_given_up_is_removed_when_everybody_has_seen_it() -> None:
    client = client_with(pod("lost", LONG_AGO, "Failed", NODE_LOST))
    assert give_up_lost_pods(client, "etl-poc") == []
    client.patch_namespaced_pod_status.assert_not_called()
    # Without this Kubernetes goes on waiting for the node.
    assert client.delete_namespaced_pod.call_args.kwargs["grace_period_seconds"] == 0


def test_a_pod_that_runs_or_is_ending_is_left_alone() -> None:
    client = client_with(pod("runs", None), pod("is ending", datetime.now(UTC)), pod("ended", None, "Failed"))
    assert give_up_lost_pods(client, "etl-poc") == []
    client.patch_namespaced_pod_status.assert_not_called()
    client.delete_namespaced_pod.assert_not_called()


def test_the_next_is_given_up_where_one_is_gone_meanwhile() -> None:
    client = client_with(pod("gone", LONG_AGO), pod("lost", LONG_AGO))
    client.patch_namespaced_pod_status.side_effect = [ApiException(status=404), None]
    assert give_up_lost_pods(client, "etl-poc") == ["lost"]


@pytest.fixture
def executor(monkeypatch: pytest.MonkeyPatch) -> mock.Mock:
    """Airflow's executor, of which only its own work is noted."""
    airflows = mock.Mock()
    monkeypatch.setattr(kubernetes_executor.KubernetesExecutor, "sync", airflows.sync)
    return airflows


def test_the_executor_does_its_work_also_where_pods_cannot_be_looked_for(executor: mock.Mock) -> None:
    client = mock.Mock()
    client.list_namespaced_pod.side_effect = ApiException(status=500)
    ours = KubernetesExecutor.__new__(KubernetesExecutor)
    ours.kube_client, ours.kube_config = client, mock.Mock(kube_namespace="etl-poc")
    for _ in range(2):
        ours.sync()
    assert executor.sync.call_count == 2
    client.list_namespaced_pod.assert_called_once()  # it does not ask at every turn of the scheduler


def test_operator_and_scheduler_mean_the_same_by_a_lost_node() -> None:
    assert etl_airflow.executor.NODE_LOST == completion.NODE_LOST


def test_metrics_name_the_executor_as_before() -> None:
    assert KubernetesExecutor.__name__ == kubernetes_executor.KubernetesExecutor.__name__
