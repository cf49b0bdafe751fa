"""A step's pod is restricted and bounded, its exit code decides on a retry, and a killed step is never a success."""

import json
import os
import re
import signal
import stat
import threading
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import structlog
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.common.compat.sdk import AirflowException
from airflow.sdk.exceptions import AirflowFailException
from airflow.sdk.observability import stats
from etl.errors import ExitCode
from etl_airflow.pods import last_line
from etl_airflow.pods.operator import EtlPodOperator
from kubernetes.client import models as k8s
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import ProtocolError

from dev.sandbox.pipelines import ORDERS, make, whole

PARTITION = whole().model_dump_json()


@pytest.fixture
def operator() -> EtlPodOperator:
    return EtlPodOperator.for_step("load", make(ORDERS), PARTITION)


@pytest.fixture
def pod(operator: EtlPodOperator) -> k8s.V1Pod:
    with mock.patch.object(EtlPodOperator, "hook"):
        return operator.build_pod_request_obj(dry_run=True)


def test_the_pod_runs_the_step_in_the_etl_image(pod: k8s.V1Pod) -> None:
    container = pod.spec.containers[0]
    assert not container.command  # the image's entry point is an init: signals reach the step
    assert container.args == ["etl", "load", "--run-id", "{{ run_id }}", "--partition", PARTITION]
    assert not container.image.endswith(":latest")
    assert container.image_pull_policy == "IfNotPresent"
    assert {variable.name for variable in container.env} == {"ETL_PIPELINE"}


def test_a_container_gets_keys_and_filters_as_they_are() -> None:
    """As the kubelet expands what it is handed: `$$` is a dollar, `$(NAME)` the value of a variable that there is."""
    partition = whole().model_copy(update={"lower": ["a$(SINK_PASSWORD)"], "upper": ["b$$(X) $$ $"]}).model_dump_json()
    pipeline = make({**ORDERS, "filter": "status <> 'US$$ $(SINK_PASSWORD)'"})
    operator = EtlPodOperator.for_step("load", pipeline, partition)
    with mock.patch.object(EtlPodOperator, "hook"):
        (container,) = operator.build_pod_request_obj(dry_run=True).spec.containers

    def expanded(text: str) -> str:
        return re.sub(r"\$\$|\$\(SINK_PASSWORD\)", lambda found: "$" if found[0] == "$$" else "secret", text)

    assert expanded(container.args[-1]) == partition
    assert expanded(container.env[0].value) == pipeline.model_dump_json()


@pytest.mark.parametrize("field", ["kube_config", "kube_config_path"])
def test_a_connection_that_somebody_edited_runs_no_program(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, field: str
) -> None:
    """An editor of connections puts a kubeconfig there, which runs a program to log in."""
    ran = tmp_path / "ran"
    program = {"apiVersion": "client.authentication.k8s.io/v1", "command": "touch", "args": [str(ran)]}
    config = {
        "clusters": [{"name": "one", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "one", "user": {"exec": program | {"interactiveMode": "Never"}}}],
        "contexts": [{"name": "one", "context": {"cluster": "one", "user": "one"}}],
        "current-context": "one",
    }
    file = tmp_path / "config"
    file.write_text(json.dumps(config))
    extra = {field: config if field == "kube_config" else str(file)}
    monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", json.dumps({"conn_type": "kubernetes", "extra": extra}))
    with suppress(AirflowException):  # the connection says more than is allowed
        _ = EtlPodOperator.for_step("load", make(ORDERS), PARTITION).client
    assert not ran.exists()


def test_the_pod_is_restricted(pod: k8s.V1Pod) -> None:
    assert pod.spec.security_context.run_as_non_root
    assert pod.spec.security_context.seccomp_profile.type == "RuntimeDefault"
    assert pod.spec.automount_service_account_token is False
    security = pod.spec.containers[0].security_context
    assert security.allow_privilege_escalation is False
    assert security.read_only_root_filesystem
    assert security.capabilities.drop == ["ALL"]


def test_the_pod_is_bounded_and_labelled(pod: k8s.V1Pod) -> None:
    resources = pod.spec.containers[0].resources
    assert {"cpu", "memory"} <= set(resources.requests)
    assert "memory" in resources.limits
    assert pod.metadata.labels["app.kubernetes.io/name"] == "etl"
    assert pod.metadata.labels["app.kubernetes.io/component"] == "load"


def test_the_pod_has_its_ids_as_annotations(pod: k8s.V1Pod) -> None:
    assert pod.metadata.annotations == {
        "pipeline": "orders",
        "step": "load",
        "run_id": "{{ run_id }}",
        "partition": whole().id,
    }


