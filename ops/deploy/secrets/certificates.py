"""Self-signed certificates, of SQL Server in the cluster and of the UI, if none are provided.

A Secret with a certificate of a CA can be created before or later; it is never overwritten. Certificates made here are
renewed when their names change or they expire.
"""

import base64
import re
import shutil
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from ops.cluster import processes
from ops.cluster.console import Console, DeployError
from ops.cluster.kubectl import NAMESPACE, Kubectl, Object, as_list
from ops.cluster.names import SQL_SERVER_SECRET, UI_SECRET
from ops.cluster.objects import new

MADE_FOR = "etl-poc/made-for"
"""Annotation of a Secret made here: the names in its certificate."""
KEY_KIND = "rsa:2048"
"""SQL Server accepts RSA keys only."""
_RENEW_DAYS = 90
_SECONDS_OF_A_DAY = 86_400
_KEY = re.compile(r"-----BEGIN PRIVATE KEY-----.+?-----END PRIVATE KEY-----\n", re.DOTALL)
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n", re.DOTALL)
# The system's settings of openssl would add extensions.
_SETTINGS = "[req]\ndistinguished_name = name\n[name]\n"


@dataclass(frozen=True)
class CertificateSpec:
    """A Secret with a certificate, its names, and its validity."""

    secret: str
    names: tuple[str, ...]
    days: int


# Ten years: only the steps see it, and an unattended sink must not stop.
SQL_SERVER = CertificateSpec(
    SQL_SERVER_SECRET,
    ("mssql-svc", "mssql-svc.etl-poc", "mssql-svc.etl-poc.svc", "mssql-svc.etl-poc.svc.cluster.local"),
    3650,
)
_UI_DAYS = 825
"""Apple's limit of the validity of certificates."""


def ui_certificate(names: Sequence[str]) -> CertificateSpec:
    """The certificate of Airflow and Grafana."""
    return CertificateSpec(UI_SECRET, tuple(dict.fromkeys(filter(None, names))), _UI_DAYS)


def certificate_problems(wanted: Sequence[CertificateSpec], secrets: Collection[str]) -> Iterator[str]:
    """Certificates that are not among the Secrets and cannot be made for lack of openssl."""
    lacking = [one.secret for one in wanted if one.secret not in secrets]
    if lacking and not _has_openssl():
        yield (
            f"openssl is not on PATH, so no certificate can be made for {', '.join(lacking)}: install it (apt-get"
            " install openssl), or bring the Secrets."
        )


def ensure_certificate(console: Console, kubectl: Kubectl, wanted: CertificateSpec) -> dict[str, str]:
    """Create the Secret if it is missing, or made here and outdated; returns its certificates by key."""
    live = kubectl.get("secret", wanted.secret, "--namespace", NAMESPACE)
    if live is None or _is_outdated(live, wanted):
        live = _make(wanted)
        private = live["data"]["tls.key"]
        arguments = ("apply", "--server-side", "--force-conflicts", "--filename=-")
        kubectl.run(*arguments, stdin=as_list([live]), hide=[private])
        console.say(f"Secret {wanted.secret}: made a certificate for {wanted.names[0]}.")
    data = live["data"]
    return {key: base64.b64decode(data[key]).decode() for key in ("tls.crt", "ca.crt") if data.get(key)}


def _has_openssl() -> bool:
    return shutil.which("openssl") is not None


def _is_outdated(live: Object, wanted: CertificateSpec) -> bool:
    made_for = live["metadata"].get("annotations", {}).get(MADE_FOR)
    if made_for is None:
        return False  # not made here
    certificate = base64.b64decode(live["data"]["tls.crt"]).decode()
    return made_for != " ".join(wanted.names) or _expires_within(certificate, _RENEW_DAYS)


def _expires_within(certificate: str, days: int) -> bool:
    if not _has_openssl():
        return False
    try:
        processes.run(["openssl", "x509", "-noout", "-checkend", str(days * _SECONDS_OF_A_DAY)], stdin=certificate)
    except DeployError:
        return True
    return False


def _make(wanted: CertificateSpec) -> Object:
    names = ",".join(f"{'IP' if re.fullmatch('[0-9.]+|.*:.*', name) else 'DNS'}:{name}" for name in wanted.names)
    # `-nodes`: the key is not encrypted; older versions do not know -noenc.
    made = processes.run(
        [
            *("openssl", "req", "-x509", "-config", "/dev/stdin", "-newkey", KEY_KIND, "-nodes"),
            *("-days", str(wanted.days), "-subj", f"/CN={wanted.names[0][:64]}"),
            *("-addext", f"subjectAltName={names}", "-addext", "extendedKeyUsage=serverAuth"),
            *("-keyout", "/dev/stdout", "-out", "/dev/stdout"),
        ],
        stdin=_SETTINGS,
    )
    certificate, private = _CERTIFICATE.search(made), _KEY.search(made)
    if not certificate or not private:
        raise DeployError("openssl made no certificate; use version 1.1.1 or later.")
    data = {
        key: base64.b64encode(value.encode()).decode()
        for key, value in (("tls.crt", certificate[0]), ("tls.key", private[0]))
    }
    made_for = {"annotations": {MADE_FOR: " ".join(wanted.names)}}
    return new("Secret", wanted.secret, metadata=made_for, type="kubernetes.io/tls", data=data)
