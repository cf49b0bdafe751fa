"""Every pod of a deployment: those of the workloads, and those that Airflow starts, a worker's and a step's."""

import importlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any
from unittest import mock

import yaml
from etl_airflow.pods import spec as etl_pod_settings
from etl_airflow.pods.operator import EtlPodOperator
from kubernetes.client import ApiClient

from dev.sandbox.pipelines import ORDERS, make, whole
from ops.cluster.secret_keys import GENERATED, OIDC_KEYS, SOURCE_KEY
from ops.deploy.secrets.certificates import SQL_SERVER
from tests.harness.manifests.kustomizations import DEFAULT
from tests.harness.manifests.rendering import NAMESPACE, Manifest, Object, Rendering, name_of, rendering, renderings

SERVERS = ("Deployment", "StatefulSet", "DaemonSet")
JOBS = ("Job", "CronJob")
"""Kinds of workloads whose pods end."""
_KEYS = (*GENERATED, SOURCE_KEY, *OIDC_KEYS)
SECRETS: dict[str, set[str]] = {owner: {key for name, key in _KEYS if name == owner} for owner, _ in _KEYS} | {
    SQL_SERVER.secret: {"tls.crt", "tls.key"}
}
"""The keys of the Secrets that apply-all.sh makes."""
LEFT_OUT = {"Deployment/grafana", "DaemonSet/fluent-bit"}
"""The workloads that the component e2e-images removes: their images can only be pulled."""
SECRET = "(secret)"
"""A placeholder for a value from a Secret."""
_WORKER = "AIRFLOW__KUBERNETES_EXECUTOR__WORKER_CONTAINER"


@dataclass(frozen=True, eq=False)
class Container:
    """A container of a pod."""

    pod: "Pod"
    content: Object

    def __str__(self) -> str:
        return f"{self.pod}/{self.name}"

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.content["name"])

    def security(self, setting: str) -> Any:
        """A setting of its security context, else of its pod's."""
        contexts = (self.content.get("securityContext") or {}, self.pod.spec.get("securityContext") or {})
        return next((context[setting] for context in contexts if setting in context), None)

    def sources(self) -> Iterator[tuple[str, str]]:
        """Kind and name of the sources of its envFrom, in order."""
        for source in self.content.get("envFrom", []):
            if "configMapRef" in source:
                yield "ConfigMap", source["configMapRef"]["name"]
            else:
                yield "Secret", source["secretRef"]["name"]

    def inherited(self) -> dict[str, str]:
        """The variables that whole ConfigMaps and Secrets bring."""
        found: dict[str, str] = {}
        for kind, name in self.sources():
            if kind == "ConfigMap":
                found |= (self.pod.rendering.find("ConfigMap", name) or {"data": {}})["data"]
            else:
                found |= dict.fromkeys(SECRETS.get(name, ()), SECRET)
        return found

    def environment(self) -> dict[str, str]:
        """All of its variables, its own after those that it inherits; the values of secrets are not known here."""
        own = {one["name"]: one.get("value", SECRET) for one in self.content.get("env", [])}
        return {name: value for name, value in self.inherited().items() if name not in own} | own


@dataclass(frozen=True, eq=False)
class Pod:
    """A pod as created. `owner` is kind and name of its creator, or the pod's name."""

    rendering: Rendering
    owner: str
    content: Object

    def __str__(self) -> str:
        return f"{self.rendering}/{self.owner}"

    @property
    def kind(self) -> str:
        """The kind of its owner, Pod for one that Airflow starts."""
        return self.owner.partition("/")[0]

    @property
    def spec(self) -> Object:
        """Its specification."""
        specification: Object = self.content["spec"]
        return specification

    @property
    def namespace(self) -> str:
        """Its namespace: its owner's, or for a pod that Airflow starts, the pipelines'."""
        made_by = self.rendering.find(*self.owner.split("/"))
        return str(made_by["metadata"]["namespace"]) if made_by else NAMESPACE

    @property
    def labels(self) -> dict[str, str]:
        """Its labels."""
        return self.content["metadata"].get("labels") or {}

    @property
    def containers(self) -> list[Container]:
        """Its containers; those that only prepare come first."""
        return [Container(self, item) for kind in ("initContainers", "containers") for item in self.spec.get(kind, [])]

    @property
    def volumes(self) -> list[Object]:
        """Its volumes."""
        return list(self.spec.get("volumes", []))


