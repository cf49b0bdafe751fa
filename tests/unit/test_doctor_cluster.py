"""Findings of `doctor.sh` in the cluster: nodes, DNS, quota, Secrets, storage. One fault each, and no other."""

import re
from datetime import timedelta

import pytest
from etl_airflow.pods.spec import RESOURCES

from ops.doctor.checks.cluster import TASK, quantity
from ops.doctor.snapshot import Answer, Disk, Secret, Snapshot
from tests.harness.doctor.healthy_deployment import API_ADDRESS, DISK, NODE, NOW, event
from tests.harness.doctor.verdict import get, only, pod_of, remove, set_condition, set_state, unready, verdict, waiting
from tests.harness.manifests.kustomizations import K8S


def test_nothing_deployed(seen: Snapshot) -> None:
    seen.objects = [item for item in seen.objects if item["kind"] in ("Node", "PersistentVolume")]
    seen.secrets = {}
    words = ("https://127.0.0.1:6443 (context default)", "no namespace etl-poc", "nothing is deployed", "apply-all.sh")
    only(seen, "namespace-missing", *words, follows={"workload-missing", "secret-missing"})


def test_no_namespace_for_what_watches(seen: Snapshot) -> None:
    remove(seen, "Namespace", "observability-node")
    only(seen, "namespace-missing", "observability-node", "what watches the pipelines is not deployed")


def test_a_namespace_that_is_being_deleted(seen: Snapshot) -> None:
    get(seen, "Namespace", "etl-poc")["status"]["phase"] = "Terminating"
    only(seen, "namespace-missing", "is being deleted")


def test_a_node_that_is_not_ready_explains_its_pods(seen: Snapshot) -> None:
    set_condition(get(seen, "Node", NODE), "Ready", "Unknown", message="Kubelet stopped posting node status.")
    pod = pod_of(seen, "loki")
    pod["status"] = {"phase": "Pending"}
    set_condition(pod, "PodScheduled", "False", message="0/1 nodes are available: 1 node(s) had untolerated taint(s).")
    unready(seen, "loki")
    words = ("node one is not ready", "Kubelet stopped posting", "systemctl status k3s")
    only(seen, "node-not-ready", *words, follows={"pod-unschedulable", "service-without-endpoints"})


def test_a_cordoned_node(seen: Snapshot) -> None:
    get(seen, "Node", NODE)["spec"]["unschedulable"] = True
    only(seen, "node-not-ready", "was cordoned", "kubectl uncordon one")


@pytest.mark.parametrize(("kind", "thing"), [("DiskPressure", "disk"), ("MemoryPressure", "memory")])
def test_a_node_under_pressure(seen: Snapshot, kind: str, thing: str) -> None:
    set_condition(get(seen, "Node", NODE), kind, "True", message="kubelet has it")
    only(seen, "node-under-pressure", f"short of {thing}", kind)


@pytest.mark.parametrize("kind", ["ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"])
def test_workers_that_may_make_any_pod(seen: Snapshot, kind: str) -> None:
    seen.objects = [item for item in seen.objects if item["kind"] != kind]
    only(seen, "launchers-unbounded", f"no {kind} etl-poc-launched-pods", "read all of its Secrets")


def test_a_kubernetes_api_at_another_address_than_the_policies_name(seen: Snapshot) -> None:
    policy, api = get(seen, "NetworkPolicy", "airflow-scheduler"), get(seen, "EndpointSlice", "kubernetes-abcde")
    (rule,) = policy["spec"]["egress"]
    rule["to"] = [{"ipBlock": {"cidr": f"{API_ADDRESS}/32"}}]
    assert verdict(seen).causes == []
    api["endpoints"].append({"addresses": ["203.0.113.9"]})
    only(seen, "kubernetes-api-elsewhere", "is at 203.0.113.9", f"go to {API_ADDRESS}/32", "apply-all.sh")


def test_dns_without_pods_explains_whoever_looks_for_a_name(seen: Snapshot) -> None:
    unready(seen, "kube-dns")
    for name in ("source", "sink", "metadata"):
        seen.answers[name] = Answer(f"{name}:1/x", "dns", f"the name {name} does not resolve: Temporary failure.")
    only(seen, "dns-down", "none of its pods is ready", "coredns")


def test_dns_that_does_not_answer_though_its_pods_are_ready(seen: Snapshot) -> None:
    seen.answers["source"] = Answer("source-postgres:5432/orders", "dns", "the name does not resolve: Try again.")
    only(seen, "dns-down", "a pod got no answer", "Try again")


def test_a_quota_without_room_for_a_task(seen: Snapshot) -> None:
    get(seen, "ResourceQuota", "etl-poc")["status"]["used"]["requests.memory"] = "12000Mi"
    only(seen, "quota-met", "requests.memory 12000Mi of 12Gi", "resource-quota.yaml")


def test_a_quota_that_is_met_explains_pods_that_are_not_made(seen: Snapshot) -> None:
    get(seen, "ResourceQuota", "etl-poc")["status"]["used"]["pods"] = "40"
    scheduler = get(seen, "Deployment", "airflow-scheduler")
    set_condition(
        scheduler, "ReplicaFailure", "True", message='pods "airflow-scheduler-x" is forbidden: exceeded quota'
    )
    only(seen, "quota-met", "pods 40 of 40", follows={"pods-not-made"})


