"""Expiring certificates."""

from collections.abc import Iterator
from datetime import timedelta

from ops.cluster.kubectl import NAMESPACE
from ops.doctor.findings import Finding
from ops.doctor.snapshot import USER, Snapshot

OF_SECRETS, OF_K3S = timedelta(days=14), timedelta(days=30)
"""The thresholds of the alert CertificateExpiring."""


def certificate_expiring(seen: Snapshot) -> Iterator[Finding]:
    """A certificate that expires within days, or has expired."""
    for whose, until in seen.certificates.items():
        left = until - seen.now
        if left >= (OF_K3S if whose == USER else OF_SECRETS):
            continue
        when = f"{until:%Y-%m-%d %H:%M} UTC"
        secret = whose.removeprefix("Secret ")
        yield Finding(
            f"secret {NAMESPACE}/{secret}" if whose != USER else "certificates of K3s",
            f"The certificate of {whose} ends on {when}, in {left.days} days."
            if left > timedelta(0)
            else f"The certificate of {whose} ended on {when}.",
            _K3S if whose == USER else _SECRET.format(secret=secret),
        )


_K3S = (
    "K3s's own certificates were made with it, and are valid for a year. `systemctl restart k3s` (k3s-agent on other"
    " nodes) renews all that end within 120 days; pods go on meanwhile. Copies of /etc/rancher/k3s/k3s.yaml are to be"
    " made anew."
)
_SECRET = (
    f"Run scripts/apply-all.sh, which makes anew what it has made. One of your own: `kubectl --namespace {NAMESPACE}"
    " create secret tls {secret} --cert=FILE --key=FILE --dry-run=client --output=yaml | kubectl apply --filename=-`."
)
