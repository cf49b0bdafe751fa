"""`apply-all.sh`: TLS settings of the connections, and certificates of servers in the cluster."""

import base64
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ops.deploy.cli import main
from ops.deploy.secrets import certificates
from ops.deploy.secrets.certificates import MADE_FOR
from tests.doubles.fake_cluster import FakeCluster, named

NAMES = ["mssql-svc", "mssql-svc.etl-poc", "mssql-svc.etl-poc.svc", "mssql-svc.etl-poc.svc.cluster.local"]
PEM = "-----BEGIN CERTIFICATE-----\nYQ==\n-----END CERTIFICATE-----\n"
KEY = "-----BEGIN PRIVATE KEY-----\nYQ==\n-----END PRIVATE KEY-----\n"


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """A file as people have it: with text around, and a key that must not get any further."""
    file = tmp_path / "ca.pem"
    file.write_text(f"Our authority\n{PEM}{KEY}")
    return file


def settings(cluster: FakeCluster) -> dict[str, str]:
    found: dict[str, str] = cluster.objects["ConfigMap/etl-connections"]["data"]
    return found


def trust(cluster: FakeCluster) -> dict[str, str]:
    found: dict[str, str] = cluster.objects["ConfigMap/etl-trust"]["data"]
    return found


def certificate(cluster: FakeCluster, secret: str) -> str:
    return base64.b64decode(cluster.objects[f"Secret/{secret}"]["data"]["tls.crt"]).decode()


def text_of(pem: str) -> str:
    command = ["openssl", "x509", "-noout", "-text"]
    return subprocess.run(command, input=pem, check=True, capture_output=True, text=True).stdout


def template(cluster: FakeCluster) -> Any:
    return cluster.objects["StatefulSet/mssql"]["spec"]["template"]


def let_sql_server_show_it(cluster: FakeCluster) -> None:
    for item in cluster.objects_to_render:
        if item["metadata"]["name"] == "mssql" and item["kind"] == "StatefulSet":
            item["spec"]["template"]["spec"]["volumes"] = [{"name": "tls", "secret": {"secretName": "mssql-tls"}}]
    cluster.write_overlay()


def put_sql_server_outside(cluster: FakeCluster) -> None:
    cluster.objects_to_render = [
        item
        for item in cluster.objects_to_render
        if (item["kind"], item["metadata"]["name"]) != ("StatefulSet", "mssql")
    ]
    cluster.write_overlay()


def test_source_and_sink_are_verified_without_being_asked_for(cluster: FakeCluster) -> None:
    assert main(cluster.arguments()) == 0
    assert "sslmode=verify-full" in settings(cluster)["SOURCE_URL"]
    assert "SOURCE_CA_FILE" not in settings(cluster)
    assert settings(cluster)["SINK_CA_FILE"] == "/etc/etl-trust/mssql-ca.crt"
    assert trust(cluster) == {"mssql-ca.crt": certificate(cluster, "mssql-tls")}
    told = cluster.said()
    assert "verified" not in told.out + told.err


def test_the_source_is_known_by_the_name_and_the_authority_that_were_given_once(
    cluster: FakeCluster, authority: Path
) -> None:
    given = ["--source-address=192.0.2.7", "--source-name=Orders-DB.example.com", f"--source-ca={authority}"]
    expected = "postgresql://orders@orders-db.example.com:5433/orders?sslmode=verify-full&hostaddr=192.0.2.7"
    for options in (given, ["--source-address=192.0.2.7"]):
        assert main(cluster.arguments(*options)) == 0
        assert settings(cluster)["SOURCE_URL"] == expected
        assert settings(cluster)["SOURCE_CA_FILE"] == "/etc/etl-trust/source-ca.crt"
        assert trust(cluster)["source-ca.crt"] == PEM
    assert main(cluster.arguments("--source-ca=system")) == 0
    assert "SOURCE_CA_FILE" not in settings(cluster)
    assert "source-ca.crt" not in trust(cluster)


