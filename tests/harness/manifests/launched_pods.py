"""Attacks with pods by a compromised worker or scheduler, each as a change of a pod that it may create."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import pytest

from tests.harness.manifests.kustomizations import DEFAULT
from tests.harness.manifests.pods import step, worker
from tests.harness.manifests.rendering import NAMESPACE, Object, rendering

NAME = "app.kubernetes.io/name"
WORKER, SCHEDULER = "etl-poc:airflow-worker", "etl-poc:airflow-scheduler"
SECRETS = ("airflow-keys", "airflow-admin", "airflow-metadata", "mssql", "mssql-tls", "airflow-tls")


@dataclass(frozen=True)
class Attack:
    """A forbidden pod, as a change of an allowed one; and a word of the reason that the API server gives."""

    change: Callable[[Object], Any]
    told: str

    def of(self, sound: Object) -> Object:
        """The pod."""
        made = deepcopy(sound)
        self.change(made)
        return made


def named(content: Object, name: str) -> Object:
    """A pod for the API server. Who created a claim, or the node, does not matter here."""
    kept = {field: content["metadata"].get(field) for field in ("labels", "annotations")}
    metadata = {**kept, "name": name, "namespace": NAMESPACE}
    return deepcopy({"apiVersion": "v1", "kind": "Pod", **content, "metadata": metadata})


def sound(account: str, name: str = "made") -> Object:
    """The pod that an account may create in the default overlay."""
    return named((step if account == WORKER else worker)(rendering(DEFAULT)).content, name)


def container(pod: Object) -> Object:
    """Its first one."""
    found: Object = pod["spec"]["containers"][0]
    return found


def _volume(**source: Any) -> Callable[[Object], Any]:
    return lambda pod: pod["spec"]["volumes"].append({"name": "taken", **source})


def _from_secret(name: str) -> Callable[[Object], Any]:
    return lambda pod: container(pod).setdefault("envFrom", []).append({"secretRef": {"name": name}})


def _spec(**fields: Any) -> Callable[[Object], Any]:
    return lambda pod: pod["spec"].update(fields)


def _container(**fields: Any) -> Callable[[Object], Any]:
    return lambda pod: container(pod).update(fields)


def _label(value: str) -> Callable[[Object], Any]:
    return lambda pod: pod["metadata"]["labels"].update({NAME: value})


def _as_database(pod: Object) -> None:
    _volume(persistentVolumeClaim={"claimName": "metadata"})(pod)
    pod["spec"]["securityContext"].update(runAsUser=999, runAsGroup=999, fsGroup=999)


# A probe with a host is refused by the namespace's Pod Security standard as well, since Kubernetes 1.34.
_REQUEST = {"httpGet": {"port": 80, "path": "/stolen"}}
_KEY = [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "airflow-keys", "key": "FERNET_KEY"}}}]
_TOKEN = {"sources": [{"serviceAccountToken": {"path": "token"}}]}
_SECRET = {"sources": [{"secret": {"name": "airflow-keys"}}]}
_DRIVER = {"driver": "secrets-store.csi.k8s.io", "readOnly": True}
_CLAIM = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
_STRANGE = "evil.example.com/x:1"
_PLAIN = {
    "name": "first",
    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
}
_OF_BOTH = {
    **{f"the Secret {name} as its environment": Attack(_from_secret(name), "Of Secrets") for name in SECRETS},
    "a key of a Secret as a variable": Attack(_container(env=_KEY), "Of Secrets"),
    "a Secret as a volume": Attack(_volume(secret={"secretName": "airflow-keys"}), "A volume"),
    "a Secret in a projected volume": Attack(_volume(projected=_SECRET), "A volume"),
    "a Secret by a driver": Attack(_volume(csi=_DRIVER), "A volume"),
    "the volume of the metadata database, as its user": Attack(_as_database, "A volume"),
    "the volume of the backups": Attack(_volume(persistentVolumeClaim={"claimName": "backup"}), "A volume"),
    "a volume made for it": Attack(_volume(ephemeral={"volumeClaimTemplate": {"spec": _CLAIM}}), "A volume"),
    "an image as a volume": Attack(_volume(image={"reference": _STRANGE}), "A volume"),
    "a folder of the node": Attack(_volume(hostPath={"path": "/"}), "hostPath"),
    "the node's network": Attack(_spec(hostNetwork=True), "hostNetwork"),
    "a node of its choice": Attack(_spec(nodeName="one"), "The node is chosen"),
    "a priority of the system": Attack(_spec(priorityClassName="system-cluster-critical"), "The node is chosen"),
    "the scheduler's account": Attack(_spec(serviceAccountName="airflow-scheduler"), "the service account"),
    "an image of a stranger": Attack(_container(image=_STRANGE), "none of the images"),
    "an image of a stranger before its own": Attack(
        lambda pod: pod["spec"].update(initContainers=[{**_PLAIN, "image": _STRANGE}]),
        "none of the images",
    ),
    "a container named as those that print the audit trail": Attack(_container(name="airflow"), "is named airflow"),
    "a request that the kubelet makes at once": Attack(_container(lifecycle={"postStart": _REQUEST}), "hooks"),
    "a request that the kubelet repeats": Attack(_container(livenessProbe=_REQUEST), "probes"),
    "the label of the API server": Attack(_label("airflow-api-server"), "The scheduler makes"),
    "the label of SQL Server": Attack(_label("mssql"), "The scheduler makes"),
    "the label of the backups": Attack(_label("sink-backup"), "The scheduler makes"),
    "no label at all": Attack(lambda pod: pod["metadata"]["labels"].clear(), "The scheduler makes"),
}
OF_A_WORKER = {
    **_OF_BOTH,
    "the worker's own account": Attack(_spec(serviceAccountName="airflow-worker"), "the service account"),
    "a token": Attack(_spec(automountServiceAccountToken=True), "the service account"),
    "a token in a projected volume": Attack(_volume(projected=_TOKEN), "A volume"),
    "the label of a worker": Attack(_label("airflow-worker"), "The scheduler makes"),
}
OF_A_SCHEDULER = {
    **_OF_BOTH,
    "the Secret of the steps": Attack(_from_secret("etl-connections"), "Of Secrets"),
    "the staging volume": Attack(_volume(persistentVolumeClaim={"claimName": "etl-staging"}), "A volume"),
    "no account of its own": Attack(_spec(serviceAccountName="default"), "the service account"),
    "the label of a step": Attack(_label("etl"), "The scheduler makes"),
}
ATTACKS = [
    *((WORKER, name, attack) for name, attack in OF_A_WORKER.items()),
    *((SCHEDULER, name, attack) for name, attack in OF_A_SCHEDULER.items()),
]
each_attack = pytest.mark.parametrize(
    ("account", "attack"),
    [(who, attack) for who, _, attack in ATTACKS],
    ids=[f"{who.partition(':')[2]} with {name}" for who, name, _ in ATTACKS],
)
