"""In the running cluster: the worker's and the scheduler's accounts may create their kinds of pods, and no others."""

import json
import subprocess

import pytest

from tests.harness.e2e.deployment import Deployment
from tests.harness.manifests.launched_pods import SCHEDULER, WORKER, Attack, each_attack, sound
from tests.harness.manifests.rendering import Object

pytestmark = pytest.mark.acceptance


def refusal(deployment: Deployment, account: str, pod: Object) -> str:
    """The API server's refusal of a pod of an account; empty if it would create the pod."""
    command = ["kubectl", "create", "--dry-run=server", f"--as=system:serviceaccount:{account}", "--filename=-"]
    ran = subprocess.run(
        command, env=deployment.environment, input=json.dumps(pod), capture_output=True, text=True, check=False
    )
    return ran.stderr if ran.returncode else ""


@pytest.mark.parametrize("account", [WORKER, SCHEDULER])
def test_a_pod_of_its_own_kind_is_made(first_run: str, deployment: Deployment, account: str) -> None:
    assert not refusal(deployment, account, sound(account))


@each_attack
def test_a_pod_beyond_it_is_refused(first_run: str, deployment: Deployment, account: str, attack: Attack) -> None:
    assert attack.told in refusal(deployment, account, attack.of(sound(account)))


def test_the_way_to_the_kubernetes_api_leads_to_its_servers_alone(first_run: str, deployment: Deployment) -> None:
    (service,) = deployment.objects("endpointslices", "--namespace=default", "--selector=kubernetes.io/service-name")
    servers = {f"{address}/32" for end in service["endpoints"] for address in end["addresses"]}
    (policy,) = deployment.objects("networkpolicies", "--field-selector=metadata.name=airflow-worker")
    ports = [port["port"] for port in service["ports"]]
    to_api = [rule["to"] for rule in policy["spec"]["egress"] if [port["port"] for port in rule["ports"]] == ports]
    assert [{peer["ipBlock"]["cidr"] for peer in ends} for ends in to_api] == [servers]
