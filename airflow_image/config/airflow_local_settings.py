"""Airflow's local settings: a hook that changes a worker's pod before it is created, and faster parsing of DAG files.

Every process of Airflow imports this module, so it imports others only when needed.
"""

import sys
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kubernetes.client import models as k8s

WORKLOAD = "ETL_WORKLOAD"
_OPTION = "--json-string"


def pod_mutation_hook(pod: "k8s.V1Pod") -> None:
    """Move a worker's task, and with it its token, from the command line into the environment.

    Any user of a node can read command lines (`ps`), and the token authenticates as the task.
    """
    from kubernetes.client import models as k8s

    for container in pod.spec.containers:
        if _OPTION not in (container.args or []):
            continue
        task = container.args[container.args.index(_OPTION) + 1]
        # Kubernetes expands $(NAME) in a value, and $$ to one dollar.
        variable = k8s.V1EnvVar(name=WORKLOAD, value=task.replace("$", "$$"))
        container.env = [*(container.env or []), variable]
        container.args = ["python", "-m", "etl_airflow.worker_task"]


if sys.argv[1:2] == ["dag-processor"]:
    # It forks a process for each DAG file, and Airflow imports only its own modules before. With ours imported here a
    # file takes 0.14 s of CPU time instead of 0.33 s. An error appears where a file imports them, as an import error.
    with suppress(Exception):
        import_module("etl_airflow.dag.factory")
