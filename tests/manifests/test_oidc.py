"""The component `oidc`: one set of settings for Airflow and Grafana, and no logins by password.

Grafana cannot be run here; its settings are those of its documentation ([auth.generic_oauth], [auth], [auth.basic]).
"""

import os
import re
import subprocess
from pathlib import Path

import jmespath
import pytest
import yaml

from tests.harness.manifests.kustomizations import DEFAULT, K8S
from tests.harness.manifests.pods import SECRET, Container, pods_of
from tests.harness.manifests.rendering import Object, Rendering, kubectl, rendering

ROOT = K8S.parent
COMPONENT = K8S / "components" / "oidc"
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
WITH_COMPONENT = f"{DEFAULT}+oidc"
SETTINGS = re.findall(r"^(OIDC_\w+)=", (COMPONENT / "oidc.env").read_text(), re.MULTILINE)


def container(found: Rendering, owner: str) -> Container:
    return next(pod for pod in pods_of(found) if pod.owner == owner).containers[-1]


def variables(owner: str, **changed: str) -> dict[str, str]:
    """A container's variables as Kubernetes makes them, with some settings changed."""
    settings = container(rendering(WITH_COMPONENT), owner).environment() | changed
    return {name: re.sub(r"\$\((\w+)\)", lambda found: settings[found[1]], value) for name, value in settings.items()}


def settings_in(objects: list[Object]) -> list[dict[str, str]]:
    return [item["data"] for item in objects if item["kind"] == "ConfigMap" and "OIDC_ISSUER" in item["data"]]


def test_one_file_has_the_settings_of_both() -> None:
    airflow, grafana = settings_in(rendering(WITH_COMPONENT).objects)
    assert airflow == grafana
    assert airflow.keys() == set(SETTINGS)


def test_the_patch_that_is_documented_changes_both(tmp_path: Path) -> None:
    text = OPERATIONS.split("### At an identity provider")[1].split("```yaml\n")[1].split("   ```")[0]
    content = yaml.safe_load(re.sub("^   ", "", text, flags=re.MULTILINE))
    here = os.path.relpath(K8S, tmp_path.resolve())
    content |= {"resources": [f"{here}/overlays/{DEFAULT}"], "components": [f"{here}/components/oidc"]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(content))
    made = subprocess.run([kubectl(), "kustomize", tmp_path], capture_output=True, text=True, check=True)
    airflow, grafana = settings_in(list(yaml.safe_load_all(made.stdout)))
    assert airflow == grafana
    assert airflow["OIDC_ISSUER"] == "https://login.example.com/realms/data"
    assert airflow["OIDC_CA"].startswith("-----BEGIN CERTIFICATE-----")


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_setting_is_documented_and_used(setting: str) -> None:
    assert f"`{setting}`" in OPERATIONS
    files = [*COMPONENT.glob("*.yaml"), *(ROOT / "airflow_image").rglob("*.py")]
    files += [ROOT / "ops" / "deploy" / "manifests" / "identity.py"]
    assert any(setting in file.read_text() for file in files)


def test_airflow_takes_its_settings_from_a_file_that_its_image_has() -> None:
    file = variables("Deployment/airflow-api-server")["AIRFLOW__FAB__CONFIG_FILE"]
    assert (ROOT / "airflow_image" / file.removeprefix("/opt/airflow/")).is_file()
    # Nothing else of Airflow knows the client's secret, so nothing else may read that file.
    others = [pod for pod in pods_of(rendering(WITH_COMPONENT)) if pod.owner != "Deployment/airflow-api-server"]
    assert not any("AIRFLOW__FAB__CONFIG_FILE" in one.environment() for pod in others for one in pod.containers)


@pytest.mark.parametrize(
    ("claims", "role"),
    [
        ({"groups": ["etl-admins", "etl-viewers"]}, "Admin"),
        ({"groups": ["cooks", "etl-operators"]}, "Editor"),
        ({"groups": ["etl-users"]}, "Viewer"),
        ({"groups": ["etl-viewers"]}, "Viewer"),
        ({"groups": ["cooks"]}, False),
        ({"groups": []}, False),
        ({"groups": ["etl-admin"]}, False),
        ({"groups": "etl-users"}, "Viewer"),
        ({"groups": None}, False),
        ({}, False),
    ],
    ids=str,
)
def test_grafana_gives_a_role_to_those_groups_that_have_one_in_airflow(claims: Object, role: str | bool) -> None:
    """By JMESPath, as Grafana evaluates it; whatever is no name of a role is refused."""
    grafana = variables("Deployment/grafana")
    assert jmespath.search(grafana["GF_AUTH_GENERIC_OAUTH_ROLE_ATTRIBUTE_PATH"], claims) == role
    assert grafana["GF_AUTH_GENERIC_OAUTH_ROLE_ATTRIBUTE_STRICT"] == "true"
    assert grafana["GF_AUTH_GENERIC_OAUTH_SKIP_ORG_ROLE_SYNC"] == "false"


def test_a_setting_that_is_empty_gives_no_group_a_role_in_grafana() -> None:
    path = variables("Deployment/grafana", OIDC_ADMIN_GROUP="")["GF_AUTH_GENERIC_OAUTH_ROLE_ATTRIBUTE_PATH"]
    assert jmespath.search(path, {"groups": ["cooks"]}) is False


def test_groups_may_be_anywhere_in_the_token() -> None:
    path = variables("Deployment/grafana", OIDC_GROUPS_CLAIM="realm_access.roles")
    claims = {"realm_access": {"roles": ["etl-operators"]}}
    assert jmespath.search(path["GF_AUTH_GENERIC_OAUTH_ROLE_ATTRIBUTE_PATH"], claims) == "Editor"


def test_grafana_is_reached_by_no_password_and_asks_the_provider_with_pkce() -> None:
    grafana = variables("Deployment/grafana")
    assert grafana["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    assert grafana["GF_AUTH_BASIC_ENABLED"] == "false"
    assert grafana["GF_AUTH_GENERIC_OAUTH_USE_PKCE"] == "true"
    assert grafana["GF_AUTH_GENERIC_OAUTH_CLIENT_SECRET"] == SECRET
    assert grafana["GF_SERVER_ROOT_URL"] == "https://etl.example.com/grafana/"
    assert {grafana[f"GF_AUTH_GENERIC_OAUTH_{name}_URL"] for name in ("AUTH", "TOKEN", "API")} == {
        f"https://login.example.com/{path}" for path in ("authorize", "token", "userinfo")
    }


@pytest.mark.parametrize("owner", ["Deployment/airflow-api-server", "Deployment/grafana"])
def test_the_authorities_of_the_provider_are_where_they_are_looked_for(owner: str) -> None:
    found = container(rendering(WITH_COMPONENT), owner)
    folder = next(mount["mountPath"] for mount in found.content["volumeMounts"] if mount["name"] == "oidc-ca")
    (volume,) = [one for one in found.pod.volumes if one["name"] == "oidc-ca"]
    assert volume["configMap"]["items"] == [{"key": "OIDC_CA", "path": "ca.crt"}]
    environment = found.environment()
    assert environment.get("OIDC_CA_FILE", f"{environment.get('SSL_CERT_DIR')}/ca.crt") == f"{folder}/ca.crt"
