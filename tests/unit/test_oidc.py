"""Parts of OpenID Connect sign-in: groups to roles, accepted tokens, and the doctor's view."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from etl_airflow.web.failed_logins import is_password_account, password_users
from etl_airflow.web.oidc import authorities, roles_of_groups
from etl_airflow.web.security_manager import SecurityManager

from dev.sandbox.stack import ROOT
from ops.cluster.oidc import mismatches
from ops.doctor.outside import look_at_identity
from ops.doctor.snapshot import Snapshot
from tests.doubles.identity_provider import CLIENT, IdentityProvider, run_identity_provider
from tests.harness.doctor.healthy_deployment import well
from tests.harness.doctor.verdict import get, only, verdict

ISSUER = "https://login.example.org"
ENDS = {"authorization": "authorize", "token": "token", "userinfo": "userinfo"}
CLAIMS = {"iss": ISSUER, "aud": CLIENT, "preferred_username": "ada", "groups": ["etl-admins"]}


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "OIDC_ISSUER": ISSUER,
        "OIDC_GROUPS_CLAIM": "groups",
        "OIDC_USERNAME_CLAIM": "preferred_username",
    }.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IdentityProvider]:
    with run_identity_provider(tmp_path_factory.mktemp("provider")) as made:
        yield made


def user_of(**claims: Any) -> dict[str, Any]:
    """The user information that the security manager takes from a token."""
    return take({"userinfo": CLAIMS | claims})


def take(answer: dict[str, Any]) -> dict[str, Any]:
    """The user information that the security manager makes of the provider's answer."""
    manager: Any = SimpleNamespace(oauth_remotes={"SSO": SimpleNamespace(client_id=CLIENT)})
    return SecurityManager.get_oauth_user_info(manager, "SSO", answer)


def test_a_group_has_its_role_and_one_in_two_settings_both(monkeypatch: pytest.MonkeyPatch) -> None:
    for setting, group in {"ADMIN": "a", "OP": "b", "USER": "b", "VIEWER": ""}.items():
        monkeypatch.setenv(f"OIDC_{setting}_GROUP", group)
    assert roles_of_groups() == {"a": ["Admin"], "b": ["Op", "User"]}


