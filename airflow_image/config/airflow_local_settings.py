"""Airflow's hooks for an installation: here, the one that changes a worker's pod before it is created.

Every process of Airflow imports this, so it imports nothing before it is needed.
"""

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
        # Kubernetes takes $(NAME) in a value for another variable, and $$ for one dollar.
        variable = k8s.V1EnvVar(name=WORKLOAD, value=task.replace("$", "$$"))
        container.env = [*(container.env or []), variable]
        container.args = ["python", "-m", "etl_airflow.worker_task"]
