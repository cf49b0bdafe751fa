"""The token with which a worker speaks for its task is on no command line, which everybody on a node may read."""

import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
from airflow.executors.workloads.base import BundleInfo
from airflow.executors.workloads.task import ExecuteTask, TaskInstanceDTO
from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator, workload_to_command_args
from kubernetes.client import models as k8s

from dev.sandbox.process import die_with_parent, kill_session
from dev.sandbox.stack import ROOT
from tests.doubles.http_server import Handler, serving

TOKEN = "header.payload.signature"
TEMPLATE = ROOT / "k8s" / "base" / "airflow" / "worker" / "pod-template.yaml"


def made(run_id: str = "manual__2026-01-01T00:00:00+00:00") -> k8s.V1Pod:
    """The pod of a worker, as the executor makes it."""
    ti = TaskInstanceDTO(
        id=uuid.uuid4(),
        dag_id="orders_etl",
        task_id="plan",
        run_id=run_id,
        try_number=1,
        dag_version_id=uuid.uuid4(),
        pool_slots=1,
        priority_weight=1,
        queue="default",
    )
    task = ExecuteTask(
        ti=ti,
        token=TOKEN,
        dag_rel_path=Path("orders_etl.py"),
        bundle_info=BundleInfo(name="dags-folder"),
        log_path="log",
    )
    pod: k8s.V1Pod = PodGenerator.construct_pod(
        dag_id=ti.dag_id,
        task_id=ti.task_id,
        run_id=run_id,
        try_number=1,
        pod_id="worker",
        kube_image="localhost/etl-airflow:0.1.0",
        date=None,
        args=workload_to_command_args(task),
        pod_override_object=None,
        base_worker_pod=PodGenerator.deserialize_model_file(str(TEMPLATE)),
        namespace="etl-poc",
        scheduler_job_id="1",
        with_mutation_hook=True,
    )
    return pod


def variables(pod: k8s.V1Pod) -> dict[str, str]:
    """The environment of the pod's container; Kubernetes makes one dollar of two."""
    return {one.name: one.value.replace("$$", "$") for one in pod.spec.containers[0].env if one.value is not None}


@pytest.fixture
def execution_api() -> Iterator[tuple[int, list[str], threading.Event]]:
    """A port at which workers are heard and never answered: it, the tokens that came, and whether one has."""
    tokens: list[str] = []
    came, ended = threading.Event(), threading.Event()

    class Api(Handler):
        def do_PATCH(self) -> None:
            tokens.append(self.headers["Authorization"])
            came.set()
            ended.wait()

    with serving(server := ThreadingHTTPServer(("127.0.0.1", 0), Api)):
        yield server.server_port, tokens, came
        ended.set()


def test_a_worker_starts_its_task_with_the_token_on_no_command_line(
    execution_api: tuple[int, list[str], threading.Event], tmp_path: Path
) -> None:
    port, tokens, came = execution_api
    pod = made()
    environment = os.environ | variables(pod)
    environment |= {
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "PYTHONPATH": f"{ROOT}/airflow_image/config:{ROOT}/dags",
    }
    command = [sys.executable, *pod.spec.containers[0].args[1:]]
    assert not [word for word in command if TOKEN in word]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, preexec_fn=die_with_parent, start_new_session=True
    )
    try:
        assert came.wait(60)
        assert tokens == [f"Bearer {TOKEN}"]
        assert TOKEN not in Path(f"/proc/{process.pid}/cmdline").read_text()
    finally:
        kill_session(process.pid)
        process.wait()


def test_what_looks_like_a_variable_in_a_task_stays_as_it_is() -> None:
    pod = made("manual__$(HOSTNAME)")
    assert "$$(HOSTNAME)" in pod.spec.containers[0].env[-1].value
    assert TOKEN not in str(pod.spec.containers[0].args)


def test_without_a_task_a_worker_says_where_it_should_be() -> None:
    environment = os.environ | {"PYTHONPATH": f"{ROOT}/airflow_image/config"}
    ended = subprocess.run(
        [sys.executable, "-m", "etl_airflow.worker_task"], env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert "There is no task in ETL_WORKLOAD" in ended.stderr