@pytest.mark.parametrize(
    ("claim", "claims", "groups"),
    [
        ("groups", {}, ["etl-admins"]),
        ("groups", {"groups": "etl-admins"}, ["etl-admins"]),
        ("groups", {"groups": None}, []),
        ("realm_access.roles", {"realm_access": {"roles": ["x", "y"]}}, ["x", "y"]),
        ("realm_access.roles", {}, []),
    ],
)
def test_groups_are_found_where_the_setting_says(
    monkeypatch: pytest.MonkeyPatch, claim: str, claims: dict[str, Any], groups: list[str]
) -> None:
    monkeypatch.setenv("OIDC_GROUPS_CLAIM", claim)
    assert user_of(**claims)["role_keys"] == groups


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ({"iss": "https://login.evil.example.com"}, "issuer is https://login.evil.example.com"),
        ({"iss": f"{ISSUER}/"}, "and not OIDC_ISSUER"),
        ({"aud": "another", "azp": CLIENT}, "audience is another"),
        ({"aud": ["another"], "azp": CLIENT}, "and not OIDC_CLIENT_ID"),
    ],
)
def test_a_token_of_another_issuer_or_for_another_client_does_not_count(claims: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        user_of(**claims)


@pytest.mark.parametrize("groups", [[{"name": "etl-admins"}], {"etl-admins": True}, [["etl-admins"]], True], ids=str)
def test_groups_that_are_no_names_are_refused_with_the_setting_to_look_at(groups: Any) -> None:
    with pytest.raises(ValueError, match="OIDC_GROUPS_CLAIM leads to no list of names"):
        user_of(groups=groups)


def test_without_an_id_token_nobody_is_known() -> None:
    with pytest.raises(ValueError, match="OIDC_SCOPES must contain openid"):
        take({"access_token": "x"})


def test_an_account_that_was_deactivated_is_not_let_in() -> None:
    manager: Any = SimpleNamespace(
        find_user=lambda username: SimpleNamespace(username="ada", is_active=False),
        _oauth_calculate_user_roles=lambda userinfo: ["Viewer"],
    )
    assert "deactivated" in SecurityManager._prepare(manager, {"username": "ada"})


def test_an_account_with_a_password_is_refused_by_whatever_name_the_database_finds_it() -> None:
    manager: Any = SimpleNamespace(
        find_user=lambda username: SimpleNamespace(username="admin", is_active=True),
        _oauth_calculate_user_roles=lambda userinfo: ["Viewer"],
    )
    assert "account with a password" in SecurityManager._prepare(manager, {"username": "no-such-spelling"})


def test_few_accounts_have_passwords_and_the_provider_signs_in_none_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OIDC_LOCAL_USERS", "robot, Night-Job")
    assert password_users() == frozenset({"robot", "night-job"})
    assert all(map(is_password_account, ("robot", "ROBOT ", "night-job", "admin", "Admin", "\uff41dmin")))
    assert not is_password_account("ada")
    monkeypatch.delenv("OIDC_ISSUER")
    assert password_users() is None


def test_authorities_of_one_s_own_count_where_there_are_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "ca.crt"
    monkeypatch.setenv("OIDC_CA_FILE", str(file))
    assert authorities() is True
    file.write_text("")
    assert authorities() is True
    file.write_text("-----BEGIN CERTIFICATE-----")
    assert authorities() == str(file)


def asked(provider: IdentityProvider, **changed: str) -> dict[str, Any]:
    """Output of `python -m etl_airflow.web.oidc` in the API server's pod."""
    ends = {f"OIDC_{name.upper()}_ENDPOINT": f"{provider.issuer}/{path}" for name, path in ENDS.items()}
    environment = {**ends, "OIDC_ISSUER": provider.issuer, "OIDC_CA_FILE": str(provider.authority), **changed}
    command = [sys.executable, "-m", "etl_airflow.web.oidc"]
    folder = ROOT / "airflow_image" / "config"
    made = subprocess.run(command, env=environment, cwd=folder, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(made.stdout)
    return found


def test_the_api_server_s_settings_are_compared_with_the_provider(provider: IdentityProvider) -> None:
    told = asked(provider)
    assert list(mismatches(told["settings"], told["document"])) == []
    told = asked(provider, OIDC_TOKEN_ENDPOINT="https://elsewhere.example.org/token")
    (words,) = mismatches(told["settings"], told["document"])
    assert words.startswith(
        "OIDC_TOKEN_ENDPOINT is https://elsewhere.example.org/token, and the identity provider says"
    )


def test_a_provider_that_shows_another_certificate_is_not_believed(provider: IdentityProvider) -> None:
    assert "certificate verify failed" in asked(provider, OIDC_CA_FILE="")["error"].lower()


@pytest.mark.parametrize("document", [[], "no", {"issuer": "https://another.example.org"}])
def test_what_is_no_discovery_document_of_this_provider_is_told(document: Any) -> None:
    assert list(mismatches({"OIDC_ISSUER": ISSUER}, document))


class Asked:
    """A kubectl that only runs a command in a pod."""

    def __init__(self, told: str) -> None:
        self.told, self.commands = told, list[tuple[str, ...]]()

    def run(self, *arguments: str) -> str:
        self.commands.append(arguments)
        return self.told


def looked(told: str) -> tuple[Snapshot, Asked]:
    """The doctor's snapshot, and its calls, where the API server has the settings of the component."""
    seen, kubectl = well(), Asked(told)
    (container,) = get(seen, "Deployment", "airflow-api-server")["spec"]["template"]["spec"]["containers"]
    container.setdefault("envFrom", []).append({"configMapRef": {"name": "airflow-oidc-7h2k"}})
    look_at_identity(kubectl, seen)  # type: ignore[arg-type]
    return seen, kubectl


def test_the_doctor_says_why_nobody_can_sign_in() -> None:
    settings = {"OIDC_ISSUER": ISSUER}
    seen, kubectl = looked(json.dumps({"settings": settings, "error": "connection refused"}))
    assert kubectl.commands[0][-3:] == ("python", "-m", "etl_airflow.web.oidc")
    seen.objects = well().objects
    words = (f"{ISSUER}/.well-known/openid-configuration does not answer", "connection refused", "OIDC_CA")
    only(seen, "identity-provider-unusable", *words)
    seen, _ = looked(json.dumps({"settings": settings, "document": {"issuer": "https://another.example.org"}}))
    assert (
        "OIDC_ISSUER is https://login.example.org, and the identity provider says https://another" in seen.identity[0]
    )


def test_the_doctor_does_not_call_well_what_it_could_not_try() -> None:
    seen, _ = looked("Traceback")
    assert seen.identity == []
    assert "identity" in seen.unseen
    seen.objects = well().objects
    assert verdict(seen).unseen


def test_without_the_component_the_doctor_asks_nothing() -> None:
    seen, kubectl = well(), Asked("")
    look_at_identity(kubectl, seen)  # type: ignore[arg-type]
    assert kubectl.commands == []