def ended(exit_code: int) -> k8s.V1Pod:
    """A pod as the API shows it after its container ended so."""
    terminated = k8s.V1ContainerStateTerminated(exit_code=exit_code, message="the last line")
    status = k8s.V1ContainerStatus(
        name="base", image="etl", image_id="etl", ready=False, restart_count=0,
        state=k8s.V1ContainerState(terminated=terminated),
    )  # fmt: skip
    phase = "Succeeded" if exit_code == 0 else "Failed"
    return k8s.V1Pod(
        metadata=k8s.V1ObjectMeta(name="pod", namespace="etl-poc"),
        spec=k8s.V1PodSpec(containers=[k8s.V1Container(name="base")]),
        status=k8s.V1PodStatus(phase=phase, container_statuses=[status]),
    )


@pytest.mark.parametrize(
    ("exit_code", "raised"),
    [
        (ExitCode.CONFIGURATION, AirflowFailException),
        (ExitCode.DATA, AirflowFailException),
        (ExitCode.USAGE, AirflowFailException),
        (ExitCode.TRY_AGAIN, AirflowException),
        (ExitCode.UNEXPECTED, AirflowException),
        (137, AirflowException),
    ],
)
def test_only_failures_that_may_pass_are_retried(
    operator: EtlPodOperator, exit_code: int, raised: type[Exception]
) -> None:
    with mock.patch.object(EtlPodOperator, "client"), pytest.raises(AirflowException) as caught:
        operator.cleanup(ended(exit_code), ended(exit_code))
    assert isinstance(caught.value, AirflowFailException) == (raised is AirflowFailException)
    assert "the last line" in str(caught.value)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            '{"event": "one"}\n{"event": "orders: no such table.", "level": "error"}\n',
            "cannot help: orders: no such table.",
        ),
        ("the last line", "cannot help: the last line"),
        ("", "cannot help: it logged nothing"),
    ],
)
def test_what_a_failed_step_said_last_is_the_tasks_error(operator: EtlPodOperator, words: str, told: str) -> None:
    pod = ended(ExitCode.CONFIGURATION)
    pod.status.container_statuses[0].state.terminated.message = words
    with mock.patch.object(EtlPodOperator, "client"), pytest.raises(AirflowFailException) as caught:
        operator.cleanup(pod, pod)
    assert last_line.sentence(caught.value).endswith(told)


def test_a_step_that_was_killed_or_evicted_says_by_what(operator: EtlPodOperator) -> None:
    killed, evicted = ended(137), ended(1)
    killed.status.container_statuses[0].state.terminated.reason = "OOMKilled"
    evicted.status.container_statuses = None
    evicted.status.reason, evicted.status.message = "Evicted", "The node was low on resource: ephemeral-storage."
    for pod, told in ((killed, "exit code 137 (OOMKilled)"), (evicted, "Evicted: The node was low on resource")):
        with mock.patch.object(EtlPodOperator, "client"), pytest.raises(AirflowException) as caught:
            operator.cleanup(pod, pod)
        assert told in last_line.sentence(caught.value)
        assert len(last_line.sentence(caught.value)) < 200


def test_a_pod_that_ended_well_is_a_success(operator: EtlPodOperator) -> None:
    with mock.patch.object(EtlPodOperator, "client"):
        operator.cleanup(ended(0), ended(0))


def test_a_killed_pod_is_never_a_success(operator: EtlPodOperator) -> None:
    def killed_while_waiting(self: EtlPodOperator, _: Any) -> None:
        self.on_kill()  # what the provider does then, it calls a success

    with (
        mock.patch.object(KubernetesPodOperator, "execute", killed_while_waiting),
        pytest.raises(AirflowException, match="killed"),
    ):
        operator.execute({"ti": mock.Mock()})


