"""Preflight of `apply-all.sh`: each condition of a machine or a cluster, and the message or plan."""

import base64
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from ops.deploy.cli import main
from ops.deploy.data import disk
from ops.deploy.data.disk import disk_problems
from ops.deploy.images import platforms
from ops.deploy.images.builders import Buildah
from ops.deploy.manifests.network import PODS_NETWORK
from ops.deploy.manifests.rendering import SOURCE_IS_NODE
from tests.doubles.fake_cluster import FakeCluster, named, node, workload

POLICY = "NetworkPolicy/outside"
SLICE = "EndpointSlice/source-postgres"
SHARED = "25 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
NOT_SHARED = "25 1 8:1 / / rw,relatime - ext4 /dev/sdc rw\n26 25 0:5 / /dev rw shared:2 - devtmpfs dev rw\n"


def with_node(cluster: FakeCluster, shares: list[str], arguments: list[str] | None = None, **info: str) -> None:
    item = node("one")
    item["spec"] = {"podCIDRs": shares}
    if arguments is not None:
        item["metadata"]["annotations"] = {"k3s.io/node-args": json.dumps(["server", *arguments])}
    item["status"]["nodeInfo"] |= info
    cluster.change("Node/one", item)


def let_out(cluster: FakeCluster) -> None:
    """A policy and a setting that name the network of pods, as the manifests do."""
    block = {"cidr": "0.0.0.0/0", "except": [PODS_NETWORK]}
    policy = named("NetworkPolicy", "outside", "airflow") | {"spec": {"egress": [{"to": [{"ipBlock": block}]}]}}
    server = workload("Deployment", "server", "airflow", "localhost/etl-airflow:0.1.0")
    server["spec"]["template"]["spec"]["containers"][0]["env"] = [{"name": "FROM", "value": PODS_NETWORK}]
    cluster.objects_to_render += [policy, server]
    cluster.write_overlay()


def refused(cluster: FakeCluster, *options: str) -> str:
    """The problems found, with nothing changed."""
    assert main(cluster.arguments(*options)) == 1
    assert cluster.changes() == []
    return cluster.said().err


@pytest.mark.parametrize(
    ("shares", "arguments", "excepted"),
    [
        (["10.42.0.0/24"], None, ["10.42.0.0/16"]),
        (["10.52.3.0/24"], ["--cluster-cidr", "10.52.0.0/20"], ["10.52.0.0/20"]),
        (["10.52.3.0/24"], ["--cluster-cidr=10.52.0.0/20"], ["10.52.0.0/20"]),
        (["10.244.1.0/24"], None, ["10.244.0.0/16"]),
        ([], None, ["10.42.0.0/16"]),
        (["10.52.3.0/24", "fd00:42::/64"], None, ["10.52.0.0/16"]),
    ],
    ids=["K3s's own", "told to K3s", "told with =", "of another distribution", "not known", "of both kinds"],
)
def test_policies_except_the_network_that_the_cluster_s_pods_have(
    cluster: FakeCluster, shares: list[str], arguments: list[str] | None, excepted: list[str]
) -> None:
    let_out(cluster)
    with_node(cluster, shares, arguments)
    assert main(cluster.arguments("--source-address=198.51.100.7")) == 0
    (rule,) = cluster.objects[POLICY]["spec"]["egress"]
    assert rule["to"][0]["ipBlock"]["except"] == excepted
    (container,) = cluster.objects["Deployment/server"]["spec"]["template"]["spec"]["containers"]
    assert container["env"][0]["value"].split(",")[0] == excepted[0]


@pytest.mark.parametrize(
    ("addresses", "port", "blocks"),
    [
        (["203.0.113.5"], 6443, ["203.0.113.5/32"]),
        (["203.0.113.6", "203.0.113.5"], 7443, ["203.0.113.5/32", "203.0.113.6/32"]),
        (["2001:db8::5"], 6443, ["2001:db8::5/128"]),
    ],
    ids=["one", "several at a port of their own", "IPv6"],
)
def test_what_may_reach_the_kubernetes_api_may_reach_its_servers_alone(
    cluster: FakeCluster, addresses: list[str], port: int, blocks: list[str]
) -> None:
    everywhere = [{"ipBlock": {"cidr": "0.0.0.0/0", "except": [PODS_NETWORK]}}]
    egress = [{"to": everywhere, "ports": [{"port": number}]} for number in (6443, 443)]
    cluster.objects_to_render.append(named("NetworkPolicy", "outside", "airflow") | {"spec": {"egress": egress}})
    cluster.write_overlay()
    servers = named("EndpointSlice", "kubernetes", "", "default")
    servers["metadata"]["labels"] = {"kubernetes.io/service-name": "kubernetes"}
    ends = {"endpoints": [{"addresses": addresses}], "ports": [{"name": "https", "port": port}]}
    cluster.change("EndpointSlice/kubernetes", servers | ends)
    assert main(cluster.arguments()) == 0
    api, web = cluster.objects[POLICY]["spec"]["egress"]
    assert api == {"to": [{"ipBlock": {"cidr": block}} for block in blocks], "ports": [{"port": port}]}
    assert web == egress[1]


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("10.42.3.4", "lies in 10.42.0.0/16, the network of the cluster's pods"),
        ("10.43.0.9", "lies in 10.43.0.0/16, the network of the cluster's Services"),
        ("2001:db8::7", "is of IPv6, and the cluster's pods have none of that kind"),
    ],
)
def test_a_source_that_pods_cannot_reach_is_refused(cluster: FakeCluster, address: str, words: str) -> None:
    assert words in refused(cluster, f"--source-address={address}")


