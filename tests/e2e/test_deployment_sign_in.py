"""The component `oidc` on the cluster: pods reach a provider outside, and logins from outside take no password.

This runs while the first overlay is deployed: test_other_ways.py takes it down, and brings another sink.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from tests.doubles.identity_provider import CLIENT_SECRET, IdentityProvider, run_identity_provider
from tests.harness.e2e.deployment import Deployment
from tests.harness.e2e.front_door import WayIn
from tests.harness.e2e.testbed import TestBed

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def provider(bed: TestBed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[IdentityProvider]:
    with run_identity_provider(tmp_path_factory.mktemp("provider"), bed.source_address) as made:
        yield made


@pytest.fixture(scope="module")
def signed_in(first_run: str, deployment: Deployment, provider: IdentityProvider) -> Iterator[Deployment]:
    """The deployment with the component, and afterwards as it was."""
    name = WayIn.of(deployment).name
    made = deployment.lay_over(deployment.overlay, components=["oidc"], name="with-oidc")
    file = made.checkout / "k8s" / "overlays" / "with-oidc" / "kustomization.yaml"
    settings = {
        "OIDC_ISSUER": provider.issuer,
        "OIDC_AUTHORIZATION_ENDPOINT": f"{provider.issuer}/authorize",
        "OIDC_TOKEN_ENDPOINT": f"{provider.issuer}/token",
        "OIDC_USERINFO_ENDPOINT": f"{provider.issuer}/userinfo",
        "OIDC_UI_URL": f"https://{name}",
        "OIDC_CA": provider.authority.read_text(),
    }
    patch = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "any"}, "data": settings}
    content = yaml.safe_load(file.read_text())
    target = {"kind": "ConfigMap", "name": "(airflow|grafana)-oidc"}
    content["patches"].append({"target": target, "patch": yaml.safe_dump(patch)})
    file.write_text(yaml.safe_dump(content))
    made = replace(made, environment={**made.environment, "OIDC_CLIENT_SECRET": CLIENT_SECRET})
    assert "The identity provider does not answer" not in made.apply_all(f"--ui-name={name}")
    yield made
    deployment.apply_all()
    # As all Secrets these outlive what needed them.
    deployment.kubectl("delete", "secret", "airflow-oidc")
    deployment.kubectl("delete", "secret", "grafana-oidc", namespace="observability")


def test_the_api_server_reaches_the_provider_past_the_policies(
    signed_in: Deployment, provider: IdentityProvider
) -> None:
    told = json.loads(
        signed_in.kubectl("exec", "deployment/airflow-api-server", "--", "python", "-m", "etl_airflow.web.oidc")
    )
    assert told["document"]["issuer"] == provider.issuer


def test_the_button_leads_to_the_provider_which_sends_people_back_by_tls(
    signed_in: Deployment, provider: IdentityProvider
) -> None:
    way_in = WayIn.of(signed_in)
    status, headers = way_in.ask("GET", "/auth/login/SSO?next=")
    assert (status, headers["Location"].partition("?")[0]) == (302, f"{provider.issuer}/authorize")
    (back,) = parse_qs(urlsplit(headers["Location"]).query)["redirect_uri"]
    assert back == f"https://{way_in.name}/auth/oauth-authorized/SSO"


def test_the_administrator_s_password_counts_by_port_forward_alone(signed_in: Deployment) -> None:
    assert WayIn.of(signed_in).log_in(signed_in.secret("airflow-admin", "ADMIN_PASSWORD")) == 403
    with signed_in.airflow() as airflow:
        assert airflow.api.get("/pools")["total_entries"] >= 1
