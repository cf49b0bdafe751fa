"""Every container: a pinned image, no privileges, limits. Also those that Airflow starts."""

import re
from decimal import Decimal
from typing import Any

import pytest
from kubernetes.utils import parse_quantity

from tests.harness.manifests.pods import Container, Pod, distinct_pods

WRITES_TO_ITS_ROOT = {
    "mssql": "SQL Server writes to /.system, /tmp and its own folders, and Microsoft supports no read-only root.",
}
KEEPS = {"mssql": "NET_BIND_SERVICE", "proxy": "NET_BIND_SERVICE"}
"""The files of these programs have the capability, and do not start without: SQL Server, its double, Caddy."""
READS_THE_NODE = {
    "fluent-bit": "It reads the containers' logs and the journal, and writes down how far it has come.",
    "node-exporter": "It reads the node's CPU, memory and disks.",
}
"""The pods that mount folders of their node, in a separate namespace."""
RUNS_AS_ROOT = {"fluent-bit": "Only root may read the containers' logs."}
WRITES_TO_THE_NODE = {("fluent-bit", "/var/lib/fluent-bit")}
MOUNTABLE = {"configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret"}

PODS = distinct_pods()

each_pod = pytest.mark.parametrize("pod", PODS, ids=str)
each_container = pytest.mark.parametrize("container", [one for pod in PODS for one in pod.containers], ids=str)


def amount(container: Container, bound: str, resource: str) -> Decimal:
    resources: dict[str, Any] = container.content.get("resources", {})
    return Decimal(parse_quantity(resources.get(bound, {}).get(resource, 0)))


@each_container
def test_the_image_has_a_version_and_says_where_it_is_from(container: Container) -> None:
    registry, tag = r"[\w-]+(?:\.[\w-]+)+|localhost", r"\w[\w.-]*"
    assert re.fullmatch(rf"(?:{registry})/[\w./-]+:{tag}", container.content["image"])
    assert not container.content["image"].endswith(":latest")


@each_container
def test_the_image_is_not_pulled_when_it_is_there(container: Container) -> None:
    assert container.content["imagePullPolicy"] == "IfNotPresent"


@each_container
def test_it_does_not_run_as_root(container: Container) -> None:
    may = container.name in RUNS_AS_ROOT
    assert container.security("runAsNonRoot") is not may
    # Without a number the kubelet must trust the image.
    assert (container.security("runAsUser") == 0) == may


@each_container
def test_it_may_make_the_usual_system_calls_only(container: Container) -> None:
    assert container.security("seccompProfile") == {"type": "RuntimeDefault"}


@each_container
def test_selinux_confines_all_but_what_reads_the_node(container: Container) -> None:
    expected = {"type": "spc_t"} if container.name in READS_THE_NODE else None
    assert container.security("seLinuxOptions") == expected


@each_container
def test_it_cannot_gain_privileges(container: Container) -> None:
    assert container.security("allowPrivilegeEscalation") is False
    assert not container.security("privileged")


@each_container
def test_it_has_no_capability_but_what_its_program_cannot_be_run_without(container: Container) -> None:
    kept = {"add": [KEEPS[container.name]]} if container.name in KEEPS else {}
    assert container.security("capabilities") == {"drop": ["ALL"], **kept}


@each_container
def test_its_root_file_system_is_read_only(container: Container) -> None:
    expected = None if container.name in WRITES_TO_ITS_ROOT else True
    assert container.security("readOnlyRootFilesystem") is expected


@each_container
def test_it_asks_for_cpu_and_memory(container: Container) -> None:
    assert amount(container, "requests", "cpu") > 0
    assert amount(container, "requests", "memory") > 0


@each_container
def test_its_memory_is_limited_to_no_less_than_it_asks_for(container: Container) -> None:
    assert amount(container, "limits", "memory") >= amount(container, "requests", "memory")


@each_container
def test_it_mounts_volumes_that_its_pod_has(container: Container) -> None:
    mounted = {mount["name"] for mount in container.content.get("volumeMounts", [])}
    assert mounted <= {volume["name"] for volume in container.pod.volumes}


@each_container
def test_it_mounts_each_path_once(container: Container) -> None:
    paths = [mount["mountPath"] for mount in container.content.get("volumeMounts", [])]
    assert sorted(paths) == sorted(set(paths))


@each_pod
def test_a_pod_shares_nothing_of_its_node(pod: Pod) -> None:
    assert [setting for setting in ("hostNetwork", "hostPID", "hostIPC") if pod.spec.get(setting)] == []
    mountable = MOUNTABLE | ({"hostPath"} if pod.owner.partition("/")[2] in READS_THE_NODE else set())
    assert {kind for volume in pod.volumes for kind in volume.keys() - {"name"}} <= mountable
    ports = [port for container in pod.containers for port in container.content.get("ports", [])]
    assert not [port for port in ports if "hostPort" in port]


@each_container
def test_what_it_mounts_of_its_node_it_may_not_change(container: Container) -> None:
    of_the_node = {volume["name"] for volume in container.pod.volumes if "hostPath" in volume}
    for mount in container.content.get("volumeMounts", []):
        if mount["name"] in of_the_node and (container.name, mount["mountPath"]) not in WRITES_TO_THE_NODE:
            assert mount["readOnly"] is True


@each_pod
def test_a_pod_has_no_volume_that_it_does_not_mount(pod: Pod) -> None:
    mounted = {mount["name"] for container in pod.containers for mount in container.content.get("volumeMounts", [])}
    assert {volume["name"] for volume in pod.volumes} == mounted


@each_pod
def test_what_a_pod_writes_beside_its_data_is_bounded(pod: Pod) -> None:
    assert [volume for volume in pod.volumes if "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"]] == []
