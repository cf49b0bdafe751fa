"""`doctor.sh` as a command: what it asks of the cluster and of Airflow, what it shows, and how it ends."""

import base64
import json
import re
import subprocess
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ops.cluster import access, pages
from ops.deploy.secrets.certificates import ui_certificate
from ops.doctor import probing
from ops.doctor.cli import NOT_SEEN, WELL, WRONG, main
from ops.doctor.snapshot import Snapshot
from tests.doubles.fake_cluster import FakeCluster
from tests.doubles.front_door import Front, certified, front
from tests.doubles.http_server import Handler, serving
from tests.harness.doctor.healthy_deployment import DISK, NODE, event, target, well

SUMMARY = f"/api/v1/nodes/{NODE}/proxy/stats/summary"
PASSWORD = "the-password-of-the-administrator"
WELL_ENDS = "\n".join(
    json.dumps({"check": name, "where": f"{name}:1/x", "problem": "", "words": "", "free_bytes": 9, "size_bytes": 10})
    for name in ("source", "sink", "staging")
)
ENFORCED = json.dumps({"reached": True, "opened": []})


class FakeServers(ThreadingHTTPServer):
    """Answers as Airflow, Prometheus and Loki do, by path; a list of Airflow's comes in one page."""

    def __init__(self, seen: Snapshot) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.password = PASSWORD
        self.pages: dict[str, list[dict[str, Any]]] = {
            "/importErrors": [],
            "/pools": seen.airflow.pools,
            "/dags": [dag | {"next_dagrun_run_after": "2100-01-01T00:00:00Z"} for dag in seen.airflow.dags],
            "/dags/~/dagRuns/~/taskInstances": [],
            "/dags/orders_etl/dagRuns": [{"state": "success", "dag_run_id": "manual__1"}],
        }
        self.log: list[dict[str, Any]] = []
        self.others: dict[str, Any] = {
            "/api/v2/monitor/health": seen.airflow.health,
            "/api/v1/targets": {"data": {"activeTargets": seen.targets}},
            "/api/v1/alerts": {"data": {"alerts": []}},
            "/ready": "ready",
        }


class _Handler(Handler):
    server: FakeServers

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if body["password"] != self.server.password:
            self.answer(401, {"detail": "Invalid credentials"})
        else:
            self.answer(201, {"access_token": "the-token"})

    def do_GET(self) -> None:
        if self.path.partition("?")[0] in self.server.others:
            return self.answer(200, self.server.others[self.path.partition("?")[0]])
        path = self.path.removeprefix("/api/v2").partition("?")[0]
        if path.endswith("/logs/4"):
            return self.answer(200, {"content": self.server.log})
        name = {"importErrors": "import_errors", "dagRuns": "dag_runs", "taskInstances": "task_instances"}
        last = path.rpartition("/")[2]
        if path not in self.server.pages:
            return self.answer(503, "not ready: waiting for 15s")
        page = self.server.pages[path]
        return self.answer(200, {name.get(last, last): page, "total_entries": len(page)})


@pytest.fixture
def servers() -> Iterator[FakeServers]:
    with serving(server := FakeServers(well())):
        yield server


@pytest.fixture(scope="module")
def ui() -> tuple[str, str]:
    """The certificate of the UI, and with its key."""
    return certified(ui_certificate([NODE, "127.0.0.1"]))


@pytest.fixture
def way_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ui: tuple[str, str]) -> Iterator[Front]:
    """The front door that users open."""
    with front(tmp_path, ui[1]) as answers:
        monkeypatch.setattr(pages, "PORT", answers.port)
        monkeypatch.setattr(pages, "PLAIN_PORT", answers.plain_port)
        yield answers


