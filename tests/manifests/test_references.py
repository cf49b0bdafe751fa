"""Every object and every key that a pod needs is there; nothing is there that no pod needs."""

import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from ops.cluster.secret_keys import GENERATED, SINK_BACKUP, SOURCE_KEY
from tests.harness.manifests.pods import SECRETS, Container, Pod, all_pods, configured_pods, pods
from tests.harness.manifests.rendering import Rendering, renderings

each_pod = pytest.mark.parametrize("pod", pods(), ids=str)
each_container = pytest.mark.parametrize("container", [one for pod in pods() for one in pod.containers], ids=str)
each_rendering = pytest.mark.parametrize("rendering", renderings(), ids=str)
_VOLUMES = {"configMap": ("ConfigMap", "name"), "secret": ("Secret", "secretName")}


class Reference(NamedTuple):
    """A pod's reference to an object, or to a key in it."""

    kind: str
    name: str
    key: str | None = None


def references(pod: Pod) -> Iterator[Reference]:
    """The ConfigMaps and Secrets without which the pod does not start."""
    for container in pod.containers:
        for source in container.content.get("envFrom", []):
            for kind in ("configMap", "secret"):
                found = source.get(f"{kind}Ref", {"optional": True})
                if not found.get("optional"):
                    yield Reference(f"{kind[0].upper()}{kind[1:]}", found["name"])
        for variable in container.content.get("env", []):
            for kind in ("configMap", "secret"):
                found = variable.get("valueFrom", {}).get(f"{kind}KeyRef", {"optional": True})
                if not found.get("optional"):
                    yield Reference(f"{kind[0].upper()}{kind[1:]}", found["name"], found["key"])
    for volume in pod.volumes:
        for source, (kind, name) in _VOLUMES.items():
            if source in volume and not volume[source].get("optional"):
                yield Reference(kind, volume[source][name])
                for item in volume[source].get("items", []):
                    yield Reference(kind, volume[source][name], item["key"])


def keys(rendering: Rendering, reference: Reference) -> set[str]:
    """The keys of a referenced object; Secrets are those that apply-all.sh creates."""
    if reference.kind == "Secret":
        return SECRETS.get(reference.name, set())
    return set((rendering.find(reference.kind, reference.name) or {"data": {}})["data"])


def claims(pod: Pod) -> set[str]:
    return {volume["persistentVolumeClaim"]["claimName"] for volume in pod.volumes if "persistentVolumeClaim" in volume}


@each_pod
def test_every_config_map_and_secret_of_a_pod_exists_with_its_keys(pod: Pod) -> None:
    for reference in references(pod):
        found = keys(pod.rendering, reference)
        assert found, reference
        assert reference.key is None or reference.key in found, reference


@each_pod
def test_every_claim_of_a_pod_exists(pod: Pod) -> None:
    assert claims(pod) <= {item["metadata"]["name"] for item in pod.rendering.of_kind("PersistentVolumeClaim")}


@each_pod
def test_the_service_account_of_a_pod_exists(pod: Pod) -> None:
    name = pod.spec.get("serviceAccountName", "default")
    assert name == "default" or pod.rendering.find("ServiceAccount", name)


@each_pod
def test_the_priority_class_of_a_pod_exists(pod: Pod) -> None:
    name = pod.spec.get("priorityClassName")
    assert name is None or pod.rendering.find("PriorityClass", name)


@each_container
def test_a_value_is_made_of_variables_that_stand_before_it(container: Container) -> None:
    """Kubernetes does not expand `$(NAME)` if NAME is defined later."""
    known = set(container.inherited())
    for variable in container.content.get("env", []):
        assert set(re.findall(r"\$\((\w+)\)", variable.get("value", ""))) <= known, variable["name"]
        known.add(variable["name"])
    for word in (*container.content.get("command", []), *container.content.get("args", [])):
        assert set(re.findall(r"\$\((\w+)\)", word)) <= known, word


@each_container
def test_a_variable_is_set_once(container: Container) -> None:
    names = [variable["name"] for variable in container.content.get("env", [])]
    assert sorted(names) == sorted(set(names))


@each_rendering
def test_every_secret_that_is_made_is_used(rendering: Rendering) -> None:
    used = {one for pod in configured_pods(rendering) for one in references(pod) if one.kind == "Secret"}
    whole = {reference.name for reference in used if reference.key is None}
    single = {(reference.name, reference.key) for reference in used}
    unused = {key for key in (*GENERATED, SOURCE_KEY) if key[0] not in whole and key not in single}
    # A server outside is backed up by its operators.
    assert unused == (set() if rendering.find("StatefulSet", "mssql") else {SINK_BACKUP})


@each_rendering
def test_every_config_map_is_used(rendering: Rendering) -> None:
    used = {reference.name for pod in configured_pods(rendering) for reference in references(pod)}
    assert {item["metadata"]["name"] for item in rendering.of_kind("ConfigMap")} <= used


@each_rendering
def test_every_claim_is_used(rendering: Rendering) -> None:
    used = {name for pod in all_pods(rendering) for name in claims(pod)}
    assert {item["metadata"]["name"] for item in rendering.of_kind("PersistentVolumeClaim")} == used


@each_rendering
def test_every_service_account_is_used(rendering: Rendering) -> None:
    used = {pod.spec.get("serviceAccountName") for pod in configured_pods(rendering)}
    assert {item["metadata"]["name"] for item in rendering.of_kind("ServiceAccount")} <= used
