"""KubernetesExecutor that also fails the pods of a lost node.

When a node does not answer any more, Kubernetes deletes its pods and waits without limit for the node to confirm. Until
then such a pod counts as running or pending, and its task would wait for a heartbeat timeout, for task_queued_timeout
or, for a step's pod, for its execution_timeout. Here the pod is marked as failed, as Kubernetes does once the node is
removed from the cluster; from there on it is handled like any failed pod.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http import HTTPStatus

from airflow.providers.cncf.kubernetes.executors import kubernetes_executor
from kubernetes.client import CoreV1Api
from kubernetes.client import models as k8s
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

NODE_LOST = "NodeLost"
PATIENCE = timedelta(seconds=30)
"""Time that a pod may exist beyond its grace period: the kubelet has to confirm its end, and clocks differ."""
_LOOK_SECONDS = 15.0
_TIMEOUT_SECONDS = 30
_OURS = "app.kubernetes.io/name in (airflow-worker,etl)"


class KubernetesExecutor(kubernetes_executor.KubernetesExecutor):
    """Airflow's KubernetesExecutor, under the same name, which is part of metric names."""

    _looked = float("-inf")

    def sync(self) -> None:
        """Check for pods of lost nodes every 15 s, then do as Airflow's executor."""
        if time.monotonic() - self._looked >= _LOOK_SECONDS:
            self._looked = time.monotonic()
            try:
                for name in give_up_lost_pods(self.kube_client, str(self.kube_config.kube_namespace)):
                    self.log.warning("Pod %s is marked as failed: its node does not answer.", name)
            except (ApiException, HTTPError) as error:
                self.log.warning("The check for pods of lost nodes failed: %s", error)
        super().sync()


def give_up_lost_pods(client: CoreV1Api, namespace: str) -> list[str]:
    """Mark workers' and steps' pods as failed whose deletion is overdue; returns their names.

    Pods that were marked the last time are removed: their watchers have seen the failure.
    """
    given_up = []
    pods = client.list_namespaced_pod(namespace, label_selector=_OURS, _request_timeout=_TIMEOUT_SECONDS)
    for pod in filter(is_overdue, pods.items):
        name, within = pod.metadata.name, {"_request_timeout": _TIMEOUT_SECONDS}
        with _gone_is_fine():
            if pod.status.reason == NODE_LOST:
                client.delete_namespaced_pod(name, namespace, grace_period_seconds=0, **within)
            else:
                message = f"Node {pod.spec.node_name} does not answer, and has not confirmed the end of the pod."
                status = {"phase": "Failed", "reason": NODE_LOST, "message": message}
                client.patch_namespaced_pod_status(name, namespace, {"status": status}, **within)
                given_up.append(name)
    return given_up


def is_overdue(pod: k8s.V1Pod) -> bool:
    """Whether a deleted pod's grace period is over and its node has not confirmed its end."""
    gone_at = pod.metadata.deletion_timestamp  # includes the grace period
    return gone_at is not None and bool(datetime.now(UTC) > gone_at + PATIENCE)


@contextmanager
def _gone_is_fine() -> Iterator[None]:
    try:
        yield
    except ApiException as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
