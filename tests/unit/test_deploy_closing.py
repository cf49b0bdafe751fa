"""The final checks of `apply-all.sh`: network policies are enforced, and the UI opens in a browser."""

import base64
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from ops.cluster import pages, policy_probe
from ops.cluster.console import Console
from ops.cluster.nodes import Node
from ops.cluster.pages import PageProblem, page_problems
from ops.cluster.policy_probe import SCRIPT
from ops.deploy.final_checks import run_final_checks
from ops.deploy.manifests.rendering import Rendering
from ops.deploy.secrets.certificates import CertificateSpec, ui_certificate
from tests.doubles.fake_cluster import FakeCluster, FakeKubectl, ingress, node, with_certificate, workload
from tests.doubles.front_door import Front, certified, front

NAME, ADDRESS = "etl.example.com", "127.0.0.1"
UI = ui_certificate([NAME, "one", ADDRESS])


@pytest.fixture(scope="module")
def ui() -> tuple[str, str]:
    return certified(UI)


@pytest.fixture(scope="module")
def traefiks_own() -> str:
    return certified(CertificateSpec("x", ("TRAEFIK DEFAULT CERT",), 365))[1]


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Starts a front server, at which the pages are looked for."""
    opened = []

    def start(default: str, by_name: "dict[str, str] | None" = None) -> Front:
        block = front(tmp_path, default, by_name)
        opened.append(block)
        answers = block.__enter__()
        monkeypatch.setattr(pages, "PORT", answers.port)
        monkeypatch.setattr(pages, "PLAIN_PORT", answers.plain_port)
        return answers

    yield start
    for block in opened:
        block.__exit__(None, None, None)


def look(certificate: str) -> list[PageProblem]:
    return list(page_problems(ADDRESS, [NAME, ADDRESS], certificate, ["airflow", "grafana"]))


def only(certificate: str, url: str, *words: str) -> None:
    """Assert that this is the only problem."""
    (found,) = look(certificate)
    assert found.url == url
    for each in words:
        assert each in f"{found.what} {found.do}"


def test_pages_that_open_by_name_and_by_address_are_no_trouble(serve: Any, ui: tuple[str, str]) -> None:
    serve(ui[1])
    assert look(ui[0]) == []


def test_whom_traefik_knows_by_name_alone_it_shows_a_certificate_of_its_own_by_address(
    serve: Any, ui: tuple[str, str], traefiks_own: str
) -> None:
    serve(traefiks_own, {NAME: ui[1]})
    only(ui[0], f"https://{ADDRESS}/", "that it made itself", "there has to be one `default`, in etl-poc")


def test_a_certificate_of_somebody_else_is_another_programs(serve: Any, ui: tuple[str, str]) -> None:
    serve(certified(UI)[1])
    only(ui[0], f"https://{NAME}/", "not that of the Secret ui-tls", "ss --listening --tcp")


def test_a_certificate_for_another_name(serve: Any) -> None:
    certificate, both = certified(ui_certificate(["one", ADDRESS]))
    serve(both)
    only(certificate, f"https://{NAME}/", f"is not for {NAME}", f"--ui-name {NAME}")


def test_a_certificate_that_has_expired(serve: Any) -> None:
    certificate, both = expired()
    serve(both)
    only(certificate, f"https://{NAME}/", "has expired", "delete secret ui-tls")


def expired() -> tuple[str, str]:
    """An expired certificate, and with its key."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    names = x509.SubjectAlternativeName([x509.DNSName(NAME), x509.IPAddress(ip_address(ADDRESS))])
    times = datetime(2020, 1, 1, tzinfo=UTC), datetime(2021, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, *times).add_extension(names, critical=False)
    certificate = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
    return certificate, certificate + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def test_a_port_that_speaks_no_tls_is_another_programs(
    serve: Any, ui: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = serve(ui[1])
    monkeypatch.setattr(pages, "PORT", answers.plain_port)
    only(ui[0], f"https://{NAME}/", "speaks no TLS", "it is not Traefik", "restart K3s")


def test_a_port_at_which_nobody_listens(serve: Any, ui: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    serve(ui[1])
    with socket.socket() as bound:  # and does not listen
        bound.bind((ADDRESS, 0))
        monkeypatch.setattr(pages, "PORT", bound.getsockname()[1])
        only(ui[0], f"https://{NAME}/", "the connection is refused", "svclb-traefik Pending", "EXTERNAL-IP")


def test_a_port_that_a_firewall_swallows(serve: Any, ui: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    serve(ui[1])
    monkeypatch.setattr(pages, "SECONDS", 0.3)
    with socket.socket() as full:
        # Whoever comes when nobody more may wait gets no answer, as from a firewall that drops.
        full.bind((ADDRESS, 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        monkeypatch.setattr(pages, "PORT", full.getsockname()[1])
        (found,) = look(ui[0])
        for one in waiting:
            one.close()
    assert "Nobody answered" in found.what
    assert "firewall-cmd --add-service=https" in found.do


@pytest.mark.parametrize(
    ("status", "text", "what"),
    [
        (404, "404 page not found", "Traefik knows no way to Airflow (404)"),
        (502, "Bad Gateway", "Traefik does not reach Airflow (502)"),
        (200, "<h1>It works!</h1>", "is not the login page of Airflow (status 200)"),
    ],
)
def test_a_page_that_is_not_the_login_page(serve: Any, ui: tuple[str, str], status: int, text: str, what: str) -> None:
    serve(ui[1]).pages["/auth/login/"] = (status, text)
    only(ui[0], f"https://{NAME}/auth/login/", what)


def test_who_comes_without_tls_has_to_be_sent_on(serve: Any, ui: tuple[str, str]) -> None:
    serve(ui[1]).plain = 200
    only(ui[0], f"http://{ADDRESS}/", "is not sent there: it answers 200")


# --- network policies


def ask(*places: str, seconds: str = "0") -> dict[str, Any]:
    """Output of the probe pod: a target that it may reach, then those that it must not."""
    command = [sys.executable, "-c", SCRIPT, seconds, *places]
    told: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return told


@pytest.fixture
def open_and_closed() -> Iterator[tuple[str, str]]:
    """A listening port, and one that refuses connections, as a policy does."""
    with socket.socket() as listening, socket.socket() as closed:
        for one in (listening, closed):
            one.bind((ADDRESS, 0))
        listening.listen()
        yield f"{ADDRESS}:{listening.getsockname()[1]}", f"{ADDRESS}:{closed.getsockname()[1]}"


def test_the_pod_tells_what_it_reached(open_and_closed: tuple[str, str]) -> None:
    reached, refused = open_and_closed
    assert ask(reached, refused) == {"reached": True, "opened": []}
    assert ask(reached, reached, refused) == {"reached": True, "opened": [reached]}
    # Whoever reaches nothing at all has proved nothing.
    assert ask(refused, refused) == {"reached": False, "opened": []}


def test_a_new_pod_is_given_time_until_policies_know_it(open_and_closed: tuple[str, str]) -> None:
    reached, _ = open_and_closed
    with socket.socket() as listening:
        listening.bind((ADDRESS, 0))
        listening.listen()
        command = [sys.executable, "-c", SCRIPT, "60", reached, f"{ADDRESS}:{listening.getsockname()[1]}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            listening.accept()[0].close()  # it got through once; from now on it does not
            listening.close()
            output, _ = process.communicate()
    assert json.loads(output) == {"reached": True, "opened": []}


@pytest.fixture
def cluster(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    """A cluster of two nodes with CoreDNS."""
    monkeypatch.setattr(policy_probe, "_POLL_SECONDS", 0.01)
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    probes = {"readinessProbe": {"httpGet": {"port": 8181}}, "livenessProbe": {"httpGet": {"port": "health"}}}
    ports = [{"name": "dns", "containerPort": 53}, {"name": "health", "containerPort": 8080}]
    dns = {
        "metadata": {"name": "coredns-1", "namespace": "kube-system"},
        "spec": {"containers": [{"name": "coredns", "ports": ports, **probes}]},
        "status": {**ready, "podIP": "10.42.0.2"},
    }
    service = {"clusterIP": "10.43.0.1", "ports": [{"port": 443}]}
    api = {"kind": "Service", "metadata": {"name": "kubernetes", "namespace": "default"}, "spec": service}
    nodes = {f"Node/{name}": node(name) | {"status": ready} for name in ("one", "two")}
    cluster.set(objects={**nodes, "Service/kubernetes": api}, pods=[dns])
    return cluster


NO_IMAGE = {"name": "probe", "state": {"waiting": {"reason": "ErrImageNeverPull", "message": "none"}}}
EXPORTER = workload("Deployment", "database-exporter", "observability", "localhost/etl:0.1.0")
HERE = Node("one", ADDRESS, is_this_machine=True, is_control_plane=True, has_data=True)


def tell(cluster: FakeCluster, *more: dict[str, Any]) -> str:
    run_final_checks(Console(), FakeKubectl(), Rendering([EXPORTER, *more], []), HERE, NAME)
    return cluster.said().out


def test_policies_that_hold_are_told_for_every_node_and_nothing_is_left(cluster: FakeCluster) -> None:
    before = cluster.objects
    cluster.set(told=json.dumps({"reached": True, "opened": []}))
    assert "Network policies are enforced on one, two: a pod reached the DNS and nothing else." in tell(cluster)
    assert cluster.objects == before
    made = [json.loads(call["stdin"]) for call in cluster.calls("create")]
    assert {pod["spec"]["nodeName"] for pod in made} == {"one", "two"}
    places = ["10.42.0.2:53", "10.42.0.2:8181", "10.42.0.2:8080", "10.43.0.1:443"]
    assert {tuple(pod["spec"]["containers"][0]["args"][4:]) for pod in made} == {tuple(places)}
    # No policy but the default selects it.
    assert {pod["metadata"]["labels"]["app.kubernetes.io/name"] for pod in made} == {"policy-probe"}


def test_k3s_that_ignores_policies_is_told_with_where_its_log_says_why(cluster: FakeCluster) -> None:
    cluster.set(told=json.dumps({"reached": True, "opened": ["10.42.0.2:8181"]}))
    told = tell(cluster)
    assert "Note: Network policies are not enforced on node one: a pod there reached 10.42.0.2:8181" in told
    assert "Note: Network policies are not enforced on node two" in told
    assert "`Skipping network policy controller start`" in told
    assert "are enforced on" not in told.replace("not enforced on", "")


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"told": '{"reached": false, "opened": []}'}, "reaches nothing, not even the cluster's DNS"),
        ({"told": "exec format error"}, "gave no result"),
        ({"pods": []}, "No pod of the cluster's DNS is ready"),
        ({"refuses": ["create"]}, "The server refused to create"),
        ({"stuck": {"phase": "Pending", "containerStatuses": [NO_IMAGE]}}, "does not start: ErrImageNeverPull, none"),
    ],
)
def test_a_try_that_proves_nothing_is_told_as_such(cluster: FakeCluster, state: dict[str, Any], words: str) -> None:
    cluster.set(**state)
    told = tell(cluster)
    assert "Note: Whether network policies are enforced could not be tested:" in told
    assert words in told


def test_the_way_in_is_told_at_the_end(
    cluster: FakeCluster, serve: Any, ui: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = serve(ui[1])
    certificate = base64.b64encode(ui[0].encode()).decode()
    secret = {
        "kind": "Secret",
        "metadata": {"name": "ui-tls", "namespace": "etl-poc"},
        "data": {"tls.crt": certificate},
    }
    cluster.change("Secret/ui-tls", secret)
    cluster.set(told=json.dumps({"reached": True, "opened": []}))
    page = with_certificate(ingress("airflow", "etl-poc", "airflow", "/"))
    assert f"with the certificate of ui-tls: {NAME}, {ADDRESS}." in tell(cluster, page)
    answers.pages["/auth/login/"] = (503, "")
    monkeypatch.setattr("ops.deploy.final_checks.TIMEOUT_SECONDS", 0)
    told = tell(cluster, page)
    assert f"Note: https://{NAME}/auth/login/ does not open as it should. Traefik does not reach Airflow (503)." in told


def test_ingresses_that_nobody_takes_are_told(cluster: FakeCluster) -> None:
    cluster.set(told=json.dumps({"reached": True, "opened": []}))
    page = ingress("airflow", "etl-poc", "airflow", "/")
    page["spec"]["ingressClassName"] = "traefik"
    assert "there is no IngressClass traefik" in tell(cluster, page)