@cache
def pods_of(rendering: Rendering) -> list[Pod]:
    """The pods of the workloads of an overlay."""
    return [
        Pod(rendering, name_of(item), specification(item)["template"]) for item in rendering.of_kind(*SERVERS, *JOBS)
    ]


def specification(item: Object) -> Object:
    """The specification of a workload's pods: a CronJob's, of its Jobs."""
    found: Object = item["spec"]
    return found["jobTemplate"]["spec"] if item["kind"] == "CronJob" else found


@cache
def worker(rendering: Rendering) -> Pod:
    """The pod in which the KubernetesExecutor runs a task: the template, with the image that the scheduler puts in."""
    scheduler = next(pod for pod in pods_of(rendering) if pod.owner == "Deployment/airflow-scheduler")
    settings = scheduler.containers[0].environment()
    template = next(volume["configMap"]["name"] for volume in scheduler.volumes if volume["name"] == "pod-template")
    found = rendering.find("ConfigMap", template)
    assert found, f"The scheduler's pod template {template} does not exist."
    content = yaml.safe_load(found["data"]["pod-template.yaml"])
    content["spec"]["containers"][0]["image"] = f"{settings[f'{_WORKER}_REPOSITORY']}:{settings[f'{_WORKER}_TAG']}"
    return Pod(rendering, "Pod/airflow-worker", content)


@cache
def step(rendering: Rendering) -> Pod:
    """The pod of an ETL step, as the operator makes it in a worker of this overlay."""
    try:
        with mock.patch.dict(os.environ, worker(rendering).containers[0].environment()):
            importlib.reload(etl_pod_settings)
        operator = EtlPodOperator.for_step("load", make(ORDERS), whole().model_dump_json())
    finally:
        importlib.reload(etl_pod_settings)
    with mock.patch.object(EtlPodOperator, "hook"):
        made = operator.build_pod_request_obj(dry_run=True)
    return Pod(rendering, "Pod/etl", ApiClient().sanitize_for_serialization(made))


def all_pods(rendering: Rendering) -> list[Pod]:
    """All pods of an overlay."""
    return [*pods_of(rendering), worker(rendering), step(rendering)]


def configured_pods(found: Rendering) -> list[Pod]:
    """All pods of an overlay, and those that tests leave out while their configuration stays."""
    if "e2e" not in found.name:
        return all_pods(found)
    component = found.name.partition("+")[2]
    complete = f"{DEFAULT}+{component}" if component not in ("", "e2e-images") else DEFAULT
    return [*all_pods(found), *(pod for pod in pods_of(rendering(complete)) if pod.owner in LEFT_OUT)]


def pods() -> list[Pod]:
    """All pods of all renderings."""
    return [pod for found in renderings() for pod in all_pods(found)]


def distinct_pods() -> list[Pod]:
    """Without those equal in an earlier rendering: for claims about single pods."""
    found: dict[str, Pod] = {}
    for pod in pods():
        # Airflow gives each pod of a step a unique name.
        found.setdefault(json.dumps([pod.owner, pod.labels, pod.spec]), pod)
    return list(found.values())


def controller(pod: Pod) -> Manifest:
    """The object that makes the pod."""
    kind, _, name = pod.owner.partition("/")
    found = pod.rendering.find(kind, name)
    assert found, f"{pod.owner} is made by no object."
    return Manifest(pod.rendering, found)


def selected(rendering: Rendering, labels: dict[str, str]) -> list[Pod]:
    """The pods that have all of these labels."""
    return [pod for pod in all_pods(rendering) if labels and labels.items() <= pod.labels.items()]
