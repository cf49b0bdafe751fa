"""TLS settings: CA certificates of source and sink, the source's name and TLS mode, the UI's name.

They are kept in the ConfigMap etl-trust, so that options need not be given again. Steps and workers mount its
certificates as files.
"""

from urllib.parse import parse_qsl, urlencode, urlsplit

from ops.cluster.kubectl import Object
from ops.cluster.names import SOURCE, TRUST, UI_NAME
from ops.cluster.objects import new
from ops.deploy.manifests.rendering import Rendering
from ops.deploy.options import SYSTEM, Options

FOLDER = "/etc/etl-trust"
SOURCE_NAME, SOURCE_TLS, SOURCE_CA, SINK_CA = "source-name", "source-tls", "source-ca.crt", "sink-ca.crt"
MSSQL_CA = "mssql-ca.crt"
"""The CA certificate of the SQL Server in the cluster."""
_VERIFIED = "verify-full"


def choose_trust(options: Options, kept: dict[str, str]) -> dict[str, str]:
    """The TLS settings given now, else those kept from before."""
    given = {
        SOURCE_NAME: options.source_name,
        SOURCE_TLS: options.source_tls,
        SOURCE_CA: options.source_ca,
        SINK_CA: options.sink_ca,
        UI_NAME: options.ui_name,
    }
    chosen = kept | {key: value for key, value in given.items() if value}
    return {key: value for key, value in chosen.items() if value != SYSTEM}


def as_object(trust: dict[str, str]) -> Object:
    """The ConfigMap."""
    return new("ConfigMap", TRUST, data=trust)


def set_connections(rendering: Rendering, trust: dict[str, str], source_address: str) -> None:
    """Write CA files and server name into the ConfigMap etl-connections."""
    for settings in rendering.connections:
        if "SOURCE_URL" in settings and (SOURCE_NAME in trust or SOURCE_TLS in trust):
            address = source_address, _source_port(rendering)
            settings["SOURCE_URL"] = _source_url(settings["SOURCE_URL"], trust, address)
        if SOURCE_CA in trust:
            settings["SOURCE_CA_FILE"] = f"{FOLDER}/{SOURCE_CA}"
        if has_sql_server(rendering):
            settings["SINK_CA_FILE"] = f"{FOLDER}/{MSSQL_CA}"
        elif SINK_CA in trust:
            settings["SINK_CA_FILE"] = f"{FOLDER}/{SINK_CA}"


def has_sql_server(rendering: Rendering) -> bool:
    """Whether the sink is in the cluster."""
    return any(item["metadata"]["name"] == "mssql" for item in rendering.of_kind("StatefulSet"))


def tls_warnings(rendering: Rendering) -> list[str]:
    """Unverified connections, as sentences."""
    found = []
    for settings in rendering.connections:
        mode = _options(settings.get("SOURCE_URL", "")).get("sslmode", _VERIFIED)
        if mode != _VERIFIED:
            found.append(
                f"The operational Postgres is not verified (sslmode={mode}): an attacker on the network could read"
                " and change the rows. Give --source-tls verify-full once it has a certificate."
            )
        sink = _options(settings.get("SINK_URL", ""))
        if sink.get("encrypt", "yes").lower() in ("no", "false", "0", "optional"):
            found.append("The sink is reached in plain text (encrypt=no in SINK_URL).")
        elif sink.get("trustservercertificate", "no").lower() in ("yes", "true", "1", "mandatory"):
            found.append("The certificate of the sink is not verified (trustservercertificate=yes in SINK_URL).")
    return found


def _options(url: str) -> dict[str, str]:
    return {name.lower(): value for name, value in parse_qsl(urlsplit(url).query)}


def _source_port(rendering: Rendering) -> int:
    """The port of the source behind its Service."""
    (found,) = (item for item in rendering.of_kind("EndpointSlice") if item["metadata"]["name"] == SOURCE)
    return int(found["ports"][0]["port"])


def _source_url(url: str, trust: dict[str, str], address: tuple[str, int]) -> str:
    """The URL with the host name that libpq verifies, and `hostaddr`, the address to connect to."""
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    if SOURCE_NAME in trust:
        user, at, _ = parts.netloc.rpartition("@")
        options["hostaddr"], port = address
        parts = parts._replace(netloc=f"{user}{at}{trust[SOURCE_NAME]}:{port}")
    if SOURCE_TLS in trust:
        options["sslmode"] = trust[SOURCE_TLS]
    return parts._replace(query=urlencode(options, safe="/:")).geturl()
