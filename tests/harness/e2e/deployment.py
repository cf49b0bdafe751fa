"""The deployment as its users see it: apply-all.sh, Airflow's REST API, kubectl, and both databases."""

import base64
import json
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import yaml
from etl.model.pipeline import Pipeline
from orders_etl import ORDERS

from dev.sandbox.pipeline_fixture import PipelineFixture, existing_fixture
from ops.cluster.airflow_api import AirflowApi, NotFoundError
from ops.cluster.kubectl import NAMESPACE, Kubectl
from tests.harness.e2e.outside import OutsideSink

_Found = TypeVar("_Found")


@dataclass(frozen=True)
class Deployment:
    """A checkout of a user, and the cluster that it is deployed to."""

    checkout: Path
    environment: dict[str, str] = field(repr=False)
    options: list[str]
    """Options of apply-all.sh: the source's address, the import of images."""
    source_url: str = field(repr=False)
    overlay: str
    """Empty: that of the deployment."""
    sink: OutsideSink | None = None
    """None for the sink in the cluster."""

    def apply_all(self, *arguments: str) -> str:
        """Run scripts/apply-all.sh as in the README; returns its output. Fails the test if it fails."""
        overlay = [f"--overlay={self.overlay}"] if self.overlay else []
        return self._script("apply-all.sh", *arguments, *overlay, *self.options)

    def restore(self, *arguments: str) -> str:
        """Run scripts/restore.sh; returns its output. Fails the test if it fails."""
        return self._script("restore.sh", *arguments)

    @property
    def data_folder(self) -> Path:
        """The folder of the volumes, on this machine."""
        (option,) = (option for option in self.options if option.startswith("--data-folder="))
        return Path(option.partition("=")[2])

    def _script(self, name: str, *arguments: str) -> str:
        command = [str(self.checkout / "scripts" / name), *arguments]
        lines: list[str] = []
        with subprocess.Popen(
            command, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, cwd=self.checkout,
        ) as process:  # fmt: skip
            for line in process.stdout or ():
                print(line, end="", flush=True)
                lines.append(line)
        assert process.returncode == 0, f"{name} ended with {process.returncode}; its output is above."
        return "".join(lines)

    def kubectl(self, *arguments: str, namespace: str = NAMESPACE) -> str:
        """Output of kubectl, in the namespace of the deployment."""
        command = ["kubectl", "--namespace", namespace, *arguments]
        ran = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, f"`kubectl {' '.join(arguments)}` failed: {ran.stderr}"
        return ran.stdout

    def objects(self, kind: str, *arguments: str) -> list[dict[str, Any]]:
        """The objects of a kind."""
        return list(json.loads(self.kubectl("get", kind, "--output=json", *arguments))["items"])

    def secret(self, name: str, key: str) -> str:
        """One value of a Secret."""
        found = json.loads(self.kubectl("get", "secret", name, "--output=json"))
        return base64.b64decode(found["data"][key]).decode()

    @contextmanager
    def airflow(self) -> Iterator["Airflow"]:
        """Airflow's REST API, signed in as its administrator."""
        with AirflowApi(Kubectl()) as api:
            yield Airflow(api)

    def site(self, pipeline: Pipeline) -> AbstractContextManager[PipelineFixture]:
        """A pipeline's rows in source and sink, with the steps' login."""
        return self._site(pipeline, "etl", self.secret("etl-connections", "SINK_PASSWORD"))

    def sink_as_administrator(self) -> AbstractContextManager[PipelineFixture]:
        """The sink with the administrator's login."""
        if self.sink:
            return self._site(ORDERS, self.sink.admin, self.sink.admin_password)
        return self._site(ORDERS, "sa", self.secret("mssql", "MSSQL_SA_PASSWORD"))

    @contextmanager
    def _site(self, pipeline: Pipeline, user: str, password: str) -> Iterator[PipelineFixture]:
        if self.sink:
            yield existing_fixture(pipeline, self.source_url, self.sink.url(user, password))
            return
        with self.forwarded("mssql-svc", 1433) as port:
            yield existing_fixture(pipeline, self.source_url, through_loopback(user, password, port))

    @contextmanager
    def forwarded(self, service: str, port: int, namespace: str = NAMESPACE) -> Iterator[int]:
        """A port of loopback, forwarded to one of a Service."""
        with Kubectl().forward(service, port, namespace) as opened:
            yield opened.number

    @contextmanager
    def pod(
        self,
        name: str,
        image: str,
        command: list[str],
        memory: str = "128Mi",
        namespace: str = NAMESPACE,
        labels: "Mapping[str, str] | None" = None,
    ) -> Iterator[None]:
        """A pod of one container beside those of the deployment, until the block ends."""
        resources = {"requests": {"cpu": "10m", "memory": memory}, "limits": {"memory": memory}}
        security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        container = {"name": name, "image": image, "command": command, "imagePullPolicy": "IfNotPresent"}
        user = {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}}
        spec = {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": user,
            "containers": [{**container, "resources": resources, "securityContext": security}],
        }
        metadata = {"name": name, "namespace": namespace, "labels": dict(labels or {})}
        self.apply({"kind": "Pod", "metadata": metadata, "spec": spec})
        try:
            yield
        finally:
            self.kubectl("delete", "pod", name, "--grace-period=1", namespace=namespace)

    def bring_secret(self, name: str, values: Mapping[str, str], namespace: str = NAMESPACE) -> None:
        """Create a Secret with given values, before apply-all.sh generates them."""
        self.apply({"kind": "Namespace", "metadata": {"name": namespace}})
        self.apply({"kind": "Secret", "metadata": {"name": name, "namespace": namespace}, "stringData": dict(values)})

    def lay_over(
        self,
        overlay: str,
        components: Sequence[str] = (),
        images: "Mapping[str, str] | None" = None,
        connections: "Mapping[str, str] | None" = None,
        outside: "Mapping[str, int] | None" = None,
        name: str = "",
    ) -> "Deployment":
        """The same with a user's overlay over an existing one, and with settings in it.

        `outside` are ports that differ from those of network policies, by the policy's name.
        """
        name = name or f"over-{overlay}"
        folder = self.checkout / "k8s" / "overlays" / name
        folder.mkdir()
        metadata = {"name": "etl-connections", "namespace": NAMESPACE}
        settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": dict(connections or {})}
        content = {
            "resources": [f"../{overlay}"],
            "components": [f"../../components/{component}" for component in components],
            "images": [{"name": old, "newName": new, "newTag": "0.1.0"} for old, new in (images or {}).items()],
            "patches": [{"patch": yaml.safe_dump(settings)}, *_ports(outside or {})],
        }
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(content))
        return replace(self, overlay=name)

    def with_sink_outside(self, sink: OutsideSink) -> "Deployment":
        """The same with an existing SQL Server."""
        self.bring_secret("mssql", {"MSSQL_SA_PASSWORD": sink.admin_password})
        connections = {"SINK_URL": sink.url("etl"), "SINK_ADMIN_USER": sink.admin}
        made = self.lay_over(
            self.overlay, components=["external-sink"], connections=connections, outside={"external-sink": sink.port}
        )
        return replace(made, sink=sink)

    def apply(self, item: dict[str, Any]) -> None:
        """Apply an object as `kubectl apply` does."""
        command = ["kubectl", "apply", "--server-side", "--force-conflicts", "--filename=-"]
        text = json.dumps({"apiVersion": "v1", **item})
        ran = subprocess.run(command, env=self.environment, input=text, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, f"{item['kind']} {item['metadata']['name']} could not be applied: {ran.stderr}"


@dataclass(frozen=True)
class Airflow:
    """A user of Airflow's UI, over the same API."""

    api: AirflowApi

    def trigger(self, dag_id: str, **params: Any) -> str:
        """Trigger a run; returns its id."""
        body = {"logical_date": None, "conf": params}
        return str(self.api.call("POST", f"/api/v2/dags/{dag_id}/dagRuns", body)["dag_run_id"])

    def pause(self, dag_id: str, paused: bool) -> None:
        """Stop or start the schedule of a DAG."""
        self.api.call("PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": paused})

    def resize_pool(self, slots: int) -> None:
        """Set how many tasks may run at once: the slots of `default_pool`."""
        self.api.call("PATCH", "/api/v2/pools/default_pool?update_mask=slots", {"slots": slots})

    def rest(self, *dag_ids: str) -> None:
        """Pause DAGs, each between two runs: a paused DAG's run would not go on."""
        awake = list(dag_ids)

        def is_quiet(dag_id: str) -> bool:
            return all(run["state"] in ("success", "failed") for run in self.runs(dag_id))

        def at_rest() -> bool:
            for dag_id in filter(is_quiet, list(awake)):
                self.pause(dag_id, True)
                if is_quiet(dag_id):
                    awake.remove(dag_id)
                else:
                    self.pause(dag_id, False)
            return not awake

        wait_for(f"{', '.join(dag_ids)} to rest", at_rest, seconds=300)

    def await_dag(self, dag_id: str, seconds: float = 180) -> None:
        """Wait until a DAG is parsed."""

        def known() -> bool:
            try:
                return bool(self.api.get(f"/dags/{dag_id}"))
            except NotFoundError:
                return False

        wait_for(f"the DAG {dag_id}", known, seconds)

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """The runs of a DAG."""
        return list(self.api.get(f"/dags/{dag_id}/dagRuns?limit=100")["dag_runs"])

    def all_runs(self, prefix: str) -> list[dict[str, Any]]:
        """The runs of every DAG whose name begins so."""
        found: list[dict[str, Any]] = []
        while True:
            path = f"/dags/~/dagRuns?dag_id_pattern={prefix}%25&order_by=id&limit=100&offset={len(found)}"
            page = self.api.get(path)["dag_runs"]
            found += page
            if len(page) < 100:
                return [run for run in found if run["dag_id"].startswith(prefix)]

    def tasks(self, dag_id: str, run_id: str) -> dict[str, dict[str, Any]]:
        """The task instances of a run by name, as in `partition.load[2]`."""
        found = self.api.get(f"/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}/taskInstances?limit=100")[
            "task_instances"
        ]
        return {task_name(task): task for task in found}

    def await_run(self, dag_id: str, run_id: str, state: str = "success", seconds: float = 420) -> None:
        """Wait for the end of a run. Fails the test if it ends in another state."""

        def ended() -> str | None:
            found = self.api.get(f"/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}")["state"]
            return str(found) if found in ("success", "failed") else None

        found = wait_for(f"the end of {run_id} of {dag_id}", ended, seconds)
        states = {name: task["state"] for name, task in self.tasks(dag_id, run_id).items()}
        assert found == state, f"{run_id} of {dag_id} is {found}: {states}"

    def log(
        self, dag_id: str, run_id: str, task_id: str, map_index: int = -1, try_number: int = 1, state: str = "ended"
    ) -> list[dict[str, Any]]:
        """The lines of a task's attempt, as the UI pages through them; of one that runs, those so far."""
        run = f"/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}"
        path = f"{run}/taskInstances/{task_id}/logs/{try_number}?map_index={map_index}"
        lines: list[dict[str, Any]] = []
        token: str | None = ""
        while token is not None:
            page = self.api.get(path + (f"&token={quote(token, safe='')}" if token else ""))
            lines += page["content"]
            token = page["continuation_token"]
            if state == "running":
                break
        return lines

    def clear(self, dag_id: str, run_id: str, task_id: str, map_index: int) -> None:
        """Clear one mapped task with its downstream tasks, as the UI does."""
        body = {
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": [[task_id, map_index]],
            "include_downstream": True,
            "only_failed": False,
            "reset_dag_runs": True,
        }
        self.api.call("POST", f"/api/v2/dags/{dag_id}/clearTaskInstances", body)


