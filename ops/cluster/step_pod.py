"""Pods of operator commands, with the image, settings, passwords and volumes of a step.

They are copied from the database exporter, which has the same image and settings, with the passwords of a step instead
of its own.
"""

import copy
from collections.abc import Sequence

from ops.cluster.console import DeployError
from ops.cluster.kubectl import NAMESPACE, Kubectl, Object
from ops.cluster.names import AIRFLOW_SETTINGS, MODEL, PART_OF
from ops.cluster.objects import new

STAGING_PATH = "/var/lib/etl/staging"
_OF_EXPORTER = ("METADATA_", "SINK_EXPORTER_")
_PASSWORDS = {"secretRef": {"name": "etl-connections"}}


def step_spec(model: Object, arguments: Sequence[str], claim: str = "") -> Object:
    """The specification of a pod that runs these arguments once, with the volume of `claim` as staging."""
    spec: Object = copy.deepcopy(model["spec"]["template"]["spec"])
    container = spec["containers"][0]
    for key in ("startupProbe", "readinessProbe", "livenessProbe", "ports"):
        container.pop(key, None)
    # Kubernetes expands $(NAME) and replaces $$ by $.
    container["args"] = [word.replace("$", "$$") for word in arguments]
    # A step has neither the metadata database nor the exporter's login.
    container["env"] = [one for one in container.get("env", []) if not one["name"].startswith(_OF_EXPORTER)]
    container["envFrom"] = [*(one for one in container["envFrom"] if one != _PASSWORDS), _PASSWORDS]
    if claim:
        spec["securityContext"] = {**spec["securityContext"], "fsGroup": spec["securityContext"]["runAsGroup"]}
        spec["volumes"].append({"name": "staging", "persistentVolumeClaim": {"claimName": claim}})
        container["volumeMounts"].append({"name": "staging", "mountPath": STAGING_PATH})
    return spec | {"restartPolicy": "Never"}


def step_job(kubectl: Kubectl, name: str, component: str, arguments: Sequence[str], seconds: float) -> Object:
    """A Job that runs such a pod once. Raises DeployError if there is no deployment."""
    model = kubectl.get("deployment", MODEL, "--namespace", NAMESPACE)
    settings = (kubectl.get("configmap", AIRFLOW_SETTINGS, "--namespace", NAMESPACE) or {}).get("data", {})
    if model is None:
        raise DeployError(f"There is no Deployment {MODEL}: run scripts/apply-all.sh first.")
    spec = step_spec(model, arguments, settings.get("ETL_STAGING_CLAIM", ""))
    spec["containers"][0]["resources"] = {"requests": {"cpu": "50m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}}
    labels = {"app.kubernetes.io/name": "etl", "app.kubernetes.io/component": component}
    specification = {
        "backoffLimit": 0,
        "activeDeadlineSeconds": int(seconds),
        "ttlSecondsAfterFinished": 3600,
        "template": {"metadata": {"labels": labels}, "spec": spec},
    }
    return new("Job", name, metadata={"labels": {PART_OF: "airflow"}}, spec=specification)
