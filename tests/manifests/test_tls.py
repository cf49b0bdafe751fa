"""TLS to the databases: source and sink are verified, and SQL Server takes no plain text."""

import configparser
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
import yaml
from etl.config.settings import Settings
from etl_airflow.pods.spec import TRUST, TRUST_PATH
from pydantic import SecretStr

from ops.cluster import names
from ops.deploy.manifests.trust import FOLDER
from tests.harness.manifests.kustomizations import DEFAULT, K8S
from tests.harness.manifests.pods import Container, Pod, all_pods, pods_of, worker
from tests.harness.manifests.rendering import Rendering, renderings
from tests.harness.manifests.rendering import rendering as overlay

each_rendering = pytest.mark.parametrize("rendering", renderings(), ids=str)


def connections(rendering: Rendering) -> dict[str, str]:
    found = rendering.find("ConfigMap", "etl-connections")
    assert found
    data: dict[str, str] = found["data"]
    return data


def container_of(rendering: Rendering, owner: str) -> Container:
    return next(pod for pod in pods_of(rendering) if pod.owner == owner).containers[0]


@each_rendering
def test_source_and_sink_are_verified(rendering: Rendering) -> None:
    found = connections(rendering)
    settings = Settings(source_url=SecretStr(found["SOURCE_URL"]), sink_url=SecretStr(found["SINK_URL"]))
    assert settings.tls_warnings() == ""
    # Said, and not left to a default.
    assert dict(parse_qsl(urlsplit(found["SOURCE_URL"]).query))["sslmode"] == "verify-full"
    assert dict(parse_qsl(urlsplit(found["SINK_URL"]).query))["encrypt"] == "yes"


def mounts_trust(pod: Pod) -> bool:
    volumes = {one["name"] for one in pod.volumes if one.get("configMap", {}).get("name") == names.TRUST}
    mounts = [one for container in pod.containers for one in container.content.get("volumeMounts", [])]
    return any(one["name"] in volumes and one["mountPath"] == FOLDER and one["readOnly"] for one in mounts)


SINK_PASSWORDS = {"SINK_PASSWORD", "SINK_EXPORTER_PASSWORD", "SINK_BACKUP_PASSWORD"}


@each_rendering
def test_whoever_connects_finds_whom_to_believe(rendering: Rendering) -> None:
    """The API server only names the file."""
    connect = [
        pod
        for pod in all_pods(rendering)
        if pod.owner != "Deployment/airflow-api-server"
        and any(SINK_PASSWORDS & container.environment().keys() for container in pod.containers)
    ]
    assert len(connect) >= 3
    assert [pod.owner for pod in (*connect, worker(rendering)) if not mounts_trust(pod)] == []


def test_steps_look_where_apply_all_puts_it() -> None:
    assert (TRUST, TRUST_PATH) == (names.TRUST, FOLDER)


@pytest.mark.parametrize("name", [DEFAULT, "multi-node", "e2e"])
def test_sql_server_shows_the_certificate_that_is_mounted_and_takes_no_plain_text(name: str) -> None:
    container = container_of(overlay(name), "StatefulSet/mssql")
    found = overlay(name).find("ConfigMap", "mssql")
    assert found
    settings = configparser.ConfigParser()
    settings.read_string(found["data"]["mssql.conf"])
    network = settings["network"]
    folders = {one["mountPath"]: one["name"] for one in container.content["volumeMounts"]}
    secrets = {one["name"]: one["secret"]["secretName"] for one in container.pod.volumes if "secret" in one}
    for setting, key in (("tlscert", "tls.crt"), ("tlskey", "tls.key")):
        file = Path(network[setting])
        assert (secrets[folders[str(file.parent)]], file.name) == ("mssql-tls", key)
    assert network["forceencryption"] == "1"
    assert network["tlsprotocols"] == "1.2"
    assert folders["/var/opt/mssql/mssql.conf"]


def test_prometheus_verifies_whom_it_sends_its_token() -> None:
    found = yaml.safe_load((K8S / "base" / "observability" / "prometheus" / "prometheus.yml").read_text())
    with_token = [job for job in found["scrape_configs"] if "authorization" in job]
    assert {job["job_name"] for job in with_token} == {"kubelet", "containers"}
    for job in with_token:
        assert job["scheme"] == "https"
        # Mounted in every pod: in K3s it also signs the kubelets' certificates.
        assert job["tls_config"] == {"ca_file": "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"}


@each_rendering
def test_the_exporter_sees_certificates_and_no_keys(rendering: Rendering) -> None:
    container = container_of(rendering, "Deployment/database-exporter")
    (volume,) = (one for one in container.pod.volumes if one["name"] == "certificates")
    for source in volume["projected"]["sources"]:
        assert source["secret"]["items"] == [{"key": "tls.crt", "path": f"{source['secret']['name']}.crt"}]
        assert source["secret"]["optional"]
    assert {source["secret"]["name"] for source in volume["projected"]["sources"]} == {"mssql-tls", "ui-tls"}
