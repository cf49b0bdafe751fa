"""Access to the UI: login pages, sign-in, and client addresses."""

from collections.abc import Iterator

from ops.cluster.kubectl import NAMESPACE, SYSTEM
from ops.doctor.checks.cluster import DNS
from ops.doctor.findings import Finding
from ops.doctor.snapshot import Snapshot, subject_of


def page_not_shown(seen: Snapshot) -> Iterator[Finding]:
    """A login page that does not open."""
    for page in seen.pages:
        yield Finding(page.url, page.what, page.do, explained_by={"Airflow", *page.explained_by})


def identity_provider_unusable(seen: Snapshot) -> Iterator[Finding]:
    """An identity provider at which people cannot sign in."""
    for problem in seen.identity:
        yield Finding(
            "identity provider",
            f"People cannot sign in: {problem}",
            "Settings: in your overlay (component oidc), then scripts/apply-all.sh. Where it does not answer: is it up,"
            " does a firewall let the nodes through, does OIDC_CA hold the authority of its certificate? The"
            " NetworkPolicies airflow-oidc and grafana-oidc name its port. Meanwhile: docs/operations.md, Sign-in.",
            explained_by={DNS, f"deployment {NAMESPACE}/airflow-api-server"},
        )


def addresses_hidden(seen: Snapshot) -> Iterator[Finding]:
    """Traefik does not see client addresses, by which failed logins are counted."""
    service = seen.find("Service", "traefik", SYSTEM)
    if service and service["spec"].get("externalTrafficPolicy") == "Cluster":
        yield Finding(
            subject_of(service),
            "Traefik does not learn the addresses that people come from: K3s's load balancer gives all of them one, and"
            " fifty failed logins of one lock out for five minutes who has not logged in before.",
            "Run scripts/apply-all.sh, which sets `externalTrafficPolicy: Local` in the HelmChartConfig traefik; where"
            " that is yours, add it. `kubectl --namespace kube-system logs job/helm-install-traefik` says whether K3s"
            " could take it over.",
        )
