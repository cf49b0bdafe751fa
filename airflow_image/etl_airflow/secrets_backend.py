"""Secrets backend of Airflow: `source` and `sink` from the variables of the steps, and `kubernetes_default`.

Configured as [secrets] backend of the API server, which passes connections on to the workers. Address, password and TLS
mode of a database are thus configured once, for Airflow and for the steps.
"""

import json
import os
from dataclasses import asdict

from airflow.secrets import BaseSecretsBackend
from etl.config import entra, passwords, tls, urls
from etl.config.connection_string import connection_string, words_for_token
from etl.errors import ConfigurationError

_ENCRYPTION = {"no": "off", "yes": "require", "strict": "require"}
"""`encrypt` of SINK_URL → `encryption` of pymssql."""
_CLUSTER = {"conn_type": "kubernetes", "extra": {"in_cluster": True}}
"""Default connection of the Kubernetes provider's operators. Airflow asks this backend before its database, so a user
who may edit connections cannot set a kubeconfig there, which may name a program to run."""


class UrlConnections(BaseSecretsBackend):
    """Connections `source` (SOURCE_URL, SOURCE_PASSWORD, …), `sink` (SINK_URL, …) and `kubernetes_default`."""

    def get_conn_value(self, conn_id: str, team_name: str | None = None) -> str | None:  # noqa: ARG002 - no teams here
        """The connection as JSON; None for other ids, and if the variable is not set.

        Airflow swallows an exception raised here and reports a missing connection. Its message is therefore passed on
        as `refused`, which `etl_airflow.dag.hooks` raises.
        """
        if conn_id == "kubernetes_default":
            return json.dumps(_CLUSTER)
        url = os.environ.get(f"{conn_id.upper()}_URL") if conn_id in ("source", "sink") else None
        if not url:
            return None
        try:
            return json.dumps(_source(url) if conn_id == "source" else _sink(url))
        except ConfigurationError as error:
            return json.dumps({"conn_type": "generic", "extra": {"refused": str(error)}})


def _source(url: str) -> dict[str, object]:
    options = urls.postgres("SOURCE_URL", url)
    options |= tls.source_options(options, os.environ.get("SOURCE_CA_FILE"))
    in_url, auth = options.pop("password", ""), os.environ.get("SOURCE_AUTH") or "password"
    if auth == "password":
        password = _secret("SOURCE", in_url)
    else:
        password, options = "", options | _identity(auth)
    found = {
        "conn_type": "postgres",
        "host": options.pop("host", None),
        # One port is a field of the connection; ports of several hosts are an option.
        "port": int(options.pop("port")) if options.get("port", "").isdigit() else None,
        "login": options.pop("user", None),
        "password": password or None,
        "schema": options.pop("dbname", None),
    }
    return found | ({"extra": options} if options else {})


def _sink(url: str) -> dict[str, object]:
    server = urls.sql_server("SINK_URL", url)
    extra = {"encryption": _ENCRYPTION[server.tls.encrypt]}
    if server.tls.is_verified:
        # Not arguments of pymssql: etl_airflow.dag.hooks passes them to FreeTDS.
        extra["ca_file"] = tls.authorities(os.environ.get("SINK_CA_FILE"))
        if server.tls.name:
            extra["certificate_name"] = server.tls.name
    auth, password = os.environ.get("SINK_AUTH") or "password", ""
    if auth == "password":
        password = _secret("SINK", server.password)
    else:
        extra |= {"odbc": connection_string(words_for_token(server)).get_secret_value()} | _identity(auth)
    if mask_key := os.environ.get("MASK_KEY"):
        extra["mask_secret"] = mask_key  # Airflow masks values under this name
    return {
        "conn_type": "mssql",
        # pymssql accepts an IPv6 address only in brackets and with its port.
        "host": f"[{server.host}]:{server.port}" if ":" in server.host else server.host,
        "port": server.port,
        "login": server.user,
        "password": password,
        "schema": server.database,
        "extra": extra,
    }


def _identity(auth: str) -> dict[str, str]:
    """The identity whose tokens log in, for the extra of a connection. Raises ConfigurationError."""
    client_id, tenant = (os.environ.get(name, "") for name in ("ENTRA_CLIENT_ID", "ENTRA_TENANT"))
    identity = entra.identity(auth, client_id, tenant, _secret("ENTRA", "", "CLIENT_SECRET"))
    # Airflow masks what has `secret` in its name.
    return {f"entra_{name}": value for name, value in asdict(identity).items()}


def _secret(name: str, in_url: str, kind: str = "PASSWORD") -> str:
    given, file = os.environ.get(f"{name}_{kind}", ""), os.environ.get(f"{name}_{kind}_FILE")
    return passwords.read_password(name, in_url, given, file, kind)