@pytest.mark.parametrize("mode", ["require", "disable"])
def test_less_than_verified_is_asked_for_and_told_each_time(cluster: FakeCluster, mode: str) -> None:
    for options in ([f"--source-tls={mode}"], []):
        assert main(cluster.arguments(*options)) == 0
        assert settings(cluster)["SOURCE_URL"].endswith(f"?sslmode={mode}")
        assert f"The operational Postgres is not verified (sslmode={mode})" in "".join(cluster.said())
    assert main(cluster.arguments("--source-tls=verify-full")) == 0
    assert "not verified" not in "".join(cluster.said())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("encrypt=no", "The sink is reached in plain text"),
        ("trustservercertificate=yes", "The certificate of the sink is not verified"),
    ],
)
def test_a_sink_that_is_not_verified_is_told(cluster: FakeCluster, options: str, told: str) -> None:
    for item in cluster.objects_to_render:
        if item["metadata"]["name"] == "etl-connections":
            item["data"] = item["data"] | {"SINK_URL": f"mssql://etl@sql.example.com:1433/sink?{options}"}
    cluster.write_overlay()
    assert main(cluster.arguments()) == 0
    assert told in "".join(cluster.said())


def test_a_sink_outside_is_known_by_the_authority_that_was_given(cluster: FakeCluster, authority: Path) -> None:
    assert main(cluster.arguments()) == 0
    put_sql_server_outside(cluster)
    assert main(cluster.arguments()) == 0
    # That of the one inside does not vouch for it.
    assert "SINK_CA_FILE" not in settings(cluster)
    assert main(cluster.arguments(f"--sink-ca={authority}")) == 0
    assert settings(cluster)["SINK_CA_FILE"] == "/etc/etl-trust/sink-ca.crt"
    assert trust(cluster) == {"sink-ca.crt": PEM}


@pytest.mark.parametrize("option", ["--source-ca", "--sink-ca"])
def test_a_file_without_a_certificate_is_refused(cluster: FakeCluster, tmp_path: Path, option: str) -> None:
    (tmp_path / "key.pem").write_text(KEY)
    with pytest.raises(SystemExit):
        main(cluster.arguments(f"{option}={tmp_path / 'key.pem'}"))
    assert "holds no certificate" in cluster.said().err


def test_certificates_are_for_the_names_by_which_their_servers_are_reached(cluster: FakeCluster) -> None:
    assert main(cluster.arguments("--ui-name=etl.example.com")) == 0
    for name in NAMES:
        assert f"DNS:{name}" in text_of(certificate(cluster, "mssql-tls"))
    for name in ("DNS:etl.example.com", "DNS:one", "IP Address:203.0.113.5"):
        assert name in text_of(certificate(cluster, "ui-tls"))


def test_the_ui_is_reached_by_the_name_that_was_given_once(cluster: FakeCluster) -> None:
    for options in (["--ui-name=etl.example.com"], []):
        assert main(cluster.arguments(*options)) == 0
        assert "https://etl.example.com/grafana " in cluster.said().out


def test_a_certificate_of_one_s_own_is_left_alone_and_its_authority_believed(cluster: FakeCluster) -> None:
    data = {"tls.crt": PEM, "tls.key": KEY, "ca.crt": PEM.replace("YQ", "Yg")}
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    cluster.change("Secret/mssql-tls", named("Secret", "mssql-tls", "") | {"data": encoded})
    assert main(cluster.arguments()) == 0
    assert cluster.objects["Secret/mssql-tls"]["data"] == encoded
    assert trust(cluster)["mssql-ca.crt"] == data["ca.crt"]


def test_one_that_was_made_here_is_made_anew_for_other_names_and_before_it_runs_out(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_sql_server_show_it(cluster)
    monkeypatch.setattr(certificates, "_RENEW_DAYS", 90)
    assert main(cluster.arguments()) == 0
    before = {name: certificate(cluster, name) for name in ("mssql-tls", "ui-tls")}
    shown = template(cluster)
    assert main(cluster.arguments("--ui-name=etl.example.com")) == 0
    assert certificate(cluster, "ui-tls") != before["ui-tls"]
    assert certificate(cluster, "mssql-tls") == before["mssql-tls"]
    assert template(cluster) == shown
    monkeypatch.setattr(certificates, "_RENEW_DAYS", 3660)
    assert main(cluster.arguments()) == 0
    assert certificate(cluster, "mssql-tls") != before["mssql-tls"]
    assert trust(cluster)["mssql-ca.crt"] == certificate(cluster, "mssql-tls")
    # SQL Server reads it when it starts.
    assert template(cluster) != shown
    assert cluster.objects["Secret/mssql-tls"]["metadata"]["annotations"][MADE_FOR].split() == NAMES


def test_without_openssl_nothing_is_begun(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "_has_openssl", lambda: False)
    assert main(cluster.arguments()) == 1
    assert "no certificate can be made for mssql-tls, ui-tls" in cluster.said().err
    assert cluster.changes() == []