@pytest.fixture
def log_of_pod(operator: EtlPodOperator, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let the operator follow a pod whose API answers so; returns what it logged."""
    operator._times = [datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC) for second in (0, 2)]

    def follow(readings: list[Any], phases: list[Any]) -> list[dict[str, Any]]:
        client = mock.Mock()
        client.read_namespaced_pod_log.side_effect = [
            reading if isinstance(reading, Exception) else mock.Mock(stream=lambda reading=reading, **_: iter(reading))
            for reading in readings
        ]
        client.read_namespaced_pod.side_effect = phases
        monkeypatch.setattr(EtlPodOperator, "client", client)
        monkeypatch.setattr(EtlPodOperator, "hook", mock.Mock())
        with structlog.testing.capture_logs() as lines:
            operator.await_pod_completion(ended(0))
            operator.pod_manager.await_pod_completion(ended(0))  # as the provider goes on
        return [dict(line) for line in lines]

    return follow


def running() -> k8s.V1Pod:
    made = ended(0)
    made.status.phase = "Running"
    made.status.container_statuses[0].state = k8s.V1ContainerState(running=k8s.V1ContainerStateRunning())
    return made


def lost() -> k8s.V1Pod:
    """As the scheduler leaves the pod of a node that does not answer: the state of its container is unknown."""
    made = running()
    made.status.phase, made.status.reason, made.status.message = "Failed", "NodeLost", "Node second does not answer."
    return made


def test_the_pods_lines_are_in_the_tasks_log_once_with_their_fields(log_of_pod: Any) -> None:
    first = b'2026-01-01T00:00:00.1Z {"event": "extracted", "level": "warning", "rows": 5, "partition": "0001"}\n'
    second = b"2026-01-01T00:00:00.2Z Killed\n"
    lines = log_of_pod([[first], ProtocolError("broken"), [first, second]], [running(), running(), ended(0), ended(0)])
    assert [(line["event"], line["log_level"]) for line in lines] == [("extracted", "warning"), ("Killed", "info")]
    assert (lines[0]["rows"], lines[0]["partition"]) == (5, "0001")


def test_where_the_seconds_of_a_step_went_is_measured(log_of_pod: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: dict[str, float] = {}
    monkeypatch.setattr(stats, "timing", lambda _, milliseconds, tags: sent.update({tags["phase"]: milliseconds}))
    lines = b"2026-01-01T00:00:05Z one\n2026-01-01T00:00:09Z two\n"
    log_of_pod([[lines]], [ended(0), ended(0)])
    assert (sent["launch"], sent["start"], sent["work"]) == (2000, 3000, 4000)
    assert sent["notice"] > 0


def test_a_pod_that_vanishes_is_told_and_fails_the_task(log_of_pod: Any) -> None:
    gone = ApiException(status=404, reason="Not Found")
    with pytest.raises(ApiException, match="Not Found"):
        log_of_pod([gone] * 5, [gone] * 6)


def test_a_pod_whose_node_is_lost_has_ended_and_its_log_is_not_asked_for(log_of_pod: Any, operator: Any) -> None:
    lines = log_of_pod([[b"2026-01-01T00:00:00.1Z one\n"], AssertionError], [running(), *[lost()] * 9])
    assert [line["event"] for line in lines if line["log_level"] == "info"] == ["one"]
    with pytest.raises(AirflowException, match=r"NodeLost: Node second does not answer"):
        operator.cleanup(lost(), lost())


def test_the_pod_that_never_started_on_a_lost_node_says_so(operator: EtlPodOperator) -> None:
    waiting = k8s.V1Pod(metadata=k8s.V1ObjectMeta(name="pod"), status=k8s.V1PodStatus(phase="Pending"))
    client = mock.Mock(read_namespaced_pod=lambda *_: lost())
    with mock.patch.object(EtlPodOperator, "client", client), pytest.raises(AirflowException, match="NodeLost"):
        operator.cleanup(waiting, waiting)


def test_steps_are_spread_over_nodes_and_leave_one_that_does_not_answer(pod: k8s.V1Pod) -> None:
    (constraint,) = pod.spec.topology_spread_constraints
    assert constraint.topology_key == "kubernetes.io/hostname"
    assert constraint.label_selector.match_labels.items() <= pod.metadata.labels.items()
    waits = {toleration.key: toleration.toleration_seconds for toleration in pod.spec.tolerations}
    assert waits == {"node.kubernetes.io/not-ready": 30, "node.kubernetes.io/unreachable": 30}


@pytest.fixture
def process(operator: EtlPodOperator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Run the operator as a process, with a shell script in place of `etl`."""

    def run(script: str) -> None:
        command = tmp_path / "etl"
        command.write_text(f"#!/bin/sh\n{script}\n")
        command.chmod(command.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        monkeypatch.setenv("ETL_RUNNER", "process")
        operator.execute({})

    return run


def test_as_a_process_it_runs_the_very_same_command_line(process: Any, tmp_path: Path) -> None:
    process(f'printf "%s\\n" "$@" "$ETL_PIPELINE" > {tmp_path}/seen')
    seen = (tmp_path / "seen").read_text().splitlines()
    assert seen == ["load", "--run-id", "{{ run_id }}", "--partition", PARTITION, make(ORDERS).model_dump_json()]


def test_as_a_process_exit_codes_mean_the_same(process: Any) -> None:
    with pytest.raises(AirflowFailException, match="exit code 78, a retry cannot help: no such table"):
        process("echo no such table; exit 78")
    with pytest.raises(AirflowException, match="exit code 75: later"):
        process("echo later; exit 75")


def test_as_a_process_it_ends_when_the_task_is_killed(operator: EtlPodOperator, process: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "started")

    def kill_once_started() -> None:
        (tmp_path / "started").read_text()
        operator.on_kill()

    killer = threading.Thread(target=kill_once_started)
    killer.start()
    with pytest.raises(AirflowException, match="killed"):
        process(f"echo > {tmp_path}/started; exec sleep 60")
    killer.join()
    assert operator._process.returncode == -signal.SIGTERM
