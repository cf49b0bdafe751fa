"""Faults of configuration, data and servers in a running deployment, each reverted when its block ends."""

import base64
import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import psycopg
from psycopg import sql

from ops.cluster import policy_probe
from ops.cluster.kubectl import NAMESPACE
from ops.cluster.objects import container_statuses
from tests.harness.e2e.deployment import Airflow, Deployment, wait_for
from tests.harness.e2e.testbed import PASSWORD

SILENT = {"scheduler": "airflow-scheduler", "dag_processor": "airflow-dag-processor", "triggerer": "airflow-triggerer"}
"""Airflow's components with a heartbeat, by their names in its health endpoint, and their Deployments."""
BROKEN = "/tmp/broken"
NOBODYS_PORT = 5439
"""A port without a server, and allowed by no policy."""
JOB_SAID = "relation job does not exist"
CRASH_SAID = "this container ends on purpose"
# Sends a signal to every process of a container except the first one and itself.
_SIGNAL = (
    "import os, signal, sys\n"
    "for name in os.listdir('/proc'):\n"
    "    if name.isdigit() and int(name) not in (1, os.getpid()):\n"
    "        os.kill(int(name), getattr(signal, sys.argv[1]))\n"
)
_SECURITY = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "runAsUser": 10001,
    "seccompProfile": {"type": "RuntimeDefault"},
}


_Given = ParamSpec("_Given")


def fault(steps: Callable[_Given, Iterator[None]]) -> Callable[_Given, AbstractContextManager[None]]:
    """Make a context manager of a generator that injects, yields, and reverts, also after a failure."""

    @contextmanager
    @wraps(steps)
    def made(*arguments: _Given.args, **named: _Given.kwargs) -> Iterator[None]:
        generator = steps(*arguments, **named)
        next(generator)
        try:
            yield
        finally:
            next(generator, None)

    return made


def pod(name: str, shell: str, image: str = "localhost/etl:0.1.0", memory: str = "64Mi", **spec: Any) -> dict[str, Any]:
    """A pod of one container that the namespace admits."""
    resources = {"requests": {"cpu": "1m", "memory": memory}, "limits": {"memory": memory}}
    container = {
        "name": "one", "image": image, "command": ["sh", "-c", shell], "resources": resources,
        "securityContext": _SECURITY, "imagePullPolicy": "IfNotPresent", **spec.pop("container", {}),
    }  # fmt: skip
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"automountServiceAccountToken": False, "containers": [container], **spec},
    }


@fault
def applied(deployment: Deployment, file: Path, *objects: dict[str, Any]) -> Iterator[None]:
    """Objects beside those of the deployment."""
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))
    deployment.kubectl("apply", f"--filename={file}")
    yield
    deployment.kubectl("delete", f"--filename={file}", "--ignore-not-found", "--grace-period=1", "--wait=true")


ANYWHERE = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "anywhere", "namespace": NAMESPACE},
    "spec": {
        "podSelector": {"matchLabels": policy_probe.LABELS},
        "policyTypes": ["Egress"],
        "egress": [{}],
    },
}
"""Lets the pod that probes policies bypass them."""


@fault
def silent(deployment: Deployment, airflow: Airflow) -> Iterator[None]:
    """The scheduler, the DAG processor and the triggerer stop, and do not end."""
    for server in SILENT.values():
        deployment.kubectl("exec", f"deployment/{server}", "--", "python", "-c", _SIGNAL, "SIGSTOP")
    yield
    for server in SILENT.values():
        deployment.kubectl("exec", f"deployment/{server}", "--", "python", "-c", _SIGNAL, "SIGCONT")
    wait_for("heartbeats", lambda: not unhealthy(airflow), seconds=90)


def unhealthy(airflow: Airflow) -> set[str]:
    """The components that Airflow reports as unhealthy."""
    health = airflow.api.get("/monitor/health")
    return {part for part in SILENT if health[part]["status"] != "healthy"}