@pytest.fixture
def cluster(
    cluster: FakeCluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    servers: FakeServers,
    way_in: Front,
    ui: tuple[str, str],
) -> FakeCluster:
    """A cluster in which all is well. A test asks for kubectl as a process by its parameter."""
    seen = well()
    (tmp_path / "kubeconfig").touch()
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    # Nobody asks for network policies, of which each namespace has one of the same name.
    asked = [item for item in seen.objects if item["kind"] != "NetworkPolicy"]
    objects = {f"{item['kind']}/{item['metadata']['name']}": item for item in asked}
    assert len(objects) == len(asked)
    for (namespace, name), secret in seen.secrets.items():
        meta = {"name": name, "namespace": namespace, "changed": "2026-02-20T12:00:00Z"}
        data = dict.fromkeys(secret.keys, base64.b64encode(PASSWORD.encode()).decode())
        objects[f"Secret/{name}"] = {"kind": "Secret", "metadata": meta, "data": data}
    for name in ("ui-tls", "mssql-tls"):
        meta = {"name": name, "namespace": "etl-poc", "changed": "2026-02-20T12:00:00Z"}
        data = {"tls.crt": base64.b64encode(ui[0].encode()).decode(), "tls.key": PASSWORD}
        objects[f"Secret/{name}"] = {"kind": "Secret", "metadata": meta, "data": data}
    objects[f"Node/{NODE}"]["status"]["addresses"] = [{"type": "InternalIP", "address": "127.0.0.1"}]
    room = {"capacityBytes": DISK, "availableBytes": DISK // 2}
    volume = {**room, "pvcRef": {"namespace": "etl-poc", "name": "metadata"}}
    raw = {
        "/readyz": "ok",
        SUMMARY: {"node": {"fs": room}, "pods": [{"volume": [volume]}]},
    }
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    dns = {"metadata": {"name": "coredns-1"}, "spec": {"containers": []}, "status": {**ready, "podIP": "10.42.0.2"}}
    cluster.set(
        objects=objects,
        raw={path: answer if isinstance(answer, str) else json.dumps(answer) for path, answer in raw.items()},
        port=servers.server_address[1],
        told=f"{WELL_ENDS}\n{ENFORCED}",
        pods=[dns],
    )
    return cluster


def doctor(cluster: FakeCluster) -> tuple[int, dict[str, Any]]:
    """The exit code, and the report as JSON."""
    code = main(["--json"])
    return code, json.loads(cluster.said().out)


@pytest.mark.parametrize("cluster", [False, True], indirect=True, ids=["", "by process"])
def test_all_is_well(cluster: FakeCluster) -> None:
    assert main([]) == WELL, cluster.said().out
    told = cluster.said().out
    assert "Looking at https://203.0.113.5:6443 (context default)" in told
    assert told.endswith("All is well.\n")


def test_nothing_is_changed_and_its_pods_are_gone(cluster: FakeCluster) -> None:
    before = cluster.objects
    assert main([]) == WELL
    assert cluster.objects == before
    assert {call["argv"][1] for call in cluster.changes() if "create" not in call["argv"]} == {"--namespace"}


def test_no_value_of_a_secret_is_asked_for_but_the_administrators(cluster: FakeCluster) -> None:
    assert main([]) == WELL
    assert PASSWORD not in "".join(cluster.said()) + json.dumps([call["argv"] for call in cluster.calls()])
    asked = {call["argv"][-1] for call in cluster.calls("secret")}
    assert {re.sub(".*data ", "", words) for words in asked} == {'"ADMIN_PASSWORD"}}', '"tls.crt"}}'}
    assert {call["argv"][-2] for call in cluster.calls("secret")} == {"airflow-admin", "ui-tls", "mssql-tls"}
    (listed,) = cluster.calls("secrets")
    assert listed["argv"][-1].startswith("--output=go-template=")
    assert "{{$value}}" not in listed["argv"][-1]


def test_a_table_is_tried_under_the_name_that_it_has(cluster: FakeCluster, servers: FakeServers) -> None:
    servers.pages["/dags"][0]["description"] = "public.a$(B)$$ → dbo.a where true"
    main([])
    made = [json.loads(call["stdin"])["spec"]["containers"][0]["args"] for call in cluster.calls("create")]
    # As Kubernetes is told that it has nothing to expand.
    assert ["--table=public.a$$(B)$$$$"] in [words[-1:] for words in made]


def test_its_pods_have_the_settings_of_the_steps_and_one_has_staging(cluster: FakeCluster) -> None:
    assert main([]) == WELL
    made = [json.loads(call["stdin"]) for call in cluster.calls("create")]
    made = [pod for pod in made if pod["metadata"]["name"].startswith("doctor-")]
    by_claim = {"staging" in {volume["name"] for volume in pod["spec"]["volumes"]}: pod["spec"] for pod in made}
    assert by_claim[True]["containers"][0]["args"] == ["etl", "check", "staging"]
    assert by_claim[False]["containers"][0]["args"] == [*("etl", "check", "source", "sink", "--table=public.orders")]
    for spec in by_claim.values():
        assert spec["restartPolicy"] == "Never"
        assert spec["activeDeadlineSeconds"] == 60
        container = spec["containers"][0]
        assert container["image"] == "localhost/etl:0.1.0"
        assert {"secretRef": {"name": "etl-connections"}} in container["envFrom"]
        assert container["env"] == []  # METADATA_PASSWORD is nothing to a step
        assert not {"livenessProbe", "readinessProbe", "startupProbe"} & container.keys()


def test_what_the_pod_finds_is_told(cluster: FakeCluster) -> None:
    line = {"check": "source", "where": "source-postgres:5432/orders", "problem": "login", "words": "no such password."}
    cluster.set(told=f"{WELL_ENDS}\n{json.dumps(line)}")
    code, told = doctor(cluster)
    assert code == WRONG
    assert [(one["name"], "no such password." in one["what"]) for one in told["wrong"]] == [("source-login", True)]


def test_a_pod_that_does_not_start_is_told_itself(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "_MOUNT_SECONDS", 0)
    waiting = {"name": "database-exporter", "state": {"waiting": {"reason": "ErrImageNeverPull", "message": "none"}}}
    cluster.set(stuck={"phase": "Pending", "containerStatuses": [waiting]})
    code, told = doctor(cluster)
    assert code == WRONG
    assert {one["name"] for one in told["wrong"]} == {"image-missing"}
    assert any("does not start" in reason for reason in told["not_seen"])


def test_an_image_without_the_check_is_told(cluster: FakeCluster) -> None:
    cluster.set(told="Error: No such command 'check'.")
    code, told = doctor(cluster)
    assert code == NOT_SEEN
    assert any("older than this checkout" in reason for reason in told["not_seen"])


def test_pods_that_may_not_be_made_leave_the_rest_to_be_seen(cluster: FakeCluster) -> None:
    cluster.set(refuses=["create"])
    code, told = doctor(cluster)
    assert code == NOT_SEEN
    assert told["wrong"] == []
    assert any("could not be created: The server refused to create" in reason for reason in told["not_seen"])


def test_a_run_that_failed_is_told_with_the_last_words_of_its_task(cluster: FakeCluster, servers: FakeServers) -> None:
    servers.pages["/dags/orders_etl/dagRuns"][0]["state"] = "failed"
    tasks = [{"task_id": "partition.load", "map_index": 2, "try_number": 4}]
    servers.pages["/dags/orders_etl/dagRuns/manual__1/taskInstances"] = tasks
    servers.log = [{"event": "the sink is full", "level": "error"}, {"event": "ended", "level": "info"}]
    code, told = doctor(cluster)
    assert code == WRONG
    (one,) = told["wrong"]
    assert one["name"] == "run-failed"
    assert "partition.load[2]" in one["what"]
    assert "the sink is full" in one["what"]


def test_another_password_of_the_administrator(cluster: FakeCluster, servers: FakeServers) -> None:
    servers.password = "another"
    code, told = doctor(cluster)
    assert (code, [one["name"] for one in told["wrong"]]) == (WRONG, ["airflow-login"])
    assert "reset-password" in told["wrong"][0]["do"]


def test_without_its_api_server_airflow_is_not_asked(cluster: FakeCluster) -> None:
    cluster.change("EndpointSlice/airflow-api-server-abcde", None)
    code, told = doctor(cluster)
    assert (code, [one["name"] for one in told["wrong"]]) == (WRONG, ["service-without-endpoints"])
    assert any("its API server is not there" in reason for reason in told["not_seen"])
    assert not [call for call in cluster.calls("port-forward") if "service/airflow-api-server" in call["argv"]]


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("does not answer: connection to server at 10.43.0.9, port 5432 failed: Connection refused", "metadata-down"),
        ("does not answer: could not translate host name: Name or service not known", "metadata-down"),
        ("does not answer: FATAL: password authentication failed for user airflow", "metadata-login"),
        ("has no tables yet, this Airflow needs 7a: see the Job airflow-migrate.", "metadata-not-migrated"),
    ],
)
def test_airflows_database_is_tried_from_a_pod_of_airflows(cluster: FakeCluster, said: str, name: str) -> None:
    cluster.set(exec=f"The metadata database {said}")
    code, told = doctor(cluster)
    assert (code, [one["name"] for one in told["wrong"]]) == (WRONG, [name])
    assert said.partition(":")[2].strip()[:20] in told["wrong"][0]["what"]
    (call,) = cluster.calls("exec")
    assert "airflow-scheduler-5d8f7c9b4-x2k7p" in call["argv"]


