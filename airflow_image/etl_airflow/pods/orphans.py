"""Orphaned pods: pods of runs that have ended.

A pod is deleted by the process that created it, and is orphaned if that process dies first: a worker orphans its step's
pod, a scheduler the workers that fail while there is no scheduler. Airflow adopts only pods of tasks that still run.
"""

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
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
UNKNOWN_RUN_AGE = timedelta(days=1)
"""Age from which a pod without a run_id is orphaned: a run ends after 12 hours (dagrun_timeout). Versions before these
annotations made such pods; during an upgrade the workers of those versions still follow and delete them."""
log = logging.getLogger(__name__)


def delete_orphans(client: CoreV1Api, dag_id: str, run_id: str, state_of: Callable[[str], str]) -> list[str]:
    """Delete the pods of other runs of a DAG that have ended; returns their names.

    A worker that still runs is kept: it sends its log. Errors of the cluster or of Airflow are logged, not raised: they
    do not fail the run.
    """
    deleted = []
    labels = f"dag_id={make_safe_label_value(dag_id)},run_id!={make_safe_label_value(run_id)}"
    try:
        for found in client.list_namespaced_pod(pod.NAMESPACE, label_selector=labels).items:
            if _is_unattended(found) and _is_of_ended_run(found, state_of):
                _delete(client, found.metadata.name)
                deleted.append(found.metadata.name)
    except (ApiException, HTTPError, AirflowRuntimeError) as error:
        log.warning("The pods of ended runs could not be deleted: %s", error)
    if deleted:
        log.info("Deleted the pods of ended runs: %s", ", ".join(deleted))
    return deleted


def _is_unattended(found: k8s.V1Pod) -> bool:
    """Whether the pod is orphaned once its run has ended."""
    is_worker = found.metadata.labels.get("kubernetes_executor") == "True"
    is_done = not is_worker or found.status.phase in ("Succeeded", "Failed")
    return is_done and found.metadata.deletion_timestamp is None


def _is_of_ended_run(found: k8s.V1Pod, state_of: Callable[[str], str]) -> bool:
    """Whether the pod's run has ended or was deleted. Raises AirflowRuntimeError."""
    run_id = (found.metadata.annotations or {}).get("run_id")
    if run_id is None:
        return bool(datetime.now(UTC) - found.metadata.creation_timestamp > UNKNOWN_RUN_AGE)
    try:
        return state_of(run_id) in ENDED
    except AirflowRuntimeError as error:
        if (error.error.detail or {}).get("status_code") != HTTPStatus.NOT_FOUND:
            raise
        return True


def _delete(client: CoreV1Api, name: str) -> None:
    try:
        client.delete_namespaced_pod(name, pod.NAMESPACE)
    except ApiException as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
