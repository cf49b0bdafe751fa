"""`apply-all.sh` with an identity provider: wrong settings are refused, and pods are let through to its port."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from ops.deploy.cli import main
from tests.doubles.fake_cluster import FakeCluster, named
from tests.doubles.identity_provider import IdentityProvider, run_identity_provider
from tests.harness.manifests.kustomizations import K8S

COMPONENT = K8S / "components" / "oidc"
NAMESPACES = {"airflow-oidc": ("airflow", "etl-poc"), "grafana-oidc": ("observability", "observability")}
SECRET = "the-secret-of-the-client"


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IdentityProvider]:
    with run_identity_provider(tmp_path_factory.mktemp("provider")) as made:
        yield made


@pytest.fixture
def cluster(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    monkeypatch.setenv("OIDC_CLIENT_SECRET", SECRET)
    return cluster


def settings(provider: IdentityProvider, **changed: str) -> dict[str, str]:
    return {
        "OIDC_ISSUER": provider.issuer,
        "OIDC_AUTHORIZATION_ENDPOINT": f"{provider.issuer}/authorize",
        "OIDC_TOKEN_ENDPOINT": f"{provider.issuer}/token",
        "OIDC_USERINFO_ENDPOINT": f"{provider.issuer}/userinfo",
        "OIDC_UI_URL": "https://etl.example.com",
        "OIDC_CA": provider.authority.read_text(),
    } | changed


def apply(cluster: FakeCluster, data: dict[str, str], *options: str, **policies: Any) -> int:
    """Run it with the objects of the component; `policies` are other ports of a policy."""
    for name, (part, namespace) in NAMESPACES.items():
        policy = yaml.safe_load((COMPONENT / f"{name.partition('-')[0]}-network-policy.yaml").read_text())
        policy["spec"]["egress"][0]["ports"] = policies.get("ports", policy["spec"]["egress"][0]["ports"])
        cluster.objects_to_render += [named("ConfigMap", name, part, namespace) | {"data": data}, policy]
    cluster.write_overlay()
    return main(cluster.arguments("--ui-name=etl.example.com", *options))


def test_both_get_the_secret_once_and_reach_the_provider_s_port(
    cluster: FakeCluster, provider: IdentityProvider
) -> None:
    assert apply(cluster, settings(provider)) == 0
    port = int(provider.issuer.rpartition(":")[2])
    for name, (_, namespace) in NAMESPACES.items():
        assert cluster.objects[f"NetworkPolicy/{name}"]["spec"]["egress"][0]["ports"] == [{"port": port}]
        secret = cluster.objects[f"Secret/{name}"]
        assert (secret["metadata"]["namespace"], list(secret["data"])) == (namespace, ["OIDC_CLIENT_SECRET"])
    told = cluster.said()
    assert f"sign in at {provider.issuer}" in told.out
    assert SECRET not in told.out + told.err + str([call["argv"] for call in cluster.calls()])


def test_a_port_of_one_s_own_stays(cluster: FakeCluster, provider: IdentityProvider) -> None:
    assert apply(cluster, settings(provider), ports=[{"port": 8443}]) == 0
    assert cluster.objects["NetworkPolicy/airflow-oidc"]["spec"]["egress"][0]["ports"] == [{"port": 8443}]


def test_the_secret_need_not_be_given_again(
    cluster: FakeCluster, provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert apply(cluster, settings(provider)) == 0
    assert main(cluster.arguments()) == 0


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"OIDC_TOKEN_ENDPOINT": "https://login.example.org/token"}, "/token (token_endpoint in https://localhost:"),
        ({"OIDC_USERINFO_ENDPOINT": ""}, "OIDC_USERINFO_ENDPOINT is empty"),
        ({"OIDC_UI_URL": "https://other.example.com"}, "--ui-name other.example.com"),
        ({"OIDC_UI_URL": "http://etl.example.com"}, "has to begin with https://"),
        ({"OIDC_UI_URL": "https://etl.example.com/"}, "end it after the name, without a slash"),
        ({"OIDC_UI_URL": "https://[etl.example.com"}, "is no URL"),
        ({"OIDC_ISSUER": "https://login.example.com"}, "OIDC_ISSUER is still the example's"),
        ({"OIDC_ISSUER": "https://localhost:port"}, "correct OIDC_ISSUER"),
        ({"OIDC_CA": "/etc/ssl/ca.pem"}, "OIDC_CA holds no certificate"),
    ],
    ids=str,
)
def test_settings_that_cannot_be_right_are_refused_with_what_to_write(
    cluster: FakeCluster,
    provider: IdentityProvider,
    changed: dict[str, str],
    words: str,
) -> None:
    assert apply(cluster, settings(provider, **changed)) == 1
    assert words in cluster.said().err
    assert cluster.changes() == []


def test_an_address_at_which_the_provider_describes_nothing_is_refused(
    cluster: FakeCluster, provider: IdentityProvider
) -> None:
    assert apply(cluster, settings(provider, OIDC_ISSUER=f"{provider.issuer}/realms/mistyped")) == 1
    assert "/realms/mistyped/.well-known/openid-configuration is not the discovery document" in cluster.said().err


def test_an_issuer_that_the_provider_does_not_call_itself_is_refused(
    cluster: FakeCluster, provider: IdentityProvider
) -> None:
    assert apply(cluster, settings(provider, OIDC_ISSUER=f"{provider.issuer}/")) == 1
    told = cluster.said().err
    assert f"OIDC_ISSUER is {provider.issuer}/, and the identity provider says {provider.issuer} (issuer in" in told


def test_without_the_client_s_secret_it_says_how_to_give_it(
    cluster: FakeCluster,
    provider: IdentityProvider,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OIDC_CLIENT_SECRET")
    assert apply(cluster, settings(provider)) == 1
    assert "`sudo --preserve-env=OIDC_CLIENT_SECRET`" in cluster.said().err


@pytest.mark.parametrize("away", [True, False], ids=["nobody answers", "another authority"])
def test_a_provider_that_cannot_be_asked_stops_no_upgrade_and_is_told(
    cluster: FakeCluster, provider: IdentityProvider, away: bool
) -> None:
    changed = {"OIDC_ISSUER": "https://localhost:9"} if away else {"OIDC_CA": ""}
    assert apply(cluster, settings(provider, **changed)) == 0
    told = cluster.said()
    assert "The identity provider does not answer" in told.out + told.err


def test_without_the_component_nothing_is_asked_for(cluster: FakeCluster) -> None:
    assert main(cluster.arguments()) == 0
    assert not [name for name in cluster.objects if "oidc" in name]
