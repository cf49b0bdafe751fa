"""After all other tests: the connections during them, from the cluster's log."""

from ipaddress import IPv4Address, IPv4Network

import pytest

from ops.cluster import policy_probe
from ops.cluster.kubectl import NAMESPACES
from tests.cluster.node import network
from tests.cluster.traffic.connections import Connection, read_connections
from tests.faults.misconfigurations import NOBODYS_PORT
from tests.harness.e2e.images import loki_is_a_double
from tests.harness.e2e.probing import NAME, TRIES
from tests.harness.e2e.testbed import OVERLAY, TestBed
from tests.harness.manifests.documents import EVERY_POD, OUTSIDE, SOURCE, Flow, documented_flows

pytestmark = pytest.mark.acceptance
WAYS = ({OVERLAY, "oidc"}, {"multi-node", "external-sink", "git-dags"})
"""The deployed parts."""
OF_NODES = ("TCP 6443", "TCP 10250")
ANY_PORT = "a port of a server outside"
"""A bucket, a repository, a SQL Server or an identity provider of the tests is not at the port of the table."""
NEVER = {
    Flow("airflow-api-server", "airflow-triggerer", "TCP 8794"),
    Flow("airflow-api-server", OUTSIDE, "TCP 6443"),
    Flow("airflow-triggerer", "loki", "TCP 3101"),
    Flow("alertmanager", OUTSIDE, ANY_PORT),
}
"""Connections that these tests do not cause: no task is deferred to the triggerer, no log of a running task is read
while Loki is down, and Alertmanager has no receiver."""
if loki_is_a_double():
    NEVER.add(Flow("loki", OUTSIDE, ANY_PORT))  # it stores nothing in a bucket
LEFT_OUT = {"grafana", "fluent-bit"}
PROBE = policy_probe.LABELS[NAME]
"""The pods with which `apply-all.sh` tries whether policies are enforced: the table does not have them."""
OURS = tuple(f"{namespace}/" for namespace in NAMESPACES)
UNKNOWN = f"{network.PODS.removesuffix('.0.0/16')}."
"""The prefix of pods' addresses that the API never reported."""


@pytest.fixture(scope="module")
def noted(bed: TestBed) -> list[Connection]:
    """Those of the deployment's namespaces, without those of the policy probe."""
    if bed.cluster is None:
        pytest.skip("Only a cluster of our own notes who talks to whom.")
    noted = read_connections(bed.cluster.connections)
    return [one for one in noted if one.source != PROBE and any(pod.startswith(OURS) for pod in one.pods)]


@pytest.fixture(scope="module")
def seen(noted: list[Connection], bed: TestBed) -> set[Flow]:
    """The flows that there were, in the words of the table."""
    return {
        flow_of(one, bed.source_address)
        for one in noted
        if not one.refused and not is_tried(one) and not one.source.startswith(UNKNOWN)
        if not one.target.startswith(UNKNOWN)
    }


@pytest.fixture(scope="module")
def table() -> set[Flow]:
    """The flows of all that was deployed."""
    flows = {flow for way in WAYS for flow in documented_flows(way)}
    outside = {flow for flow in flows if flow.target == OUTSIDE and flow.port not in OF_NODES}
    return flows - outside | {flow._replace(port=ANY_PORT) for flow in outside}


def flow_of(connection: Connection, this_machine: str) -> Flow:
    if connection.pods[1]:
        return Flow(connection.source, connection.target, connection.port)
    if (connection.target, connection.port) == (this_machine, "TCP 5432"):
        return Flow(connection.source, SOURCE, connection.port)
    port = connection.port if connection.port in OF_NODES else ANY_PORT
    return Flow(connection.source, OUTSIDE, port)


def is_tried(connection: Connection) -> bool:
    """Whether the refusal was intended: of a probe pod, or of a source at a wrong port."""
    names = (pod.partition("/")[2] for pod in connection.pods)
    return connection.port == f"TCP {NOBODYS_PORT}" or any(name.startswith(TRIES) for name in names)


def found_no_endpoint(connection: Connection) -> bool:
    """Whether its Service had no endpoints: else its address was replaced by a pod's before policies were applied."""
    return not connection.pods[1] and IPv4Address(connection.target) in IPv4Network(network.SERVICES)


def test_nobody_was_refused_what_it_needed(noted: list[Connection], bed: TestBed) -> None:
    first, second = map(documented_flows, WAYS)
    # A pod in its first seconds is not known to the policies, nor is one that is gone; and when another overlay is
    # applied, the pods of the one before ask for what was theirs until they are replaced.
    refused = [
        one for one in noted
        if one.refused and one.settled and not found_no_endpoint(one)
        if flow_of(one, bed.source_address) not in first ^ second
    ]  # fmt: skip
    assert {(one.pods[0], one.target, one.port) for one in refused if not is_tried(one)} == set()
    # The intended refusals are logged: the log is complete.
    assert any(map(is_tried, refused)) or not any(map(is_tried, noted))


def test_whoever_talked_is_in_the_table(seen: set[Flow], table: set[Flow]) -> None:
    of_every_pod = {(flow.target, flow.port) for flow in table if flow.source == EVERY_POD}
    assert {flow for flow in seen - table if (flow.target, flow.port) not in of_every_pod} == set()


def test_what_is_in_the_table_is_needed(seen: set[Flow], table: set[Flow]) -> None:
    wanted = {flow for flow in table if flow.source != EVERY_POD and not {flow.source, flow.target} & LEFT_OUT}
    assert wanted - NEVER - seen == set()