@fault
def another_password_at_source(deployment: Deployment) -> Iterator[None]:
    """The password of the pipelines' role is changed at the source."""
    _at_source(deployment, sql.SQL("ALTER ROLE orders PASSWORD {}").format(sql.Literal(secrets.token_urlsafe())))
    yield
    _at_source(deployment, sql.SQL("ALTER ROLE orders PASSWORD {}").format(sql.Literal(PASSWORD)))


@fault
def table_that_may_not_be_read(deployment: Deployment) -> Iterator[None]:
    """The grant on the source's table is revoked."""
    _at_source(deployment, sql.SQL("REVOKE SELECT ON orders FROM orders"))
    yield
    _at_source(deployment, sql.SQL("GRANT SELECT ON orders TO orders"))


@fault
def another_password_at_sink(deployment: Deployment) -> Iterator[None]:
    """The password of the pipelines' login is changed in the sink."""
    with deployment.sink_as_administrator() as sink:
        sink.execute(f"ALTER LOGIN [etl] WITH PASSWORD = N'Aa1-{secrets.token_hex(16)}'")
        yield
        sink.execute(f"ALTER LOGIN [etl] WITH PASSWORD = N'{deployment.secret('etl-connections', 'SINK_PASSWORD')}'")


@fault
def sink_without_a_grant(deployment: Deployment) -> Iterator[None]:
    """The grants of `etl prepare-sink` are revoked."""
    with deployment.sink_as_administrator() as sink:
        sink.execute("REVOKE SELECT ON OBJECT::[etl].[watermark] FROM [etl_loader]")
        yield
        sink.execute("GRANT SELECT ON OBJECT::[etl].[watermark] TO [etl_loader]")


@fault
def pool_of_no_slots(airflow: Airflow) -> Iterator[None]:
    """The default pool has no slots."""
    pool = airflow.api.get("/pools/default_pool")
    airflow.resize_pool(0)
    yield
    airflow.resize_pool(pool["slots"])


@fault
def scaled_to_zero(deployment: Deployment, server: str, service: str, namespace: str = NAMESPACE) -> Iterator[None]:
    """A workload is scaled to zero."""
    deployment.kubectl("scale", server, "--replicas=0", namespace=namespace)
    wait_for(f"the end of {server}", lambda: not ready_addresses(deployment, service, namespace), seconds=150)
    yield
    deployment.kubectl("scale", server, "--replicas=1", namespace=namespace)
    deployment.kubectl("rollout", "status", server, "--timeout=120s", namespace=namespace)


@fault
def secret_without_a_key(deployment: Deployment, name: str, key: str, namespace: str) -> Iterator[None]:
    """A key is removed from a Secret."""
    kept = json.loads(deployment.kubectl("get", "secret", name, "--output=json", namespace=namespace))["data"][key]
    _patch(deployment, "secret", name, {"data": {key: None}}, namespace)
    yield
    _patch(deployment, "secret", name, {"data": {key: kept}}, namespace)


@fault
def policy_without_binding(deployment: Deployment, name: str) -> Iterator[None]:
    """The binding of an admission policy is deleted."""
    kind = "validatingadmissionpolicybinding"
    (kept,) = deployment.objects(kind, f"--field-selector=metadata.name={name}")
    deployment.kubectl("delete", kind, name)
    yield
    metadata = {key: kept["metadata"][key] for key in ("name", "labels")}
    deployment.apply({**kept, "metadata": metadata})


@fault
def another_password_of_administrator(deployment: Deployment) -> Iterator[None]:
    """The Secret has another password than Airflow."""
    kept = deployment.secret("airflow-admin", "ADMIN_PASSWORD")
    for password in ("another", kept):
        encoded = base64.b64encode(password.encode()).decode()
        _patch(deployment, "secret", "airflow-admin", {"data": {"ADMIN_PASSWORD": encoded}})
        if password != kept:
            yield


@fault
def import_error(deployment: Deployment, airflow: Airflow) -> Iterator[None]:
    """A DAG file breaks, and is parsed at once."""
    token = airflow.api.get("/dags/breaks_on_demand")["file_token"]

    def read_again(command: str, count: int) -> None:
        deployment.kubectl("exec", "deployment/airflow-dag-processor", "--", command, BROKEN)
        airflow.api.call("PUT", f"/api/v2/parseDagFile/{token}")
        errors = "/importErrors?limit=10"
        wait_for("the file to be read", lambda: airflow.api.get(errors)["total_entries"] == count, seconds=90)

    read_again("touch", 1)
    yield
    read_again("rm", 0)


