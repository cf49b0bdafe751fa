"""Pod specification shared by all steps: security context, resources, staging volume, connections."""

import os
from typing import Any

from kubernetes.client import models as k8s

NAMESPACE = os.environ.get("ETL_NAMESPACE", "etl-poc")
IMAGE = os.environ.get("ETL_IMAGE", "localhost/etl:0.1.0")
CONNECTIONS = "etl-connections"
"""The name of a ConfigMap and of a Secret."""
TRUST = "etl-trust"
"""The optional ConfigMap with the CA files of SOURCE_CA_FILE and SINK_CA_FILE."""
TRUST_PATH = "/etc/etl-trust"
STAGING_CLAIM = os.environ.get("ETL_STAGING_CLAIM", "etl-staging")
"""The volume claim of the staging folder; empty if staging is in S3."""
STAGING_PATH = "/var/lib/etl/staging"
SCRATCH_PATH = "/tmp"  # noqa: S108 - an emptyDir of the pod's own
MEMORY = os.environ.get("ETL_STEP_MEMORY", "1Gi")
"""Memory limit of a step's pod. It bounds the size of a row; rows of 100 MB must pass."""

RESOURCES = k8s.V1ResourceRequirements(
    requests={"cpu": "150m", "memory": "256Mi", "ephemeral-storage": "64Mi"},
    limits={"memory": MEMORY, "ephemeral-storage": "4Gi"},
)
POD_SECURITY = k8s.V1PodSecurityContext(
    run_as_non_root=True,
    run_as_user=10001,
    run_as_group=10001,
    fs_group=10001,
    seccomp_profile=k8s.V1SeccompProfile(type="RuntimeDefault"),
)
CONTAINER_SECURITY = k8s.V1SecurityContext(
    allow_privilege_escalation=False,
    read_only_root_filesystem=True,
    capabilities=k8s.V1Capabilities(drop=["ALL"]),
)
VOLUMES = [
    k8s.V1Volume(name="scratch", empty_dir=k8s.V1EmptyDirVolumeSource(size_limit="4Gi")),
    k8s.V1Volume(name="trust", config_map=k8s.V1ConfigMapVolumeSource(name=TRUST, optional=True)),
]
VOLUME_MOUNTS = [
    k8s.V1VolumeMount(name="scratch", mount_path=SCRATCH_PATH),
    k8s.V1VolumeMount(name="trust", mount_path=TRUST_PATH, read_only=True),
]
if STAGING_CLAIM:
    claim = k8s.V1PersistentVolumeClaimVolumeSource(claim_name=STAGING_CLAIM)
    VOLUMES.append(k8s.V1Volume(name="staging", persistent_volume_claim=claim))
    VOLUME_MOUNTS.append(k8s.V1VolumeMount(name="staging", mount_path=STAGING_PATH))
# URLs and passwords of source, sink and staging: never in the DAG, the pod's arguments or Airflow's database.
ENVIRONMENT_FROM = [
    k8s.V1EnvFromSource(config_map_ref=k8s.V1ConfigMapEnvSource(name=CONNECTIONS)),
    k8s.V1EnvFromSource(secret_ref=k8s.V1SecretEnvSource(name=CONNECTIONS)),
]
TOLERATIONS = [
    k8s.V1Toleration(key=f"node.kubernetes.io/{state}", operator="Exists", effect="NoExecute", toleration_seconds=30)
    for state in ("not-ready", "unreachable")
]
"""A pod stays 30 s on a node that does not answer; Kubernetes's default is five minutes."""
SPREAD = [
    k8s.V1TopologySpreadConstraint(
        max_skew=1,
        topology_key="kubernetes.io/hostname",
        when_unsatisfiable="ScheduleAnyway",
        label_selector=k8s.V1LabelSelector(match_labels={"app.kubernetes.io/name": "etl"}),
    )
]
"""Spreads concurrent steps over the nodes."""
ARGUMENTS: dict[str, Any] = {
    "namespace": NAMESPACE,
    # With the worker's service account. Other settings of the connection kubernetes_default are refused: by editing it
    # a user could run a program here, or create the pod in another cluster.
    "in_cluster": True,
    "image": IMAGE,
    "image_pull_policy": "IfNotPresent",
    "env_from": ENVIRONMENT_FROM,
    "container_resources": RESOURCES,
    "security_context": POD_SECURITY,
    "container_security_context": CONTAINER_SECURITY,
    "volumes": VOLUMES,
    "volume_mounts": VOLUME_MOUNTS,
    "automount_service_account_token": False,
    "tolerations": TOLERATIONS,
    # The last lines of the log become the termination message, and so the task's error.
    "termination_message_policy": "FallbackToLogsOnError",
    "startup_timeout_seconds": 300,
    "startup_check_interval_seconds": 1,
    # The operator has a follower of the log instead.
    "get_logs": False,
    "termination_grace_period": 30,
}
"""Arguments of the operator for the pods of all steps."""


def literal(text: str) -> str:
    """Text for arguments and variables, escaped so that Kubernetes does not expand it.

    Without this, `$(SINK_PASSWORD)` in a key or a filter would become the password and `$$` one dollar: a source could
    read Secrets, and a step would not do what was planned.
    """
    return text.replace("$", "$$")
