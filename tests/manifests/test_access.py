"""Who may do what with the Kubernetes API: the least, in this namespace only, as docs/architecture.md says."""

import pytest

from tests.manifests.documents import documented_rights
from tests.manifests.pods import Pod, pods
from tests.manifests.rendering import NAMESPACE, Manifest, Rendering, manifests, renderings

each_rendering = pytest.mark.parametrize("rendering", renderings(), ids=str)
each_pod = pytest.mark.parametrize("pod", pods(), ids=str)


def rights(rendering: Rendering, account: str) -> set[tuple[str, str]]:
    """Resource and verb of all that a service account may do."""
    found = set()
    for binding in rendering.of_kind("RoleBinding"):
        if any(subject["name"] == account for subject in binding["subjects"]):
            role = rendering.find("Role", binding["roleRef"]["name"])
            assert role, f"{binding['roleRef']['name']} does not exist."
            for rule in role["rules"]:
                found |= {(resource, verb) for resource in rule["resources"] for verb in rule["verbs"]}
    return found


@each_pod
def test_a_pod_has_a_token_only_where_its_account_may_do_something(pod: Pod) -> None:
    account = pod.spec.get("serviceAccountName", "default")
    has_token = pod.spec.get("automountServiceAccountToken", True)
    assert has_token == bool(rights(pod.rendering, account))


@each_rendering
def test_an_account_may_do_what_is_documented_and_no_more(rendering: Rendering) -> None:
    accounts = {item["metadata"]["name"] for item in rendering.of_kind("ServiceAccount")} | {"default"}
    found = {account: rights(rendering, account) for account in accounts}
    assert {account: may for account, may in found.items() if may} == documented_rights()


@each_rendering
def test_nobody_has_rights_outside_of_the_namespace(rendering: Rendering) -> None:
    assert rendering.of_kind("ClusterRole", "ClusterRoleBinding") == []


@pytest.mark.parametrize("role", manifests("Role"), ids=str)
def test_a_role_names_what_it_allows(role: Manifest) -> None:
    for rule in role.object["rules"]:
        assert "*" not in (*rule["apiGroups"], *rule["resources"], *rule["verbs"])
        assert rule["apiGroups"] == [""]


@pytest.mark.parametrize("role", manifests("Role"), ids=str)
def test_no_role_reads_secrets_or_changes_rights(role: Manifest) -> None:
    resources = {resource for rule in role.object["rules"] for resource in rule["resources"]}
    assert not resources & {"secrets", "roles", "rolebindings", "serviceaccounts", "serviceaccounts/token", "pods/exec"}


@pytest.mark.parametrize("binding", manifests("RoleBinding"), ids=str)
def test_a_binding_is_of_a_role_to_accounts_that_exist(binding: Manifest) -> None:
    assert binding.object["roleRef"]["kind"] == "Role"
    assert binding.rendering.find("Role", binding.object["roleRef"]["name"])
    for subject in binding.object["subjects"]:
        assert (subject["kind"], subject["namespace"]) == ("ServiceAccount", NAMESPACE)
        assert binding.rendering.find("ServiceAccount", subject["name"])


@each_rendering
def test_every_role_is_bound(rendering: Rendering) -> None:
    bound = {binding["roleRef"]["name"] for binding in rendering.of_kind("RoleBinding")}
    assert {item["metadata"]["name"] for item in rendering.of_kind("Role")} == bound
