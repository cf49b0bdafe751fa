"""Pods in which a person's command does something as a step would: with its image, settings, passwords and volumes.

They are made like those of the database exporter, which has the same image and settings, and given the passwords of a
step in the place of its own.
"""

import copy
from collections.abc import Sequence

from ops.cluster.kubectl import Object

STAGING_PATH = "/var/lib/etl/staging"
_OF_EXPORTER = ("METADATA_", "SINK_EXPORTER_")
_PASSWORDS = {"secretRef": {"name": "etl-connections"}}


def step_spec(model: Object, arguments: Sequence[str], claim: str = "") -> Object:
    """The specification of such a pod, which runs these arguments once; `claim` is given to it as staging."""
    spec: Object = copy.deepcopy(model["spec"]["template"]["spec"])
    container = spec["containers"][0]
    for key in ("startupProbe", "readinessProbe", "livenessProbe", "ports"):
        container.pop(key, None)
    # Kubernetes makes one dollar of two, and expands what is in brackets behind one.
    container["args"] = [word.replace("$", "$$") for word in arguments]
    # The database of Airflow, and the exporter's own login, are nothing to a step.
    container["env"] = [one for one in container.get("env", []) if not one["name"].startswith(_OF_EXPORTER)]
    container["envFrom"] = [*(one for one in container["envFrom"] if one != _PASSWORDS), _PASSWORDS]
    if claim:
        spec["securityContext"] = {**spec["securityContext"], "fsGroup": spec["securityContext"]["runAsGroup"]}
        spec["volumes"].append({"name": "staging", "persistentVolumeClaim": {"claimName": claim}})
        container["volumeMounts"].append({"name": "staging", "mountPath": STAGING_PATH})
    return spec | {"restartPolicy": "Never"}
