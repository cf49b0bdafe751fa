"""TLS of source and sink: verified unless their URLs say otherwise; warnings if not.

The steps and Airflow's connections read the same URLs by this module. Needs only Python.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from etl.errors import ConfigurationError

_SYSTEM_AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
_YES = {"yes": "yes", "true": "yes", "1": "yes", "mandatory": "yes"}
_NO = {"no": "no", "false": "no", "0": "no", "optional": "no"}
_SWITCH = _YES | _NO
_ENCRYPT = _SWITCH | {"strict": "strict"}
_SOURCE_WARNINGS = {
    "disable": "the source is reached in plain text",
    "allow": "the source may be reached in plain text, by anybody who poses as it",
    "prefer": "the source may be reached in plain text, by anybody who poses as it",
    "require": "anybody could pose as the source",
    "verify-ca": "whoever has a certificate of the same authority could pose as the source",
}


def authorities(given: str | Path | None) -> str:
    """The CA file: the one given, else the system's ("system" if that is elsewhere)."""
    if given:
        return str(given)
    return str(_SYSTEM_AUTHORITIES) if _SYSTEM_AUTHORITIES.exists() else "system"


def source_options(options: Mapping[str, str], ca_file: str | Path | None) -> dict[str, str]:
    """TLS options to add to libpq's: verify-full, unless they have a mode or the host is local."""
    added = {} if options.get("sslmode") or _is_local(options) else {"sslmode": "verify-full"}
    if {**options, **added}.get("sslmode", "").startswith("verify-") and not options.get("sslrootcert"):
        added["sslrootcert"] = authorities(ca_file)
    return added


def source_warning(options: Mapping[str, str]) -> str:
    """A warning about unverified TLS of the source; empty on loopback and over sockets."""
    mode = options.get("sslmode") or "verify-full"
    words = _SOURCE_WARNINGS.get(mode, "")
    return f"{words} (sslmode={mode})" if words and not _is_local(options) else ""


@dataclass(frozen=True)
class SinkTls:
    """TLS of the sink: `encrypt` is yes, no or strict; `name` is that in its certificate, if not the host."""

    encrypt: str
    trusts_any_certificate: bool
    name: str = ""

    @property
    def is_verified(self) -> bool:
        """Whether the certificate is verified. In a strict connection drivers always verify it."""
        return self.encrypt == "strict" or (self.encrypt == "yes" and not self.trusts_any_certificate)


def take_sink_tls(host: str, options: dict[str, str]) -> SinkTls:
    """Remove the TLS options (lower-case names) from those of SINK_URL. Raises ConfigurationError."""
    # On loopback there is no network, and rarely a certificate; elsewhere TLS is verified.
    return SinkTls(
        encrypt=take_option(options, "encrypt", _ENCRYPT, "no" if is_loopback(host) else "yes"),
        trusts_any_certificate=take_option(options, "trustservercertificate", _SWITCH, "no") == "yes",
        name=options.pop("hostnameincertificate", ""),
    )


def sink_warning(host: str, tls: SinkTls) -> str:
    """A warning about unverified TLS of the sink; empty on loopback."""
    if tls.is_verified or is_loopback(host):
        return ""
    if tls.encrypt == "no":
        return "the sink is reached in plain text (encrypt=no)"
    return "anybody could pose as the sink (trustservercertificate=yes)"


def describe_tls_warnings(*tls_warnings: str) -> str:
    """One sentence of warnings; empty if there are none."""
    found = [warning for warning in tls_warnings if warning]
    return f"Not verified: {'; '.join(found)}." if found else ""


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_socket(host: str) -> bool:
    """Whether libpq reads a host as the folder of a Unix socket, or as an abstract socket."""
    return host.startswith(("/", "@"))


def take_option(options: dict[str, str], name: str, known: Mapping[str, str], default: str) -> str:
    """Remove one option (lower-case name) from those of SINK_URL; returns the driver's value for it.

    Raises ConfigurationError, without the value: it may be a part of a password.
    """
    if name not in options:
        return default
    value = options.pop(name).lower()
    if value not in known:
        raise ConfigurationError(f"SINK_URL: {name} is none of {', '.join(known)}; correct it.")
    return known[value]


def _is_local(options: Mapping[str, str]) -> bool:
    """Whether all hosts in libpq's options are this machine; False if none is given: a service or PGHOST may name one.

    libpq ignores the TLS mode over a socket, so verifying by mistake does no harm.
    """
    hosts = [options[name] for name in ("host", "hostaddr") if options.get(name)]
    every = ",".join(hosts).split(",")
    return bool(hosts) and all(not host or is_socket(host) or is_loopback(host) for host in every)