def task_name(task: dict[str, Any]) -> str:
    """A task instance as people name it."""
    return str(task["task_id"]) if task["map_index"] < 0 else f"{task['task_id']}[{task['map_index']}]"


def wait_for(what: str, find: Callable[[], _Found | None], seconds: float) -> _Found:
    """Poll until something is found; fails the test if nothing is in time."""
    deadline = time.monotonic() + seconds
    while not (found := find()):
        assert time.monotonic() < deadline, f"Waited {seconds:.0f} s for {what}."
        time.sleep(1)
    return found


def _ports(outside: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    """The edits that docs/operations.md describes for external servers with a non-default port."""
    for policy, port in outside.items():
        change = [{"op": "replace", "path": "/spec/egress/0/ports", "value": [{"port": port}]}]
        yield {"target": {"kind": "NetworkPolicy", "name": policy}, "patch": yaml.safe_dump(change)}


def through_loopback(user: str, password: str, port: int) -> str:
    """The URL of the sink at a forwarded port. It refuses plain text, and its certificate is not for loopback."""
    return f"mssql://{user}:{password}@127.0.0.1:{port}/sink?encrypt=yes&trustservercertificate=yes"


def copy_checkout(root: Path, target: Path) -> None:
    """A user's own checkout: the files that git has or would take."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root, check=True, capture_output=True,
    )  # fmt: skip
    for name in listed.stdout.decode().split("\0"):
        if name and (root / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes((root / name).read_bytes())
            (target / name).chmod((root / name).stat().st_mode)
