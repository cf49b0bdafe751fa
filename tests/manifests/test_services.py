"""Every name leads somewhere: Services to pods, Ingresses to Services, settings to Services."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.harness.manifests.addresses import full_name, servers_in, variables
from tests.harness.manifests.kustomizations import DEFAULT
from tests.harness.manifests.pods import Pod, all_pods, pods_of, selected
from tests.harness.manifests.rendering import Manifest, Object, Rendering, manifests, renderings
from tests.harness.manifests.rendering import rendering as overlay

SERVICES = manifests("Service")
each_rendering = pytest.mark.parametrize("rendering", renderings(), ids=str)


def ports_of(pod: Pod) -> set[Any]:
    """The ports of a pod, by name and by number."""
    ports = [port for container in pod.containers for port in container.content.get("ports", [])]
    return {value for port in ports for value in (port.get("name"), port["containerPort"])}


@pytest.mark.parametrize("service", [one for one in SERVICES if one.spec.get("selector")], ids=str)
def test_a_service_finds_a_workload_by_label_and_its_ports_there(service: Manifest) -> None:
    (pod,) = selected(service.rendering, service.spec["selector"])
    for port in service.spec["ports"]:
        assert port.get("targetPort", port["port"]) in ports_of(pod)


@pytest.mark.parametrize("service", [one for one in SERVICES if not one.spec.get("selector")], ids=str)
def test_a_service_without_a_selector_has_an_endpoint_slice_with_its_ports(service: Manifest) -> None:
    slices = [
        item
        for item in service.rendering.of_kind("EndpointSlice")
        if item["metadata"]["labels"].get("kubernetes.io/service-name") == service.name
    ]
    ports = [(port.get("name"), port.get("targetPort", port["port"])) for port in service.spec["ports"]]
    assert [[(port.get("name"), port["port"]) for port in one["ports"]] for one in slices] == [ports]
    assert all(endpoint["addresses"] for one in slices for endpoint in one["endpoints"])


@pytest.mark.parametrize("ingress", manifests("Ingress"), ids=str)
def test_an_ingress_leads_to_a_port_of_a_service(ingress: Manifest) -> None:
    paths = [path for rule in ingress.spec["rules"] for path in rule["http"]["paths"]]
    for backend in (path["backend"]["service"] for path in paths):
        service = ingress.rendering.find("Service", backend["name"])
        assert service
        (asked,) = backend["port"].values()
        assert asked in [value for port in service["spec"]["ports"] for value in (port["name"], port["port"])]


@pytest.mark.parametrize("ingress", manifests("Ingress"), ids=str)
def test_an_ingress_is_for_the_controller_that_k3s_has(ingress: Manifest) -> None:
    assert ingress.spec["ingressClassName"] == "traefik"


@pytest.mark.parametrize("workload", manifests("StatefulSet"), ids=str)
def test_a_stateful_set_has_its_service(workload: Manifest) -> None:
    service = workload.rendering.find("Service", workload.spec["serviceName"])
    assert service
    assert service["spec"]["selector"].items() <= workload.spec["template"]["metadata"]["labels"].items()


def settings(rendering: Rendering) -> Iterator[tuple[str, str]]:
    """Every text that may name a server, after its namespace.

    It is in a ConfigMap, or put together in a variable.
    """
    for item in rendering.of_kind("ConfigMap"):
        for text in item.get("data", {}).values():
            yield item["metadata"]["namespace"], text
    for pod in all_pods(rendering):
        for text in variables(pod):
            yield pod.namespace, text


def ports(rendering: Rendering) -> set[tuple[str, int]]:
    """Every port of every Service, also of pods that are left out: their configuration may name it."""
    found = [*rendering.of_kind("Service"), *overlay(DEFAULT).of_kind("Service")]
    return {
        (full_name(item["metadata"]["name"], item["metadata"]["namespace"]), port["port"])
        for item in found
        for port in item["spec"]["ports"]
    }


@each_rendering
def test_every_server_that_a_setting_names_is_a_service_with_that_port(rendering: Rendering) -> None:
    asked = {server for namespace, text in settings(rendering) for server in servers_in(text, namespace)}
    assert asked
    assert asked <= ports(rendering)


@each_rendering
def test_the_metrics_of_airflow_and_of_the_steps_go_to_a_service(rendering: Rendering) -> None:
    hosts = [
        value
        for pod in all_pods(rendering)
        for name, value in pod.containers[0].environment().items()
        if name.endswith("STATSD_HOST")
    ]
    assert len(hosts) > 5
    assert {(full_name(host, ""), 8125) for host in hosts} <= ports(rendering)


@each_rendering
def test_every_service_is_named_by_a_setting_or_an_ingress(rendering: Rendering) -> None:
    users: list[Object] = [*rendering.of_kind("ConfigMap", "Ingress"), *(pod.content for pod in pods_of(rendering))]
    for service in rendering.of_kind("Service"):
        assert re.search(rf"\b{service['metadata']['name']}\b", str(users))
