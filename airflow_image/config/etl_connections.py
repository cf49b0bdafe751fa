"""Airflow's connections `source` and `sink`, from the variables that the ETL steps are configured by.

Named in [secrets] backend where connections are looked up: in the API server, which hands them to the workers. So the
address, the password and the TLS mode of a database stand in one place for Airflow and for the steps.
"""

import json
import os
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from airflow.secrets import BaseSecretsBackend
from etl import tls

_PORTS = {"postgres": 5432, "mssql": 1433}
_ENCRYPTION = {"no": "off", "yes": "require", "strict": "require"}
"""`encrypt` of SINK_URL in pymssql's words."""


class UrlConnections(BaseSecretsBackend):
    """Answers for `source` (SOURCE_URL, SOURCE_PASSWORD) and `sink` (SINK_URL, SINK_PASSWORD), and for no other."""

    def get_conn_value(self, conn_id: str, team_name: str | None = None) -> str | None:  # noqa: ARG002 - no teams here
        """The connection as JSON; None for others, and where the variable is not set."""
        if conn_id not in ("source", "sink"):
            return None
        url = os.environ.get(f"{conn_id.upper()}_URL")
        if not url:
            return None
        parts = urlsplit(url)
        password = os.environ.get(f"{conn_id.upper()}_PASSWORD") or unquote(parts.password or "")
        return json.dumps(_source(parts, password) if conn_id == "source" else _sink(parts, password))


def _source(parts: SplitResult, password: str) -> dict[str, object]:
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    options |= tls.source_options(parts.hostname or "", options, os.environ.get("SOURCE_CA_FILE"))
    return {**_connection("postgres", parts, password), "schema": unquote(parts.path.strip("/")), "extra": options}


def _sink(parts: SplitResult, password: str) -> dict[str, object]:
    options = {name.lower(): values[-1] for name, values in parse_qs(parts.query).items()}
    asked = tls.take_sink_tls(parts.hostname or "", options)
    extra = {"encryption": _ENCRYPTION[asked.encrypt]}
    if asked.is_verified:
        # Not words of pymssql: etl_dag.hooks tells them to the library below it.
        extra["ca_file"] = tls.authorities(os.environ.get("SINK_CA_FILE"))
        if asked.name:
            extra["certificate_name"] = asked.name
    schema = unquote(parts.path.strip("/")) or options.get("database", "")
    return {**_connection("mssql", parts, password), "schema": schema, "extra": extra}


def _connection(kind: str, parts: SplitResult, password: str) -> dict[str, object]:
    return {
        "conn_type": kind,
        "host": parts.hostname,
        "port": parts.port or _PORTS[kind],
        "login": unquote(parts.username or ""),
        "password": password,
    }
