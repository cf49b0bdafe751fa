"""NetworkPolicies allow the connections of docs/security.md, at both ends, and nothing else."""

import ipaddress
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache

import pytest

from ops.cluster.kubectl import NAMESPACES
from ops.deploy.manifests.network import API_PORT, PODS_NETWORK, ApiServers, set_api_servers, set_pods_network
from tests.doubles.network_policies import DIRECTIONS, NAME_OF_NAMESPACE, Member, Rule, matches, rules
from tests.harness.manifests.addresses import full_name, servers_in, variables
from tests.harness.manifests.documents import EVERY_POD, IDENTITIES, OUTSIDE, SOURCE, Flow, documented_flows
from tests.harness.manifests.kustomizations import DEFAULT
from tests.harness.manifests.pods import Pod, all_pods, configured_pods, selected
from tests.harness.manifests.rendering import Manifest, Object, Rendering, manifests, rendering, renderings

NAME = "app.kubernetes.io/name"
NAMES, WEB = "kube-dns", "traefik"
SYSTEM = {NAMES: {"k8s-app": NAMES}, WEB: {NAME: WEB}}
"""The labels of the pods of K3s itself that ours talk to, or that talk to ours."""
NOT_USED = {
    "airflow-api-server": {"airflow-api-server", "mssql", SOURCE, "loki TCP 3101"},
    "airflow-scheduler": {"airflow-api-server", "loki"},
    "airflow-dag-processor": {"airflow-api-server", "loki"},
    "airflow-triggerer": {"airflow-api-server", "loki TCP 3100"},
    "airflow-worker": {"loki TCP 3100"},
    "airflow-migrate": {"airflow-api-server", "loki", "statsd-exporter", "pgbouncer"},
    "airflow-clean": {"airflow-api-server", "loki", "statsd-exporter", "pgbouncer"},
    "mssql-init-job": {SOURCE, "statsd-exporter"},
    "sink-backup": {SOURCE, "statsd-exporter"},
    "database-exporter": {SOURCE, "statsd-exporter"},
}
"""Targets in shared settings that a pod never connects to: a whole server, or one port."""

each_rendering = pytest.mark.parametrize("found", renderings(), ids=str)
each_policy = pytest.mark.parametrize("policy", manifests("NetworkPolicy"), ids=str)


def member(namespace: str, labels: Mapping[str, str]) -> Member:
    return Member(namespace, labels, {NAME_OF_NAMESPACE: namespace})


def member_of(pod: Pod) -> Member:
    return member(pod.namespace, pod.labels)


def name_of(pod: Pod) -> str:
    return pod.labels[NAME]


@cache
def others(found: Rendering) -> dict[str, Member]:
    """All that a policy may mean by the labels of a pod, by name."""
    ours = {name_of(pod): member_of(pod) for pod in all_pods(found)}
    return ours | {name: member("kube-system", labels) for name, labels in SYSTEM.items()}


def block_in_words(block: Object, found: Rendering) -> str:
    (slices,) = found.of_kind("EndpointSlice")
    if block == {"cidr": f"{slices['endpoints'][0]['addresses'][0]}/32"}:
        return SOURCE
    if block == {"cidr": "169.254.169.254/32"}:
        return IDENTITIES
    return OUTSIDE if block == {"cidr": "0.0.0.0/0", "except": [PODS_NETWORK]} else str(block)


def far_ends(rule: Rule, found: Rendering) -> Iterator[str]:
    """The other end of a rule, in the words of the table."""
    if not rule.peers:
        yield "anybody"
    for peer in rule.peers:
        if "ipBlock" in peer:
            yield block_in_words(peer["ipBlock"], found)
        yield from (name for name, other in others(found).items() if rule.admits(peer, other))


