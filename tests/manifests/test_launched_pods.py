"""The pods that worker and scheduler may create, and those refused, on a real API server with the rendered overlay."""

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from http import HTTPStatus
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException

from dev.sandbox.waiting import wait_for
from ops.cluster.kubectl import Kubectl
from ops.deploy.down import objects_to_delete
from ops.deploy.manifests import rendering as deployed
from ops.deploy.manifests.launched_pods import IMAGES_BEFORE
from ops.deploy.manifests.pruning import obsolete_objects
from tests.harness.kubernetes_api import ApiServer, run_api_server
from tests.harness.manifests.kustomizations import DEFAULT
from tests.harness.manifests.launched_pods import NAME, SCHEDULER, WORKER, Attack, container, each_attack, named, sound
from tests.harness.manifests.pods import pods_of, step, worker
from tests.harness.manifests.rendering import NAMESPACE, Object, Rendering, kubectl, name_of, rendering, renderings

ACCESS = ("Namespace", "ServiceAccount", "Role", "RoleBinding")
POLICY = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
LEARNT_SECONDS = 60
"""So long the API server may take to know a policy or its settings that have changed."""


def settings_of(found: Rendering) -> Object:
    settings = found.find("ConfigMap", "airflow-common")
    assert settings
    return deepcopy(settings)


def refusal(call: Callable[..., Any], *arguments: Any, **named: Any) -> str:
    """The reason for which the API server refuses a call, in a dry run; empty if it does not."""
    try:
        call(*arguments, dry_run="All", **named)
    except ApiException as error:
        if error.status != HTTPStatus.FORBIDDEN:  # an object that makes no sense is none that was refused
            raise
        return str(json.loads(error.body)["message"])
    return ""


def admitted(server: ApiServer, account: str, pod: Object) -> bool:
    return not refusal(server.pods(account).create_namespaced_pod, NAMESPACE, pod)


