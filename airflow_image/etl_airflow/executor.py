"""The KubernetesExecutor, which also gives up the pods of a node that is lost.

When a node does not answer any more, Kubernetes deletes its pods and then waits for the node to confirm that, for ever.
Until then such a pod counts as one that runs, or is about to start: its task would wait for missed heartbeats, for the
longest time in the queue, or, where it is the pod of a step, for its execution_timeout. Here it is marked as failed, as
Kubernetes does by itself once the node is removed from the cluster; the rest goes as with every pod that failed.
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
"""So long after its time to end a pod may still be there: the kubelet has to confirm its end, and clocks differ."""
_LOOK_SECONDS = 15.0
_TIMEOUT_SECONDS = 30
_OURS = "app.kubernetes.io/name in (airflow-worker,etl)"


class KubernetesExecutor(kubernetes_executor.KubernetesExecutor):
    """Airflow's own. The name is the same, and so are the metrics that have it in them."""

    _looked = float("-inf")

    def sync(self) -> None:
        """What Airflow's does; every quarter of a minute it looks for lost pods before."""
        if time.monotonic() - self._looked >= _LOOK_SECONDS:
            self._looked = time.monotonic()
            try:
                for name in give_up_lost_pods(self.kube_client, str(self.kube_config.kube_namespace)):
                    self.log.warning("Pod %s is given up: its node does not answer.", name)
            except (ApiException, HTTPError) as error:
                self.log.warning("Pods of lost nodes could not be looked for: %s", error)
        super().sync()


def give_up_lost_pods(client: CoreV1Api, namespace: str) -> list[str]:
    """Mark the pods of workers and steps as failed that were to be gone long ago; returns their names.

    Those that were marked the last time, when everybody has seen it, are removed.
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
    """Whether a pod was deleted, its time to end is over, and its node has not told of its end."""
    gone_at = pod.metadata.deletion_timestamp  # with the time that it was given to end
    return gone_at is not None and bool(datetime.now(UTC) > gone_at + PATIENCE)


@contextmanager
def _gone_is_fine() -> Iterator[None]:
    try:
        yield
    except ApiException as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
