"""The end of a step's pod is taken from its container's, and ends the reading of its log."""

import threading
from typing import Any
from unittest import mock

import pytest
from airflow.providers.cncf.kubernetes.utils.pod_manager import PodManager
from etl_airflow.pods import completion
from etl_airflow.pods.completion import StepPodManager, end_stream_with_container
from kubernetes.client import models as k8s
from kubernetes.client.exceptions import ApiException

NAME = k8s.V1ObjectMeta(name="pod", namespace="etl-poc")


def pod(exit_code: int | None) -> k8s.V1Pod:
    """A pod of which the API says that it runs; its container has ended, or runs too (None)."""
    state = (
        k8s.V1ContainerState(running=k8s.V1ContainerStateRunning())
        if exit_code is None
        else k8s.V1ContainerState(terminated=k8s.V1ContainerStateTerminated(exit_code=exit_code))
    )
    status = k8s.V1ContainerStatus(name="base", image="etl", image_id="etl", ready=False, restart_count=0, state=state)
    return k8s.V1Pod(metadata=NAME, status=k8s.V1PodStatus(phase="Running", container_statuses=[status]))


@pytest.mark.parametrize(("exit_code", "phase"), [(0, "Succeeded"), (75, "Failed"), (137, "Failed")])
def test_a_pod_has_ended_as_its_container_has(exit_code: int, phase: str) -> None:
    client = mock.Mock()
    client.read_namespaced_pod.return_value = pod(exit_code)
    assert StepPodManager(client).await_pod_completion(pod(None)).status.phase == phase


def test_a_pod_whose_container_did_not_end_is_waited_for_as_always(monkeypatch: pytest.MonkeyPatch) -> None:
    client, evicted = mock.Mock(), k8s.V1Pod(metadata=NAME, status=k8s.V1PodStatus(phase="Failed"))
    client.read_namespaced_pod.return_value = pod(None)
    monkeypatch.setattr(PodManager, "await_pod_completion", lambda *_: evicted)
    assert StepPodManager(client).await_pod_completion(pod(None)) is evicted


class Stream:
    """A stream of a log that says when it is ended."""

    def __init__(self) -> None:
        self.closed = False
        self.ended = threading.Event()

    def shutdown(self) -> None:
        self.ended.set()


def watching(monkeypatch: pytest.MonkeyPatch, *events: Any) -> None:
    """Let a watch see these pods, one after the other; an exception breaks it off."""

    def stream(*_: object, **__: object) -> Any:
        for event in events:
            if isinstance(event, Exception):
                raise event
            yield {"object": event}

    monkeypatch.setattr(completion, "Watch", lambda: mock.Mock(stream=stream))


def test_the_stream_of_the_log_ends_with_the_container(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream()
    watching(monkeypatch, pod(None), pod(0))
    end_stream_with_container(mock.Mock(), pod(None), "base", stream)
    assert stream.ended.wait(10)


def test_the_stream_of_the_log_ends_with_a_pod_that_failed_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    stream, lost = Stream(), pod(None)
    lost.status.phase = "Failed"
    watching(monkeypatch, pod(None), lost)
    end_stream_with_container(mock.Mock(), pod(None), "base", stream)
    assert stream.ended.wait(10)


def test_where_it_cannot_be_watched_the_stream_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream()
    watching(monkeypatch, ApiException(status=403))
    end_stream_with_container(mock.Mock(), pod(None), "base", stream)
    for thread in threading.enumerate():
        if thread.name == "end-of-container":
            thread.join(10)
    assert not stream.ended.is_set()
