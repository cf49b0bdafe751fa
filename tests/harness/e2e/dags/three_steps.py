"""Three steps of one second each and no rows, to measure a run's overhead. For tests/harness/e2e/three_steps.py.

`defaults` is what one gets from Airflow as it comes: the stock operator, and workers without our settings.
"""

from itertools import pairwise
from typing import Any

import pendulum
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import DAG
from etl_airflow.pods import spec as pod
from etl_airflow.pods.operator import EtlPodOperator
from kubernetes.client import models as k8s

START = pendulum.datetime(2026, 1, 1, tz="UTC")
STEPS = ("one", "two", "three")
ARGUMENTS = {"retries": 0}
# Required of every pod by the namespace, without effect on times.
RESTRICTED = {
    "namespace": pod.NAMESPACE,
    "image": pod.IMAGE,
    "container_resources": pod.RESOURCES,
    "security_context": pod.POD_SECURITY,
    "container_security_context": pod.CONTAINER_SECURITY,
    "automount_service_account_token": False,
}
# The log of a task in a file, as by default.
PLAIN_WORKER = k8s.V1Pod(
    spec=k8s.V1PodSpec(
        containers=[
            k8s.V1Container(
                name="base",
                env=[
                    k8s.V1EnvVar(name="AIRFLOW__LOGGING__LOGGING_CONFIG_CLASS", value=""),
                    k8s.V1EnvVar(name="PYTHONPATH", value=""),
                ],
            )
        ]
    )
)


def in_series(dag: DAG, tasks: list[Any]) -> DAG:
    """One after the other."""
    for earlier, later in pairwise(tasks):
        earlier >> later
    return dag


def sleeping(seconds: int) -> list[str]:
    """The arguments of a step that only takes time."""
    return ["sh", "-c", f"sleep {seconds}"]


def step(name: str, seconds: int) -> EtlPodOperator:
    """The product's operator of a step that only takes time."""
    return EtlPodOperator(
        task_id=name, name=name, arguments=sleeping(seconds), partition='{"id": "all"}', **pod.ARGUMENTS
    )


with DAG("three_steps_defaults", schedule=None, start_date=START, default_args=ARGUMENTS) as defaults:
    in_series(
        defaults,
        [
            KubernetesPodOperator(
                task_id=name,
                name=name,
                arguments=sleeping(1),
                executor_config={"pod_override": PLAIN_WORKER},
                **RESTRICTED,
            )
            for name in STEPS
        ],
    )

with DAG("three_steps_separate", schedule=None, start_date=START, default_args=ARGUMENTS) as separate:
    in_series(separate, [step(name, 1) for name in STEPS])

with DAG("three_steps_fused", schedule=None, start_date=START, default_args=ARGUMENTS) as fused:
    step("all", 3)