def test_the_networks_of_services_are_those_that_the_api_names(cluster: FakeCluster) -> None:
    cidrs = named("ServiceCIDR", "kubernetes", "") | {"spec": {"cidrs": ["10.96.0.0/12"]}}
    cluster.change("ServiceCIDR/kubernetes", cidrs)
    assert "lies in 10.96.0.0/12" in refused(cluster, "--source-address=10.97.0.1")
    assert main(cluster.arguments("--source-address=10.43.0.9")) == 0


def test_an_ipv6_source_is_taken_where_pods_have_such_addresses(cluster: FakeCluster) -> None:
    with_node(cluster, ["10.42.0.0/24", "fd00:42::/64"])
    assert main(cluster.arguments("--source-address=2001:db8::7")) == 0
    assert cluster.objects[SLICE]["addressType"] == "IPv6"


def test_a_source_on_the_node_follows_the_node_s_address(cluster: FakeCluster) -> None:
    assert main(cluster.arguments()) == 0
    moved = cluster.objects["Node/one"]
    moved["status"]["addresses"] = [{"type": "InternalIP", "address": "203.0.113.77"}]
    cluster.change("Node/one", moved)
    assert main(cluster.arguments()) == 0
    assert cluster.objects[SLICE]["endpoints"] == [{"addresses": ["203.0.113.77"]}]
    assert "at 203.0.113.5, and is looked for at 203.0.113.77 from now on" in cluster.said().out
    # What was given stays, whatever the node's address.
    assert main(cluster.arguments("--source-address=198.51.100.7")) == 0
    assert SOURCE_IS_NODE not in cluster.objects[SLICE]["metadata"].get("annotations", {})
    assert main(cluster.arguments()) == 0
    assert cluster.objects[SLICE]["endpoints"] == [{"addresses": ["198.51.100.7"]}]


def test_sql_server_is_not_deployed_to_arm64(cluster: FakeCluster) -> None:
    cluster.objects_to_render.append(
        workload("StatefulSet", "big", "mssql", "registry.example.com/mssql/server:2022-CU21")
    )
    cluster.write_overlay()
    with_node(cluster, ["10.42.0.0/24"], architecture="arm64")
    assert "no image of SQL Server for linux/arm64" in refused(cluster)
    assert "k8s/components/external-sink" in refused(cluster)


def test_images_of_another_architecture_than_the_node_s_are_not_imported(cluster: FakeCluster) -> None:
    with_node(cluster, ["10.42.0.0/24"], architecture="riscv64")
    assert "Node one is linux/riscv64, and the images are for linux/" in refused(cluster)


@pytest.mark.parametrize(("size", "warned"), [(4096, False), (16384, True), (65536, True)])
def test_memory_pages_with_which_fluent_bit_ends_are_said(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, size: int, warned: bool
) -> None:
    cluster.objects_to_render.append(
        workload("DaemonSet", "fluent-bit", "observability", "example.com/fluent-bit:5", "observability")
    )
    cluster.write_overlay()
    monkeypatch.setattr("os.sysconf", lambda name: size)
    assert main(cluster.arguments("--dry-run")) == 0
    told = cluster.said().out
    assert (f"memory pages have {size} bytes, with which Fluent Bit's image ends at once" in told) is warned


def test_page_sizes_that_cannot_be_seen_from_here_are_asked_about(cluster: FakeCluster) -> None:
    cluster.objects_to_render.append(
        workload("DaemonSet", "fluent-bit", "observability", "example.com/fluent-bit:5", "observability")
    )
    cluster.write_overlay()
    far = node("far")
    far["status"]["nodeInfo"] = {"bootID": "another", "architecture": "arm64"}
    cluster.change("Node/far", far)
    assert main(cluster.arguments("--dry-run")) == 0
    assert "`getconf PAGE_SIZE` should say 4096 on far" in cluster.said().out