def test_loki_and_prometheus_that_do_not_answer(cluster: FakeCluster, servers: FakeServers) -> None:
    del servers.others["/ready"], servers.others["/api/v1/alerts"]
    code, told = doctor(cluster)
    assert (code, {one["name"] for one in told["wrong"]}) == (WRONG, {"loki-away", "prometheus-away"})
    for words in ("it answers 503", "waiting for 15s", "no alert fires", "logs statefulset/loki"):
        assert words in str(told)


def test_targets_and_alerts_are_read(cluster: FakeCluster, servers: FakeServers) -> None:
    down = target("loki", "loki:3104") | {"health": "down"}
    servers.others["/api/v1/targets"] = {"data": {"activeTargets": [down]}}
    code, told = doctor(cluster)
    assert (code, [one["name"] for one in told["wrong"]]) == (WRONG, ["target-down"])


def test_volumes_that_are_folders_of_one_disk_are_told_once(cluster: FakeCluster) -> None:
    room = {"capacityBytes": DISK, "availableBytes": DISK // 50}
    volumes = [{**room, "pvcRef": {"namespace": "etl-poc", "name": name}} for name in ("metadata", "mssql")]
    cluster.set(raw={"/readyz": "ok", SUMMARY: json.dumps({"node": {"fs": room}, "pods": [{"volume": volumes}]})})
    code, told = doctor(cluster)
    assert code == WRONG
    (one,) = told["wrong"]
    assert one["name"] == "volume-nearly-full"
    assert "etl-poc/metadata, etl-poc/mssql" in one["what"]


def test_a_container_that_ended_is_told_with_its_log(cluster: FakeCluster) -> None:
    name = "Pod/airflow-triggerer-5d8f7c9b4-x2k7p"
    pod = cluster.objects[name]
    last = {"terminated": {"reason": "Error", "exitCode": 2}}
    pod["status"]["containerStatuses"][0] |= {
        "ready": False,
        "restartCount": 3,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": last,
    }
    cluster.change(name, pod)
    cluster.set(logs={pod["metadata"]["name"]: "usage: airflow\nno such option"}, events=[event(pod, "BackOff", "…")])
    code, told = doctor(cluster)
    (one,) = told["wrong"]
    assert (code, one["name"]) == (WRONG, "crash-looping")
    assert "no such option" in one["what"]


def test_where_the_container_before_is_removed_the_last_one_is_read(cluster: FakeCluster) -> None:
    name = "Pod/airflow-triggerer-5d8f7c9b4-x2k7p"
    pod = cluster.objects[name]
    ended = {"terminated": {"reason": "Error", "exitCode": 2}}
    changed = {"ready": False, "restartCount": 1, "state": ended, "lastState": ended}
    pod["status"]["containerStatuses"][0] |= changed
    cluster.change(name, pod)
    gone = "unable to retrieve container logs for containerd://7d0b5ee9"
    said = {pod["metadata"]["name"]: "no such option", f"{pod['metadata']['name']} before": gone}
    cluster.set(logs=said, events=[event(pod, "BackOff", "…")])
    _, told = doctor(cluster)
    (one,) = told["wrong"]
    assert "no such option" in one["what"]


def test_a_secret_that_was_changed_is_told_from_the_time_of_its_change(cluster: FakeCluster) -> None:
    secret = cluster.objects["Secret/mssql"]
    secret["metadata"]["changed"] = "2026-03-01T11:00:00Z"
    cluster.change("Secret/mssql", secret)
    code, told = doctor(cluster)
    assert (code, [one["name"] for one in told["wrong"]]) == (WRONG, ["secret-newer-than-pods"])


def test_a_cluster_with_nothing_in_it(cluster: FakeCluster) -> None:
    cluster.set(objects={"Node/one": cluster.objects["Node/one"]})
    code, told = doctor(cluster)
    assert (code, [one["name"] for one in told["wrong"]]) == (WRONG, ["namespace-missing"])


def test_a_user_who_may_not_look(cluster: FakeCluster) -> None:
    cluster.set(raw={})
    assert main([]) == NOT_SEEN
    told = cluster.said().err
    assert "kubectl cannot reach the cluster at https://203.0.113.5:6443 (context default)" in told
    assert "The API server is up and not ready" in told


def test_without_kubectl(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert main([]) == NOT_SEEN
    assert "neither kubectl nor k3s on PATH" in cluster.said().err


def test_a_kubeconfig_that_is_not_there(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere/config")
    assert main([]) == NOT_SEEN
    assert "KUBECONFIG names /nowhere/config, which is not there" in cluster.said().err


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        # As kubectl 1.36 was seen to say them.
        ("Error in configuration: context was not found for specified context: b", "kubectl config use-context NAME"),
        (
            "The connection to the server localhost:8080 was refused - did you specify the right host or port?",
            "It has no kubeconfig",
        ),
        (
            "The connection to the server 127.0.0.1:6999 was refused - did you specify the right host or port?",
            "Nobody answers there. Where the cluster is K3s: `systemctl status k3s`",
        ),
        ("Unable to connect to the server: dial tcp: lookup k.invalid: no such host", "does not resolve"),
        (
            "Unable to connect to the server: tls: failed to verify certificate: x509: certificate signed by unknown",
            "copy that file anew",
        ),
        ("error: You must be logged in to the server (Unauthorized)", "The cluster knows no such user"),
        (
            'error: error loading config file "/etc/rancher/k3s/k3s.yaml": open: permission denied',
            "may not be read by this user: run this with sudo",
        ),
        ('error: error loading config file "/tmp/a": couldn\'t get version/kind', "cannot be used"),
        (
            "Unable to connect to the server: tls: failed to verify certificate: x509: certificate has expired",
            "`systemctl restart k3s` on its machine (k3s-agent on the others) renews them",
        ),
        ("Unable to connect to the server: dial tcp 192.0.2.1:6443: i/o timeout", "No answer came within 8 s"),
    ],
)
def test_each_reason_why_the_cluster_does_not_answer_has_its_own_advice(said: str, advice: str) -> None:
    told = access.sentence("", said)
    assert advice in told
    assert told.endswith(f"It said: {said}")


def test_k3s_that_does_not_run_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (("k3s", "exit 0"), ("systemctl", "echo failed; exit 3")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    told = access.sentence("https://127.0.0.1:6443", "The connection to the server 127.0.0.1:6443 was refused")
    assert "K3s on this machine is failed: `systemctl start k3s`" in told


def test_what_a_pod_reaches_past_the_policies_is_told(cluster: FakeCluster) -> None:
    opened = json.dumps({"reached": True, "opened": ["10.43.0.1:443"]})
    cluster.set(told=f"{WELL_ENDS}\n{opened}")
    code, told = doctor(cluster)
    assert (code, [one["name"] for one in told["wrong"]]) == (WRONG, ["policies-not-enforced"])
    assert "on node one: a pod there reached 10.43.0.1:443" in told["wrong"][0]["what"]


def test_the_ui_is_opened_by_name_and_by_address(cluster: FakeCluster, way_in: Front) -> None:
    trust = {"kind": "ConfigMap", "metadata": {"name": "etl-trust", "namespace": "etl-poc"}}
    cluster.change("ConfigMap/etl-trust", {**trust, "data": {"ui-name": "etl.example.com"}})
    code, told = doctor(cluster)
    assert (code, [one["where"] for one in told["wrong"]]) == (WRONG, ["https://etl.example.com/"])
    assert "not for etl.example.com" in told["wrong"][0]["what"]
    cluster.change("ConfigMap/etl-trust", {**trust, "data": {}})
    way_in.pages["/grafana/login"] = (404, "404 page not found")
    code, told = doctor(cluster)
    assert (code, [one["where"] for one in told["wrong"]]) == (WRONG, ["https://one/grafana/login"])


def test_ingresses_that_nobody_takes(cluster: FakeCluster) -> None:
    cluster.change("IngressClass/traefik", None)
    code, told = doctor(cluster)
    assert (code, [one["name"] for one in told["wrong"]]) == (WRONG, ["page-not-shown"])
    assert "there is no IngressClass traefik" in told["wrong"][0]["what"]


def test_certificates_are_read_without_their_keys(cluster: FakeCluster, tmp_path: Path) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "13", "-subj", "/CN=mssql-svc"]
    made = subprocess.run([*command, "-keyout", tmp_path / "key"], check=True, capture_output=True).stdout
    secret = cluster.objects["Secret/mssql-tls"]
    secret["data"]["tls.crt"] = base64.b64encode(made).decode()
    cluster.change("Secret/mssql-tls", secret)
    cluster.set(user_certificate=base64.b64encode(made).decode())
    code, told = doctor(cluster)
    assert code == WRONG
    assert {(one["name"], one["where"]) for one in told["wrong"]} == {
        ("certificate-expiring", "secret etl-poc/mssql-tls"),
        ("certificate-expiring", "certificates of K3s"),
    }