def allowed(found: Rendering, direction: str) -> set[Flow]:
    """The flows that the policies allow at one end: of the pods that begin them, or of those that are talked to."""
    flows = set()
    for pod in all_pods(found):
        for rule in rules(found.of_kind("NetworkPolicy"), member_of(pod), direction) or []:
            ports = [f"{port.get('protocol', 'TCP')} {port['port']}" for port in rule.ports] or ["any port"]
            for far in far_ends(rule, found):
                ends = (name_of(pod), far) if direction == "Egress" else (far, name_of(pod))
                flows |= {Flow(*ends, port) for port in ports}
    return flows


@cache
def documented(found: Rendering) -> set[Flow]:
    """The table's flows between ends that the rendering has."""
    pods = {name_of(pod) for pod in all_pods(found)}
    ends = others(found).keys() | {SOURCE, OUTSIDE, IDENTITIES}
    flows = {
        flow._replace(source=source)
        for flow in documented_flows(str(found).split("+"))
        for source in (pods if flow.source == EVERY_POD else [flow.source])
    }
    return {flow for flow in flows if {flow.source, flow.target} <= ends}


@each_rendering
def test_what_pods_may_begin_is_what_the_table_says(found: Rendering) -> None:
    ours = {name_of(pod) for pod in all_pods(found)}
    assert allowed(found, "Egress") == {flow for flow in documented(found) if flow.source in ours}


@each_rendering
def test_what_pods_admit_is_what_the_table_says(found: Rendering) -> None:
    ours = {name_of(pod) for pod in all_pods(found)}
    assert allowed(found, "Ingress") == {flow for flow in documented(found) if flow.target in ours}


def test_the_table_names_nobody_who_is_not_there() -> None:
    ends = {SOURCE, OUTSIDE, IDENTITIES, EVERY_POD}.union(
        *(others(rendering(name)) for name in (DEFAULT, "multi-node"))
    )
    for parts in ((DEFAULT, "managed-identity"), ("multi-node", "external-sink", "git-dags", "service-principal")):
        assert {end for flow in documented_flows(parts) for end in (flow.source, flow.target)} <= ends


@each_rendering
def test_every_namespace_refuses_whatever_no_policy_allows(found: Rendering) -> None:
    stranger = {namespace: member(namespace, {}) for namespace in NAMESPACES}
    for direction in DIRECTIONS:
        for namespace in NAMESPACES:
            applied = rules(found.of_kind("NetworkPolicy"), stranger[namespace], direction)
            assert applied is not None
            assert [name for rule in applied for name in far_ends(rule, found)] == ([NAMES] * (direction == "Egress"))


@each_rendering
def test_the_token_endpoint_of_the_node_is_reached_only_where_its_identities_log_in(found: Rendering) -> None:
    """It gives a token of every identity of the machine to all who ask."""
    asked = {flow.source for flow in allowed(found, "Egress") if flow.target == IDENTITIES}
    used = "managed-identity" in str(found).split("+")
    assert asked == ({"airflow-worker", "etl", "mssql-init-job", "database-exporter"} if used else set())


@each_policy
def test_a_policy_is_about_pods_that_there_are(policy: Manifest) -> None:
    assert "policyTypes" in policy.spec
    namespace = policy.object["metadata"]["namespace"]
    pods = [pod for pod in configured_pods(policy.rendering) if pod.namespace == namespace]
    assert any(matches(policy.spec["podSelector"], pod.labels) for pod in pods)


@each_rendering
def test_a_pod_is_talked_to_at_ports_that_it_has(found: Rendering) -> None:
    has = {
        (name_of(pod), f"{port.get('protocol', 'TCP')} {port['containerPort']}")
        for pod in all_pods(found)
        for container in pod.containers
        for port in container.content.get("ports", [])
    }
    ours = {name_of(pod) for pod in all_pods(found)}
    assert {(flow.target, flow.port) for flow in documented(found) if flow.target in ours} <= has