def node_exporter(cluster: FakeCluster) -> Any:
    item = workload("DaemonSet", "node-exporter", "observability", "example.com/node-exporter:1", "observability")
    pod = item["spec"]["template"]["spec"]
    pod["volumes"] = [{"name": "host", "hostPath": {"path": "/"}}]
    pod["containers"][0]["volumeMounts"] = [
        {"name": "host", "mountPath": "/host", "mountPropagation": "HostToContainer"}
    ]
    cluster.objects_to_render.append(item)
    cluster.write_overlay()


@pytest.mark.parametrize(("mounts", "passed_on"), [(SHARED, True), (NOT_SHARED, False)], ids=["shared", "as in WSL2"])
def test_a_container_takes_the_node_s_root_as_the_node_lets_it(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, mounts: str,
    passed_on: bool,
) -> None:  # fmt: skip
    node_exporter(cluster)
    (cluster.folder / "mountinfo").write_text(mounts)
    monkeypatch.setattr(platforms, "_MOUNTS", cluster.folder / "mountinfo")
    monkeypatch.setattr("ops.deploy.preflight.facts.root_is_shared", platforms.root_is_shared)
    assert main(cluster.arguments("--timeout=1s")) == 0
    (container,) = cluster.objects["DaemonSet/node-exporter"]["spec"]["template"]["spec"]["containers"]
    assert ("mountPropagation" in container["volumeMounts"][0]) is passed_on
    assert ("`/` is not a shared mount here" in cluster.said().out) is not passed_on


class Keeping(Buildah):
    """Buildah that keeps its images in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def storage(self) -> Path:
        return self.folder


@pytest.mark.parametrize(
    ("free", "missing", "is_there", "needed"),
    [(9.9, 1, False, 10.0), (10.1, 1, False, None), (3.1, 0, True, None), (2.9, 0, True, 3.0), (3.2, 0.1, True, 3.5)],
    ids=["too little for all", "enough for all", "enough to build anew", "too little for that", "a new version"],
)
def test_as_much_disk_is_asked_for_as_is_taken_where_it_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: float, missing: float, is_there: bool, needed: float | None
) -> None:
    monkeypatch.setattr(disk, "_NODE_PLACE", tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda place: Free(free))
    volumes = {"etl-poc-mssql": tmp_path / ("" if is_there else "new") / "mssql"}
    told = "".join(disk_problems(volumes, Keeping(tmp_path / "containers"), missing=missing))
    if needed is None:
        assert told == ""
    else:
        assert f"has {free} GB free, and {needed} are needed there (images" in told


class Free:
    """The result of `shutil.disk_usage`."""

    def __init__(self, gigabytes: float) -> None:
        self.free = gigabytes * 1000**3


def test_what_the_parts_take_is_shown(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "CONTAINERD", cluster.folder / "containerd")
    for name, size in (("containerd/io.containerd.content.v1.content", 3), ("storage", 7), ("data/mssql", 2)):
        (cluster.folder / name).mkdir(parents=True)
        (cluster.folder / name / "content").write_bytes(os.urandom(size * 1000**2))
    (cluster.folder / "storage" / "again").hardlink_to(cluster.folder / "storage" / "content")
    (cluster.data / "mssql").chmod(0o750)
    (cluster.folder / "data" / "generated-secrets.json").write_text(
        json.dumps({"mssql": {"MSSQL_SA_PASSWORD": base64.b64encode(b"kept").decode()}})
    )
    assert main(cluster.arguments()) == 0
    told = cluster.said().out
    assert re.search(r"^images, as pulled or imported +3 ", told, re.MULTILINE)
    assert re.search(r"^all that buildah keeps +7 ", told, re.MULTILINE)
    assert re.search(r"^volume etl-poc-mssql +2 ", told, re.MULTILINE)
    assert re.search(r"^all +12$", told, re.MULTILINE)


def test_a_disk_that_is_not_mounted_gives_no_empty_databases(cluster: FakeCluster) -> None:
    assert main(cluster.arguments()) == 0
    volume = cluster.objects["PersistentVolume/etl-poc-mssql"]
    cluster.change("PersistentVolume/etl-poc-mssql", volume | {"status": {"phase": "Bound"}})
    (cluster.data / "mssql").rmdir()
    cluster.forget_calls()
    told = refused(cluster)
    assert f"{cluster.data / 'mssql'} is not there, and PersistentVolume etl-poc-mssql has data in it" in told
    assert "is a disk not mounted" in told
    assert not (cluster.data / "mssql").exists()
    (cluster.data / "mssql").mkdir()
    assert main(cluster.arguments()) == 0