def stranger() -> Object:
    """A step with a foreign image."""
    attack = Attack(lambda pod: container(pod).update(image="evil.example.com/x"), "")
    return attack.of(sound(WORKER, "stranger"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with run_api_server(tmp_path_factory.mktemp("api-server")) as running:
        default = rendering(DEFAULT)
        account = {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": NAMESPACE},
        }
        running.apply(default.of_kind("Namespace"))
        running.apply([*default.of_kind(*ACCESS, *POLICY), account, settings_of(default)])
        wait_for(lambda: not admitted(running, WORKER, stranger()), LEARNT_SECONDS)
        yield running


@pytest.fixture
def live(server: ApiServer) -> Iterator[dict[str, Object]]:
    """Pods that are there: of a server, a worker and a step."""
    default, api = rendering(DEFAULT), server.pods()
    database = next(pod for pod in pods_of(default) if pod.owner == "StatefulSet/mssql")
    made = {"mssql": database.content, "worker": worker(default).content, "step": step(default).content}
    for name, content in made.items():
        api.create_namespaced_pod(NAMESPACE, named(content, f"live-{name}"))
    yield made
    for name in made:
        api.delete_namespaced_pod(f"live-{name}", NAMESPACE, grace_period_seconds=0)


@each_attack
def test_a_pod_beyond_its_own_kind_is_refused(server: ApiServer, account: str, attack: Attack) -> None:
    told = refusal(server.pods(account).create_namespaced_pod, NAMESPACE, attack.of(sound(account)))
    assert attack.told in told


@pytest.mark.parametrize("found", renderings(), ids=str)
def test_steps_and_workers_of_every_overlay_are_admitted(server: ApiServer, found: Rendering) -> None:
    server.apply([settings_of(found)])
    stock = named(step(found).content, "stock")
    stock["metadata"]["labels"] = {"dag_id": "one", "kubernetes_pod_operator": "True"}
    pods = [
        (WORKER, named(step(found).content, "made")),
        (WORKER, stock),
        (SCHEDULER, named(worker(found).content, "made")),
    ]
    try:
        for account, pod in pods:
            wait_for(partial(admitted, server, account, pod), LEARNT_SECONDS)
    finally:
        server.apply([settings_of(rendering(DEFAULT))])


CHANGES: dict[str, tuple[str, str, Object]] = {
    "a worker notes that it has looked at its step": (WORKER, "step", {"labels": {"already_checked": "True"}}),
    "a scheduler takes over a worker": (SCHEDULER, "worker", {"labels": {"airflow-worker": "7"}}),
    "a scheduler notes that a worker is done": (SCHEDULER, "worker", {"labels": {"airflow_executor_done": "True"}}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_launcher_may_label_its_pods(server: ApiServer, live: dict[str, Object], name: str) -> None:
    account, pod, metadata = CHANGES[name]
    assert not refusal(server.pods(account).patch_namespaced_pod, f"live-{pod}", NAMESPACE, {"metadata": metadata})


@pytest.mark.parametrize("pod", ["mssql", "worker", "step"])
@pytest.mark.parametrize("account", [WORKER, SCHEDULER])
def test_no_launcher_changes_an_image_or_what_a_pod_is_of(
    server: ApiServer, live: dict[str, Object], account: str, pod: str
) -> None:
    patch = server.pods(account).patch_namespaced_pod
    image = {"spec": {"containers": [{"name": live[pod]["spec"]["containers"][0]["name"], "image": "localhost/etl:9"}]}}
    assert refusal(patch, f"live-{pod}", NAMESPACE, image)
    for label in {"mssql", "etl", "airflow-worker"} - {live[pod]["metadata"]["labels"][NAME]}:
        assert refusal(patch, f"live-{pod}", NAMESPACE, {"metadata": {"labels": {NAME: label}}})
        change = {"metadata": {"labels": {NAME: label}}, "status": {"phase": "Failed"}}
        assert refusal(server.pods(account).patch_namespaced_pod_status, f"live-{pod}", NAMESPACE, change)


def test_pods_of_workers_and_steps_are_deleted_and_no_others(server: ApiServer, live: dict[str, Object]) -> None:
    for account in (WORKER, SCHEDULER):  # a worker what ended runs have left, the scheduler what a lost node has
        delete = server.pods(account).delete_namespaced_pod
        refused = {pod: refusal(delete, f"live-{pod}", NAMESPACE, grace_period_seconds=0) for pod in live}
        assert {pod for pod, told in refused.items() if told} == {"mssql"}


def test_a_scheduler_gives_up_pods_of_workers_and_steps_and_no_others(
    server: ApiServer, live: dict[str, Object]
) -> None:
    patch = server.pods(SCHEDULER).patch_namespaced_pod_status
    status = {"status": {"phase": "Failed", "reason": "NodeLost", "message": "Node one does not answer."}}
    refused = {pod for pod in live if refusal(patch, f"live-{pod}", NAMESPACE, status)}
    assert refused == {"mssql"}


def test_what_the_version_before_runs_goes_on_through_an_upgrade(server: ApiServer, live: dict[str, Object]) -> None:
    default = rendering(DEFAULT)
    newer = settings_of(default)
    newer["data"] |= {"ETL_IMAGE": "localhost/etl:9", "AIRFLOW__KUBERNETES_EXECUTOR__WORKER_CONTAINER_TAG": "9"}
    older = {who: sound(who) for who in (WORKER, SCHEDULER)}

    def refused() -> set[str]:
        return {who for who, pod in older.items() if not admitted(server, who, pod)}

    try:
        server.apply([newer])
        wait_for(lambda: refused() == {WORKER, SCHEDULER}, LEARNT_SECONDS)
        # An existing pod is followed to its end, whatever its image.
        for account, pod, metadata in CHANGES.values():
            change = {"metadata": metadata}
            assert not refusal(server.pods(account).patch_namespaced_pod, f"live-{pod}", NAMESPACE, change)
            assert not refusal(server.pods(account).delete_namespaced_pod, f"live-{pod}", NAMESPACE)
        before = (container(pod)["image"] for pod in older.values())
        newer["metadata"]["annotations"] = {IMAGES_BEFORE: " ".join(before)}  # as apply-all.sh does
        server.apply([newer])
        wait_for(lambda: not refused(), LEARNT_SECONDS)
    finally:
        server.apply([settings_of(default)])
        wait_for(lambda: not refused(), LEARNT_SECONDS)


def test_tasks_of_ones_own_may_have_images_that_are_named(server: ApiServer) -> None:
    default = rendering(DEFAULT)
    more = settings_of(default)
    more["data"]["ETL_FURTHER_IMAGES"] = "registry.example.com/dbt:1 registry.example.com/soda@sha256:0"
    pod = sound(WORKER)
    container(pod)["image"] = "registry.example.com/dbt:1"
    try:
        assert "ETL_FURTHER_IMAGES" in refusal(server.pods(WORKER).create_namespaced_pod, NAMESPACE, pod)
        server.apply([more])
        wait_for(lambda: admitted(server, WORKER, pod), LEARNT_SECONDS)
    finally:
        server.apply([settings_of(default)])
        wait_for(lambda: not admitted(server, WORKER, pod), LEARNT_SECONDS)


def test_whoever_is_no_launcher_makes_what_his_role_says(server: ApiServer) -> None:
    """The controllers of workloads; apply-all.sh, doctor.sh and restore.sh, which also choose a node."""
    for pod in pods_of(rendering(DEFAULT)):
        if pod.namespace == NAMESPACE:
            content = named(pod.content, "made")
            content["spec"]["nodeName"] = "one"
            assert admitted(server, "", content), pod


def test_without_the_settings_nobody_else_is_kept_from_anything(server: ApiServer) -> None:
    pods = server.pods()
    database = next(pod for pod in pods_of(rendering(DEFAULT)) if pod.owner == "StatefulSet/mssql")
    pods.delete_namespaced_config_map("airflow-common", NAMESPACE)
    try:
        wait_for(
            lambda: admitted(server, WORKER, stranger()), LEARNT_SECONDS
        )  # the API server knows that they are gone
        pods.create_namespaced_pod(NAMESPACE, named(database.content, "made"))
        pods.patch_namespaced_pod_status("made", NAMESPACE, {"status": {"phase": "Running"}})
        pods.delete_namespaced_pod("made", NAMESPACE, grace_period_seconds=0)
    finally:
        server.apply([settings_of(rendering(DEFAULT))])
        wait_for(lambda: not admitted(server, WORKER, stranger()), LEARNT_SECONDS)


@pytest.mark.parametrize("account", [WORKER, SCHEDULER])
def test_no_launcher_removes_the_settings(server: ApiServer, account: str) -> None:
    assert refusal(server.pods(account).delete_namespaced_config_map, "airflow-common", NAMESPACE)
    assert refusal(server.pods(account).patch_namespaced_config_map, "airflow-common", NAMESPACE, {"data": {}})


def test_the_rules_are_applied_twice_and_go_with_airflow(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    default = rendering(DEFAULT)
    policies = default.of_kind(*POLICY)
    names = {name_of(item) for item in policies}
    before = server.versions()
    server.apply(policies)
    assert server.versions() == before
    # `down` takes them with Airflow, after what is in the namespace; `up` where no overlay has them any more.
    gone = [
        name_of(item) for item in objects_to_delete(deployed.Rendering(default.objects, []), ["airflow"], data=False)
    ]
    assert set(gone[-2:]) == names
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig))
    monkeypatch.setenv("PATH", str(kubectl().parent), prepend=":")
    without = deployed.Rendering([item for item in default.objects if item not in policies], [])
    assert {name_of(item) for item in obsolete_objects(Kubectl(), without)} == names
