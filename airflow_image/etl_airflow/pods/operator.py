"""Operator of an ETL step: runs it in a pod, or as a local process without a cluster."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import cached_property
from http import HTTPStatus
from typing import Any, NoReturn, Self

from airflow.providers.cncf.kubernetes.backcompat.backwards_compat_converters import convert_env_vars_or_raise_error
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.common.compat.sdk import AirflowException, AirflowSkipException
from airflow.sdk.exceptions import AirflowFailException
from etl.errors import DO_NOT_RETRY
from etl.model.pipeline import Pipeline
from kubernetes.client import models as k8s
from kubernetes.client.exceptions import ApiException

from etl_airflow import metrics
from etl_airflow.pods import completion, log_follower
from etl_airflow.pods import spec as pod

RUNNER_VARIABLE = "ETL_RUNNER"
"""Set to `process` to run steps as processes beside Airflow: for the demo and for development."""
_REPAIR = "{{ '--repair' if params.repair else '--no-repair' }}"
LOOK_OFTEN_SECONDS = 5
"""Seconds for which a starting pod is polled every 0.1 s; the provider polls every second."""


class EtlPodOperator(KubernetesPodOperator):
    """KubernetesPodOperator that interprets the exit codes of `etl`, and fails if its pod was killed.

    The provider deletes the pod of a killed task and then marks the task as successful (apache/airflow#73006).
    """

    template_fields = (*KubernetesPodOperator.template_fields, "partition")
    _last_line = ""
    _is_lost = False

    def __init__(self, *, partition: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.partition = partition

    @classmethod
    def for_step(cls, step: str, pipeline: Pipeline, partition: Any) -> Self:
        """The operator of a step; `partition` is a Partition as JSON, also as a mapped argument."""
        return cls(
            task_id=step,
            name=f"{pipeline.name.replace('_', '-')}-{step}",
            # No `cmds`: they would replace the image's entry point, an init that forwards signals.
            arguments=["etl", step, "--run-id", "{{ run_id }}", "--partition", partition],
            partition=partition,
            env_vars={"ETL_PIPELINE": pipeline.model_dump_json()},
            labels={
                "app.kubernetes.io/name": "etl",
                "app.kubernetes.io/component": step,
                "app.kubernetes.io/part-of": f"{pipeline.name}-etl",
            },
            # A label holds only a digest of a run's id. Pods of workers have their run_id as an annotation, too.
            annotations={"pipeline": pipeline.name, "step": step, "run_id": "{{ run_id }}"},
            map_index_template="{{ partition }}",
            **pod.ARGUMENTS,
        )

    @classmethod
    def for_verification(cls, pipeline: Pipeline, *, mode: str, pool: str) -> Self:
        """The operator of `etl verify`; `mode` may be a template, and the Param `repair` says whether it repairs."""
        return cls(
            task_id="verify",
            name=f"{pipeline.name.replace('_', '-')}-verify",
            arguments=["etl", "verify", "--run-id", "{{ run_id }}", "--mode", mode, _REPAIR],
            partition='{"id": "verify"}',
            env_vars={"ETL_PIPELINE": pipeline.model_dump_json()},
            labels={
                "app.kubernetes.io/name": "etl",
                "app.kubernetes.io/component": "verify",
                "app.kubernetes.io/part-of": f"{pipeline.name}-etl",
            },
            annotations={"pipeline": pipeline.name, "step": "verify", "run_id": "{{ run_id }}"},
            pool=pool,
            **pod.ARGUMENTS,
        )

    def execute(self, context: Any) -> Any:
        """Run the step. Raises AirflowFailException if a retry cannot help, else AirflowException."""
        context["partition"] = self._partition_id
        if runs_steps_as_processes():
            return self._run_process()
        self._times = [context["ti"].start_date]
        result = super().execute(context)
        if self._killed:
            raise AirflowException("The pod was killed before it ended; the step is retried.")
        return result

    def build_pod_request_obj(self, context: Any = None, *, dry_run: bool = False) -> k8s.V1Pod:
        """The pod, with its ids as annotations; Kubernetes finds nothing to expand in its arguments and variables."""
        request = super().build_pod_request_obj(context, dry_run=dry_run)
        request.metadata.annotations = {**(request.metadata.annotations or {}), "partition": self._partition_id}
        request.spec.topology_spread_constraints = pod.SPREAD
        for container in request.spec.containers:
            container.args = [pod.literal(word) for word in container.args or ()]
            for variable in container.env or ():
                variable.value = pod.literal(variable.value) if variable.value else None
        return request

    @property
    def _partition_id(self) -> str:
        return str(json.loads(self.partition)["id"])

    def get_or_create_pod(self, pod_request_obj: k8s.V1Pod, context: Any) -> k8s.V1Pod:
        """Request the pod, and record the time."""
        self._times.append(datetime.now(UTC))
        return super().get_or_create_pod(pod_request_obj, context)

    @cached_property
    def pod_manager(self) -> completion.StepPodManager:
        """The pod manager, which detects the end of a pod sooner than the provider's."""
        return completion.StepPodManager(kube_client=self.client, callbacks=self.callbacks)

    def await_pod_start(self, pod: k8s.V1Pod) -> None:
        """Wait for the pod: polling often at first, then like the provider, with its events in the log."""
        deadline = time.monotonic() + LOOK_OFTEN_SECONDS
        while self._look(pod).status.phase == "Pending" and time.monotonic() < deadline:
            time.sleep(0.1)
        super().await_pod_start(pod)

    def await_pod_completion(self, pod: k8s.V1Pod) -> None:  # type: ignore[override]  # there it is decorated
        """Copy the pod's lines to the task's log until its container has ended."""
        following = log_follower.Follower(
            read=lambda seconds, ended: () if self._is_lost else self._read_log(pod, seconds, follow=not ended),
            ended=lambda: self._has_ended(pod),
            write=lambda time_stamp, line: self._write(line, time_stamp),
        )
        problem = following.follow()
        if problem and not self._killed:
            self.log.warning("The last lines of pod %s could not be read: %s", pod.metadata.name, problem)
        if following.times:
            times = [*self._times, *following.times, datetime.now(UTC)]
            metrics.pod_phases(self.dag_id, self.task_id, times)

    def _write(self, line: str, time_stamp: str | None = None) -> None:
        """Log a line of the step; the last non-empty one has the reason of a failure."""
        self._last_line = log_follower.write_line(self.log, line, time_stamp) or self._last_line

    def _read_log(self, pod: k8s.V1Pod, seconds: int | None, *, follow: bool) -> Iterator[bytes]:
        since = {} if seconds is None else {"since_seconds": seconds}
        response = self.client.read_namespaced_pod_log(
            pod.metadata.name,
            pod.metadata.namespace,
            container=self.base_container_name,
            follow=follow,
            timestamps=True,
            _preload_content=False,
            _request_timeout=log_follower.READ_TIMEOUT,
            **since,
        )
        if follow:
            completion.end_stream_with_container(self.client, pod, self.base_container_name, response)
        try:
            yield from response.stream(amt=None, decode_content=True)
        finally:
            response.close()

    def _has_ended(self, pod: k8s.V1Pod) -> bool:
        try:
            found = self._look(pod)
            self._is_lost = found.status.reason == completion.NODE_LOST
            return completion.has_ended(found, self.base_container_name)
        except ApiException as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return True
            raise

    def _look(self, pod: k8s.V1Pod) -> k8s.V1Pod:
        try:
            return self.pod_manager.read_pod(pod)
        except ApiException as error:
            if error.status != HTTPStatus.UNAUTHORIZED:
                raise
        self._refresh_cached_properties()  # type: ignore[no-untyped-call]  # the token on the disk has been renewed
        return self.pod_manager.read_pod(pod)

    def cleanup(
        self, pod: k8s.V1Pod, remote_pod: k8s.V1Pod, xcom_result: dict[str, Any] | None = None, context: Any = None
    ) -> None:
        """Delete the pod; raise for a failed one, without retries if they cannot help."""
        if remote_pod and not self._killed and remote_pod.status.phase == "Pending":  # the state at its creation
            with suppress(ApiException):
                remote_pod = self._look(remote_pod)
        try:
            super().cleanup(pod, remote_pod, xcom_result, context)
        except AirflowSkipException:
            raise
        except AirflowException as error:
            terminated = _terminated(remote_pod, self.base_container_name)
            if terminated is None:  # evicted, or its node is gone
                status = remote_pod.status
                reason = ": ".join(filter(None, (status.reason, status.message))) or "its container has no exit status"
                raise AirflowException(f"{str(error).splitlines()[0]} {reason}") from None
            self._fail(terminated.exit_code, terminated.reason or "", terminated.message or "")

    def on_kill(self) -> None:
        """Terminate the process, or delete the pod."""
        process = getattr(self, "_process", None)
        if process is None:
            super().on_kill()
        elif process.poll() is None:
            self._killed = True
            os.killpg(process.pid, signal.SIGTERM)

    def _run_process(self) -> None:
        """Run the command line of the pod as a local process, with its output in the task's log."""
        command = self.arguments
        self.log.warning("%s=process: this step runs as a local process, not in a pod.", RUNNER_VARIABLE)
        environment = {variable.name: variable.value for variable in convert_env_vars_or_raise_error(self.env_vars)}
        with subprocess.Popen(  # noqa: S603 - our own command, no shell
            command,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process:
            self._process = process
            if self._killed:  # while the process was starting
                self.on_kill()
            try:
                for line in process.stdout or ():
                    self._write(line.rstrip())
            except BaseException:  # on a timeout; the `with` block would wait for the process
                self.on_kill()
                raise
        if self._killed:
            raise AirflowException("The process was killed before it ended; the step is retried.")
        if process.returncode != 0:
            self._fail(process.returncode)

    def _fail(self, exit_code: int, reason: str = "", message: str = "") -> NoReturn:
        """Raise for a failed step, with its last log line, else its pod's termination message."""
        lines = message.splitlines() or [""]
        last_line = self._last_line or log_follower.fields_of(lines[-1])["event"] or "it logged nothing"
        if exit_code in DO_NOT_RETRY:
            raise AirflowFailException(f"etl ended with exit code {exit_code}, a retry cannot help: {last_line}")
        ended = f"exit code {exit_code}" + (f" ({reason})" if reason not in ("", "Error") else "")
        raise AirflowException(f"etl ended with {ended}: {last_line}")


def runs_steps_as_processes() -> bool:
    """Whether there is no cluster to run steps in."""
    return os.environ.get(RUNNER_VARIABLE) == "process"


def _terminated(remote_pod: k8s.V1Pod, container: str) -> k8s.V1ContainerStateTerminated | None:
    """Termination state of the pod's container; None if it has none, as after an eviction."""
    for status in (remote_pod.status and remote_pod.status.container_statuses) or []:
        if status.name == container and status.state:
            return status.state.terminated
    return None
