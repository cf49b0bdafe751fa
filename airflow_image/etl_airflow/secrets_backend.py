"""Airflow's connections: `source` and `sink` from the variables of the ETL steps, `kubernetes_default` the own cluster.

Named in [secrets] backend where connections are looked up: in the API server, which hands them to the workers. So the
address, the password and the TLS mode of a database stand in one place for Airflow and for the steps.
"""

import json
import os

from airflow.secrets import BaseSecretsBackend
from etl.config import passwords, tls, urls
from etl.errors import ConfigurationError

_ENCRYPTION = {"no": "off", "yes": "require", "strict": "require"}
"""`encrypt` of SINK_URL in pymssql's words."""
_CLUSTER = {"conn_type": "kubernetes", "extra": {"in_cluster": True}}
"""What operators of the Kubernetes provider take where a DAG names no other. Airflow asks here before its database, and
so no one who may edit connections can put a kubeconfig there, which may name a program to run."""


class UrlConnections(BaseSecretsBackend):
    """Answers for `source` (SOURCE_URL, SOURCE_PASSWORD, …), `sink` (SINK_URL, …) and `kubernetes_default` alone."""

    def get_conn_value(self, conn_id: str, team_name: str | None = None) -> str | None:  # noqa: ARG002 - no teams here
        """The connection as JSON; None for others, and where the variable is not set.

        Airflow would swallow an error here and say that there is no such connection: it goes along as `refused`, for
        `etl_airflow.dag.hooks` to raise.
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
    password = _password("SOURCE", options.pop("password", ""))
    found = {
        "conn_type": "postgres",
        "host": options.pop("host", None),
        # A single port is a field of the connection; those of several hosts are an option.
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
        # Not words of pymssql: etl_airflow.dag.hooks tells them to the library below it.
        extra["ca_file"] = tls.authorities(os.environ.get("SINK_CA_FILE"))
        if server.tls.name:
            extra["certificate_name"] = server.tls.name
    if mask_key := os.environ.get("MASK_KEY"):
        extra["mask_secret"] = mask_key  # Airflow hides what is called so
    return {
        "conn_type": "mssql",
        # pymssql takes an IPv6 address in brackets only, and then with its port.
        "host": f"[{server.host}]:{server.port}" if ":" in server.host else server.host,
        "port": server.port,
        "login": server.user,
        "password": _password("SINK", server.password),
        "schema": server.database,
        "extra": extra,
    }


def _password(name: str, in_url: str) -> str:
    given, file = os.environ.get(f"{name}_PASSWORD", ""), os.environ.get(f"{name}_PASSWORD_FILE")
    return passwords.read_password(name, in_url, given, file)
