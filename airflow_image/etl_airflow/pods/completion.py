"""The end of a step's pod, known when its container has ended: log and pod are a second later.

Measured on Kubernetes 1.36, after the end of the process: 0.3 s until the container's state told of it, 1.0 s until the
stream of its log ended, 1.4 s until the phase of the pod changed.
"""

from threading import Thread
from typing import Any

from airflow.providers.cncf.kubernetes.utils.container import container_is_completed, container_is_succeeded
from airflow.providers.cncf.kubernetes.utils.pod_manager import PodManager
from kubernetes.client import CoreV1Api
from kubernetes.client import models as k8s
from kubernetes.client.exceptions import ApiException
from kubernetes.watch import Watch
from urllib3.exceptions import HTTPError

NODE_LOST = "NodeLost"
"""Why a pod failed that the scheduler gave up (executor.py): nobody can read its log any more."""
_ENDED = ("Succeeded", "Failed")


class StepPodManager(PodManager):
    """Takes the end of a pod from its container's. A step's pod has one container, which is not started again."""

    def await_pod_completion(
        self, pod: k8s.V1Pod, istio_enabled: bool = False, container_name: str = "base", do_xcom_push: bool = False
    ) -> k8s.V1Pod:
        """The pod as it ended; where its container did not end by itself, as the provider waits for it."""
        remote_pod = self.read_pod(pod)
        if not container_is_completed(remote_pod, container_name):
            return super().await_pod_completion(pod, istio_enabled, container_name, do_xcom_push)
        remote_pod.status.phase = "Succeeded" if container_is_succeeded(remote_pod, container_name) else "Failed"
        return remote_pod


def has_ended(pod: k8s.V1Pod, container: str) -> bool:
    """Whether a container runs no more. Of a pod that failed as a whole nobody may tell: it was evicted, or is lost."""
    return bool(container_is_completed(pod, container) or pod.status.phase in _ENDED)


def end_stream_with_container(client: CoreV1Api, pod: k8s.V1Pod, container: str, stream: Any) -> None:
    """End a stream of the container's log, from a thread of its own, as soon as the container has ended.

    Best effort: where the API cannot be watched, the kubelet ends the stream.
    """

    def watch() -> None:
        name, namespace = pod.metadata.name, pod.metadata.namespace
        try:
            while not stream.closed:
                for event in Watch().stream(
                    client.list_namespaced_pod, namespace, field_selector=f"metadata.name={name}", timeout_seconds=60
                ):
                    if stream.closed:
                        return
                    if has_ended(event["object"], container):
                        stream.shutdown()
                        return
        except (ApiException, HTTPError, OSError, RuntimeError, ValueError):  # the last two: it has ended meanwhile
            return

    Thread(target=watch, name="end-of-container", daemon=True).start()
