"""Rights in the Kubernetes API: the least, or read-only, as docs/architecture.md says."""

import pytest

from tests.harness.manifests.documents import documented_rights
from tests.harness.manifests.pods import Pod, pods
from tests.harness.manifests.rendering import NAMESPACE, Manifest, Rendering, manifests, renderings

READING = ("get", "list", "watch")
each_rendering = pytest.mark.parametrize("rendering", renderings(), ids=str)
each_pod = pytest.mark.parametrize("pod", pods(), ids=str)


def rights(rendering: Rendering, account: str) -> set[tuple[str, str]]:
    """Resource and verb of all that a service account may do."""
    found = set()
    for binding in rendering.of_kind("RoleBinding", "ClusterRoleBinding"):
        if any(subject["name"] == account for subject in binding["subjects"]):
            role = rendering.find(binding["roleRef"]["kind"], binding["roleRef"]["name"])
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
def test_who_has_rights_in_the_whole_cluster_observes_and_may_only_read(rendering: Rendering) -> None:
    for binding in rendering.of_kind("ClusterRoleBinding"):
        assert NAMESPACE not in {subject["namespace"] for subject in binding["subjects"]}
    for role in rendering.of_kind("ClusterRole"):
        assert {verb for rule in role["rules"] for verb in rule["verbs"]} <= set(READING)


@each_rendering
def test_what_is_of_the_whole_cluster_bears_the_name_of_the_deployment(rendering: Rendering) -> None:
    """Others may have a role of the same name; apply-all.sh deletes only roles with this prefix."""
    kinds = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
    for item in rendering.of_kind("ClusterRole", "ClusterRoleBinding", *kinds):
        assert item["metadata"]["name"].startswith(f"{NAMESPACE}-")


@each_rendering
def test_whoever_may_change_pods_is_bound_to_pods_of_its_own_kind(rendering: Rendering) -> None:
    """A Role allows all pods or none: which ones, the admission policy says (test_launched_pods.py)."""
    (policy,) = rendering.of_kind("ValidatingAdmissionPolicy")
    (binding,) = rendering.of_kind("ValidatingAdmissionPolicyBinding")
    assert binding["spec"]["policyName"] == policy["metadata"]["name"]
    assert {binding["spec"]["paramRef"]["parameterNotFoundAction"], *binding["spec"]["validationActions"]} >= {"Deny"}
    (bound,) = policy["spec"]["matchConditions"]
    (matched,) = policy["spec"]["matchConstraints"]["resourceRules"]
    for account in (item["metadata"]["name"] for item in rendering.of_kind("ServiceAccount")):
        changes = {resource for resource, verb in rights(rendering, account) if verb not in READING}
        assert changes <= set(matched["resources"])
        assert (f"'system:serviceaccount:{NAMESPACE}:{account}'" in bound["expression"]) == bool(changes)


each_role = pytest.mark.parametrize("role", manifests("Role", "ClusterRole"), ids=str)


@each_role
def test_a_role_names_what_it_allows(role: Manifest) -> None:
    for rule in role.object["rules"]:
        assert "*" not in (*rule["apiGroups"], *rule["resources"], *rule["verbs"])
        assert set(rule["apiGroups"]) <= {"", "apps", "batch"}


@each_role
def test_no_role_reads_secrets_or_changes_rights(role: Manifest) -> None:
    resources = {resource for rule in role.object["rules"] for resource in rule["resources"]}
    assert not resources & {"secrets", "roles", "rolebindings", "serviceaccounts", "serviceaccounts/token", "pods/exec"}


@pytest.mark.parametrize("binding", manifests("RoleBinding", "ClusterRoleBinding"), ids=str)
def test_a_binding_is_of_a_role_to_accounts_that_exist(binding: Manifest) -> None:
    assert binding.object["roleRef"]["kind"] == binding.kind.removesuffix("Binding")
    assert binding.rendering.find(binding.object["roleRef"]["kind"], binding.object["roleRef"]["name"])
    for subject in binding.object["subjects"]:
        account = binding.rendering.find("ServiceAccount", subject["name"])
        assert account
        assert (subject["kind"], subject["namespace"]) == ("ServiceAccount", account["metadata"]["namespace"])


@each_rendering
def test_every_role_is_bound(rendering: Rendering) -> None:
    bindings = rendering.of_kind("RoleBinding", "ClusterRoleBinding")
    bound = {(binding["roleRef"]["kind"], binding["roleRef"]["name"]) for binding in bindings}
    roles = rendering.of_kind("Role", "ClusterRole")
    assert {(item["kind"], item["metadata"]["name"]) for item in roles} == bound