def service_ends(found: Rendering) -> dict[tuple[str, int], str]:
    """The owner of each port of a Service, in the words of the table."""
    ends = {}
    for service in found.of_kind("Service"):
        behind = selected(found, service["spec"].get("selector") or {})
        for port in service["spec"]["ports"]:
            name = full_name(service["metadata"]["name"], service["metadata"]["namespace"])
            ends[name, port["port"]] = name_of(behind[0]) if behind else SOURCE
    return ends


def texts(pod: Pod) -> list[str]:
    """All of a pod's settings: its variables, and the files that it mounts."""
    mounted = [volume["configMap"]["name"] for volume in pod.volumes if "configMap" in volume]
    # The scheduler's file is the template of its workers.
    files = [pod.rendering.find("ConfigMap", name) for name in mounted if name != "airflow-pod-template"]
    return [*variables(pod), *(text for file in files if file for text in file["data"].values())]


def asked(pod: Pod) -> set[Flow]:
    """The targets in a pod's settings: Services, StatsD, and the pods that Prometheus discovers."""
    ends, flows = service_ends(pod.rendering), set()
    for text in texts(pod):
        for server in servers_in(text, pod.namespace) & ends.keys():
            flows.add(Flow(name_of(pod), ends[server], f"TCP {server[1]}"))
        for name, port in re.findall(r"regex: ([a-z][a-z-]+);(\d+)", text):
            flows.add(Flow(name_of(pod), name, f"TCP {port}"))
    for container in pod.containers:
        for variable, host in container.environment().items():
            if variable.endswith("STATSD_HOST"):
                flows.add(Flow(name_of(pod), ends[full_name(host, pod.namespace), 8125], "UDP 8125"))
    return {flow for flow in flows if flow.target in {*others(pod.rendering), SOURCE}}


@each_rendering
def test_what_a_pod_is_told_to_talk_to_it_may_talk_to(found: Rendering) -> None:
    told = {flow for pod in all_pods(found) for flow in asked(pod)}
    unused = {flow for flow in told if {flow.target, f"{flow.target} {flow.port}"} & NOT_USED.get(flow.source, set())}
    assert len(told - unused) > 20
    assert told - unused <= documented(found)
    assert not unused & documented(found)


@each_rendering
def test_the_network_of_pods_is_that_of_the_cluster_wherever_it_is_named(found: Rendering) -> None:
    objects = json.loads(json.dumps(found.objects))
    set_pods_network(objects, [ipaddress.ip_network("10.77.0.0/16")])
    text = json.dumps(objects)
    assert text.count("10.77.0.0/16") > 5
    assert "10.42." not in text


@each_rendering
def test_at_the_port_of_the_kubernetes_api_nothing_else_is_reached(found: Rendering) -> None:
    """By apply-all.sh, which knows the API's address; the manifests do not."""
    objects = json.loads(json.dumps(found.objects))
    set_api_servers(objects, ApiServers(("203.0.113.5",), (API_PORT,)))
    policies = [item for item in objects if item["kind"] == "NetworkPolicy"]
    to_api = {
        item["metadata"]["name"]: rule["to"]
        for item in policies
        for rule in item["spec"].get("egress") or []
        if {"port": API_PORT} in rule.get("ports", [])
    }
    assert set(to_api) >= {"airflow-api-server", "airflow-scheduler", "airflow-worker", "prometheus"}
    assert all(ends == [{"ipBlock": {"cidr": "203.0.113.5/32"}}] for ends in to_api.values())


@each_rendering
def test_whom_an_ingress_leads_to_admits_the_controller(found: Rendering) -> None:
    ends = service_ends(found)
    for ingress in found.of_kind("Ingress"):
        (rule,) = ingress["spec"]["rules"]
        for path in rule["http"]["paths"]:
            backend, namespace = path["backend"]["service"], ingress["metadata"]["namespace"]
            service = found.find("Service", backend["name"])
            assert service
            (number,) = [one["port"] for one in service["spec"]["ports"] if one["name"] == backend["port"]["name"]]
            end = ends[full_name(backend["name"], namespace), number]
            assert Flow(WEB, end, f"TCP {number}") in documented(found)