def test_what_a_task_asks_for_is_what_its_worker_and_its_step_ask_for() -> None:
    worker = (K8S / "base" / "airflow" / "worker" / "pod-template.yaml").read_text()
    asked = re.search(r"requests: \{cpu: (\w+), memory: (\w+)\}", worker)
    assert asked
    assert RESOURCES.requests
    cpu = quantity(asked[1]) + quantity(RESOURCES.requests["cpu"])
    memory = quantity(asked[2]) + quantity(RESOURCES.requests["memory"])
    assert {"pods": 2, "requests.cpu": cpu, "requests.memory": memory} == TASK


def test_a_secret_that_is_not_there(seen: Snapshot) -> None:
    del seen.secrets["etl-poc", "airflow-keys"]
    only(seen, "secret-missing", "The Secret airflow-keys is not there", "generates no password anew")


def test_a_secret_without_one_of_its_keys_explains_the_pod_that_does_not_start(seen: Snapshot) -> None:
    seen.secrets["etl-poc", "mssql"] = Secret(frozenset())
    pod = pod_of(seen, "mssql")
    set_state(pod, waiting("CreateContainerConfigError", "couldn't find key MSSQL_SA_PASSWORD in Secret"))
    words = ("The Secret mssql has no MSSQL_SA_PASSWORD", "takes the one that is kept beside the data")
    only(seen, "secret-missing", *words, follows={"container-not-started"})


def test_the_password_of_the_source_is_asked_for(seen: Snapshot) -> None:
    seen.secrets["etl-poc", "etl-connections"] = Secret(frozenset({"MASK_KEY", "SINK_PASSWORD"}))
    only(seen, "secret-missing", "etl-connections has no SOURCE_PASSWORD", "Set SOURCE_PASSWORD and run")


def test_a_config_map_that_is_not_there(seen: Snapshot) -> None:
    remove(seen, "ConfigMap", "airflow-common")
    only(seen, "config-map-missing", "The ConfigMap airflow-common is not there")


def test_a_secret_that_was_changed_after_its_pods_had_started(seen: Snapshot) -> None:
    secret = seen.secrets["etl-poc", "etl-connections"]
    seen.secrets["etl-poc", "etl-connections"] = Secret(secret.keys, NOW - timedelta(minutes=5))
    only(seen, "secret-newer-than-pods", "airflow-api-server-5d8f7c9b4-x2k7p. They", "2026-03-01 11:55")


def test_after_the_exporter_s_password_in_the_sink_was_changed_its_pod_alone_is_too_old(seen: Snapshot) -> None:
    secret = seen.secrets["etl-poc", "sink-exporter"]
    seen.secrets["etl-poc", "sink-exporter"] = Secret(secret.keys, NOW - timedelta(minutes=5))
    only(seen, "secret-newer-than-pods", "these pods had started: database-exporter-5d8f7c9b4-x2k7p. They")


def test_a_claim_without_its_volume_explains_the_pod_that_waits_for_it(seen: Snapshot) -> None:
    remove(seen, "PersistentVolume", "etl-poc-mssql")
    get(seen, "PersistentVolumeClaim", "mssql")["status"]["phase"] = "Lost"
    pod = pod_of(seen, "mssql")
    pod["status"] = {"phase": "Pending"}
    set_condition(pod, "PodScheduled", "False", message='persistentvolumeclaim "mssql" is lost')
    only(seen, "claim-not-bound", "its volume etl-poc-mssql is not there", "(Lost)", follows={"pod-unschedulable"})


def test_a_claim_whose_volume_was_released(seen: Snapshot) -> None:
    get(seen, "PersistentVolume", "etl-poc-loki")["status"]["phase"] = "Released"
    get(seen, "PersistentVolumeClaim", "loki")["status"]["phase"] = "Pending"
    only(seen, "claim-not-bound", "etl-poc-loki is Released", "apply-all.sh")


def test_a_claim_that_nothing_fits(seen: Snapshot) -> None:
    claim = get(seen, "PersistentVolumeClaim", "loki")
    del claim["spec"]["volumeName"]
    claim["status"]["phase"] = "Pending"
    seen.events.append(event(claim, "ProvisioningFailed", 'storageclass "fast" not found'))
    only(seen, "claim-not-bound", 'storageclass "fast" not found')


def test_a_disk_that_is_nearly_full(seen: Snapshot) -> None:
    seen.disks = [Disk(NODE, DISK // 20, DISK, ("etl-poc/metadata", "observability/loki"))]
    words = ("5.0 of 100 GB (5%) are free", "etl-poc/metadata, observability/loki", "VolumeFilling.md")
    only(seen, "volume-nearly-full", *words)


def test_staging_on_a_disk_of_its_own_that_is_nearly_full(seen: Snapshot) -> None:
    seen.answers["staging"] = Answer("file:///var/lib/etl/staging", free=DISK // 100, size=2 * DISK)
    only(seen, "volume-nearly-full", "The disk of staging", "etl-poc/etl-staging")


def test_a_volume_whose_folder_is_gone(seen: Snapshot) -> None:
    pod = pod_of(seen, "prometheus")
    set_state(pod, waiting("ContainerCreating"))
    seen.events.append(event(pod, "FailedMount", 'path "/var/lib/etl-poc/prometheus" does not exist'))
    unready(seen, "prometheus")
    words = ('path "/var/lib/etl-poc/prometheus" does not exist', "mount the disk, or restore the folder")
    only(seen, "mount-failing", *words, follows={"service-without-endpoints"})


@pytest.mark.parametrize(
    ("text", "value"), [("4", 4), ("820m", 0.82), ("12Gi", 12 * 2**30), ("500k", 500_000), ("1G", 1e9)]
)
def test_quantities_are_read_as_kubernetes_writes_them(text: str, value: float) -> None:
    assert quantity(text) == pytest.approx(value)
