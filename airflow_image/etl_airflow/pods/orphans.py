"""Pods that nobody looks after any more: those of runs that have ended.

Whoever makes a pod deletes it. Who dies before leaves it: a worker its step's pod, a scheduler the worker that failed
while there was no scheduler. Airflow takes over what belongs to a task that goes on, and nothing else.
"""

import logging
from collections.abc import Callable
from http import HTTPStatus

from airflow.providers.cncf.kubernetes.pod_generator import make_safe_label_value
from airflow.sdk.exceptions import AirflowRuntimeError
from kubernetes.client import CoreV1Api
from kubernetes.client import models as k8s
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from etl_airflow.pods import spec as pod

ENDED = ("success", "failed")
"""States of a run."""
log = logging.getLogger(__name__)


def delete_leftovers(client: CoreV1Api, dag_id: str, run_id: str, state_of: Callable[[str], str]) -> list[str]:
    """Delete the pods of other runs of a DAG that have ended; returns their names.

    A worker that still runs is left alone: it sends its log. Never raises for what cluster or Airflow answer: a run is
    worth more than order.
    """
    deleted = []
    labels = f"dag_id={make_safe_label_value(dag_id)},run_id!={make_safe_label_value(run_id)}"
    try:
        for found in client.list_namespaced_pod(pod.NAMESPACE, label_selector=labels).items:
            if _is_left(found) and _has_ended(_run_of(found), state_of):
                _delete(client, found.metadata.name)
                deleted.append(found.metadata.name)
    except (ApiException, HTTPError, AirflowRuntimeError) as error:
        log.warning("What ended runs have left could not be deleted: %s", error)
    if deleted:
        log.info("Deleted what ended runs have left: %s", ", ".join(deleted))
    return deleted


def _is_left(found: k8s.V1Pod) -> bool:
    """Whether nobody is at work in a pod, or ends it, if its run has ended."""
    is_worker = found.metadata.labels.get("kubernetes_executor") == "True"
    is_done = not is_worker or found.status.phase in ("Succeeded", "Failed")
    return is_done and found.metadata.deletion_timestamp is None


def _has_ended(run_id: str, state_of: Callable[[str], str]) -> bool:
    """Whether nobody looks after a run any more, also one that was deleted. Raises AirflowRuntimeError."""
    try:
        return state_of(run_id) in ENDED
    except AirflowRuntimeError as error:
        if (error.error.detail or {}).get("status_code") != HTTPStatus.NOT_FOUND:
            raise
        return True


def _run_of(found: k8s.V1Pod) -> str:
    """The run: the label has only a digest of it. A worker has it as an annotation, a step among its arguments."""
    annotated = (found.metadata.annotations or {}).get("run_id")
    words = found.spec.containers[0].args or []
    return str(annotated or pod.as_the_container_got_it(words[words.index("--run-id") + 1]))


def _delete(client: CoreV1Api, name: str) -> None:
    try:
        client.delete_namespaced_pod(name, pod.NAMESPACE)
    except ApiException as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