@fault
def failed_run(airflow: Airflow) -> Iterator[None]:
    """The last run of a DAG failed; then one succeeds."""
    dag = "fails_unless_mended"
    airflow.await_run(dag, airflow.trigger(dag), "failed")
    yield
    airflow.await_run(dag, airflow.trigger(dag, mended=True))


@fault
def folder_that_is_gone(deployment: Deployment) -> Iterator[None]:
    """The folder of the staging volume is renamed."""
    option = next(one for one in deployment.options if one.startswith("--data-folder="))
    folder = Path(option.partition("=")[2]) / "staging"
    away = folder.rename(folder.with_name("staging-away"))
    yield
    away.rename(folder)


@fault
def source_elsewhere(deployment: Deployment) -> Iterator[None]:
    """SOURCE_URL has a port that no server listens on."""
    (settings,) = deployment.objects("configmaps", "--field-selector=metadata.name=etl-connections")
    right = settings["data"]["SOURCE_URL"]
    wrong = right.replace(":5432/", f":{NOBODYS_PORT}/")
    _patch(deployment, "configmap", "etl-connections", {"data": {"SOURCE_URL": wrong}})
    yield
    _patch(deployment, "configmap", "etl-connections", {"data": {"SOURCE_URL": right}})


@fault
def service_of_other_labels(deployment: Deployment, name: str, namespace: str) -> Iterator[None]:
    """A Service selects no pods."""

    def lead_to(label: str) -> None:
        _patch(deployment, "service", name, {"spec": {"selector": {"app.kubernetes.io/name": label}}}, namespace)

        def done() -> bool:
            return bool(ready_addresses(deployment, name, namespace)) == (label == name)

        wait_for(f"the endpoints of {name}", done, seconds=60)

    lead_to("nobody")
    yield
    lead_to(name)


@fault
def quota_that_is_met(deployment: Deployment) -> Iterator[None]:
    """The quota of pods is used up."""
    (quota,) = deployment.objects("resourcequota")
    for pods in (quota["status"]["used"]["pods"], quota["spec"]["hard"]["pods"]):
        _patch(deployment, "resourcequota", quota["metadata"]["name"], {"spec": {"hard": {"pods": pods}}})

        def met(wanted: str = pods) -> bool:
            return bool(deployment.objects("resourcequota")[0]["status"]["hard"]["pods"] == wanted)

        wait_for("the quota", met, seconds=60)
        if pods != quota["spec"]["hard"]["pods"]:
            yield


def ready_addresses(deployment: Deployment, service: str, namespace: str) -> list[str]:
    """Addresses of the ready endpoints of a Service."""
    selector = f"--selector=kubernetes.io/service-name={service}"
    found = json.loads(deployment.kubectl("get", "endpointslices", selector, "--output=json", namespace=namespace))
    return [
        address
        for item in found["items"]
        for endpoint in item.get("endpoints") or []
        if endpoint["conditions"].get("ready")
        for address in endpoint["addresses"]
    ]


def states(deployment: Deployment) -> dict[str, str]:
    """Reasons for which the containers of pods are not running, by pod: waiting, terminated, or terminated before."""
    return {
        item["metadata"]["name"]: " ".join(
            str((state.get("waiting") or state.get("terminated") or {}).get("reason", ""))
            for status in container_statuses(item)
            for state in (status.get("state", {}), status.get("lastState", {}))
        )
        for item in deployment.objects("pods")
    }


def _at_source(deployment: Deployment, statement: sql.SQL | sql.Composed) -> None:
    with psycopg.connect(deployment.source_url, autocommit=True) as connection:
        connection.execute(statement)


def _patch(deployment: Deployment, kind: str, name: str, change: Any, namespace: str = NAMESPACE) -> None:
    deployment.kubectl("patch", kind, name, "--type=merge", f"--patch={json.dumps(change)}", namespace=namespace)
