"""Who the source and the sink are: verified by TLS, unless their URLs say otherwise. What is not verified is told.

The steps and Airflow's connections are made of the same URLs, and read them here. Nothing but Python is needed for it.
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
_SOURCE_DOUBTS = {
    "disable": "the source is reached in plain text",
    "allow": "the source may be reached in plain text, by anybody who poses as it",
    "prefer": "the source may be reached in plain text, by anybody who poses as it",
    "require": "anybody could pose as the source",
    "verify-ca": "whoever has a certificate of the same authority could pose as the source",
}


def authorities(given: str | Path | None) -> str:
    """The file of the authorities to believe: the one given, else the system's ("system" where that is elsewhere)."""
    if given:
        return str(given)
    return str(_SYSTEM_AUTHORITIES) if _SYSTEM_AUTHORITIES.exists() else "system"


def source_options(options: Mapping[str, str], believed: str | Path | None) -> dict[str, str]:
    """What libpq's options of the source lack: verified unless they say otherwise, or no network is crossed."""
    added = {} if options.get("sslmode") or _is_local(options) else {"sslmode": "verify-full"}
    if {**options, **added}.get("sslmode", "").startswith("verify-") and not options.get("sslrootcert"):
        added["sslrootcert"] = authorities(believed)
    return added


def source_doubt(options: Mapping[str, str]) -> str:
    """What is not verified of the source, in words; nothing on loopback and over sockets."""
    mode = options.get("sslmode") or "verify-full"
    words = _SOURCE_DOUBTS.get(mode, "")
    return f"{words} (sslmode={mode})" if words and not _is_local(options) else ""


@dataclass(frozen=True)
class SinkTls:
    """How the sink is reached: `encrypt` is yes, no or strict; `name` stands in its certificate, if not its host's."""

    encrypt: str
    trusts_any_certificate: bool
    name: str = ""

    @property
    def is_verified(self) -> bool:
        """Whether nobody can pose as the sink. Drivers do not let a strict connection believe anybody."""
        return self.encrypt == "strict" or (self.encrypt == "yes" and not self.trusts_any_certificate)


def take_sink_tls(host: str, options: dict[str, str]) -> SinkTls:
    """Take its TLS options (names in small letters) out of those of SINK_URL. Raises ConfigurationError."""
    # On loopback no network is crossed and a certificate is rarely at hand; elsewhere TLS is verified.
    return SinkTls(
        encrypt=take_option(options, "encrypt", _ENCRYPT, "no" if is_loopback(host) else "yes"),
        trusts_any_certificate=take_option(options, "trustservercertificate", _SWITCH, "no") == "yes",
        name=options.pop("hostnameincertificate", ""),
    )


def sink_doubt(host: str, tls: SinkTls) -> str:
    """What is not verified of the sink, in words; nothing on loopback."""
    if tls.is_verified or is_loopback(host):
        return ""
    if tls.encrypt == "no":
        return "the sink is reached in plain text (encrypt=no)"
    return "anybody could pose as the sink (trustservercertificate=yes)"


def describe_tls_warnings(*tls_warnings: str) -> str:
    """One sentence of what is not verified; empty where all is."""
    found = [doubt for doubt in tls_warnings if doubt]
    return f"Not verified: {'; '.join(found)}." if found else ""


def is_loopback(host: str) -> bool:
    """Whether a host is this machine itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_socket(host: str) -> bool:
    """Whether libpq takes a host for the folder of a Unix socket, or for an abstract one."""
    return host.startswith(("/", "@"))


def take_option(options: dict[str, str], name: str, known: Mapping[str, str], default: str) -> str:
    """Take one option (its name in small letters) out of those of SINK_URL, in the driver's word for it.

    Raises ConfigurationError, which does not show the value: it may be a part of a password.
    """
    if name not in options:
        return default
    value = options.pop(name).lower()
    if value not in known:
        raise ConfigurationError(f"SINK_URL: {name} is none of {', '.join(known)}; correct it.")
    return known[value]


def _is_local(options: Mapping[str, str]) -> bool:
    """Whether all hosts in libpq's options are this machine. Where none is named, a service or PGHOST may name one.

    libpq ignores the TLS mode over a socket, so that verifying it by mistake does no harm.
    """
    hosts = [options[name] for name in ("host", "hostaddr") if options.get(name)]
    every = ",".join(hosts).split(",")
    return bool(hosts) and all(not host or is_socket(host) or is_loopback(host) for host in every)
