"""The keys of the deployment's Secrets: their names, namespaces, and how each is generated."""

from enum import Enum

from ops.cluster.kubectl import NAMESPACE, OBSERVABILITY

Key = tuple[str, str]
"""The name of a Secret and of a key in it."""


class Kind(Enum):
    """The kinds of generated values."""

    PASSWORD = "password"  # noqa: S105 - a kind
    FERNET_KEY = "fernet key"
    SIGNING_KEY = "signing key"


SOURCE_KEY: Key = ("etl-connections", "SOURCE_PASSWORD")
OIDC_KEYS: tuple[Key, ...] = (("airflow-oidc", "OIDC_CLIENT_SECRET"), ("grafana-oidc", "OIDC_CLIENT_SECRET"))
"""One value for both, with the component `oidc`."""
SINK_LOADER: Key = ("etl-connections", "SINK_PASSWORD")
SINK_ADMIN: Key = ("mssql", "MSSQL_SA_PASSWORD")
SINK_ADMIN_CLIENT: Key = ("mssql", "SINK_ADMIN_CLIENT_SECRET")
"""Of the administrator in Entra ID, with the component `service-principal`; made by its owner."""
SINK_EXPORTER: Key = ("sink-exporter", "SINK_EXPORTER_PASSWORD")
SINK_BACKUP: Key = ("sink-backup", "SINK_BACKUP_PASSWORD")
METADATA_ADMIN: Key = ("airflow-metadata-admin", "METADATA_ADMIN_PASSWORD")
ADMIN: Key = ("airflow-admin", "ADMIN_PASSWORD")
GENERATED: dict[Key, Kind] = {
    SINK_LOADER: Kind.PASSWORD,
    # The masks of sensitive values depend on it: another key masks a value differently.
    ("etl-connections", "MASK_KEY"): Kind.SIGNING_KEY,
    SINK_ADMIN: Kind.PASSWORD,
    SINK_EXPORTER: Kind.PASSWORD,
    SINK_BACKUP: Kind.PASSWORD,
    ("airflow-metadata", "METADATA_PASSWORD"): Kind.PASSWORD,
    METADATA_ADMIN: Kind.PASSWORD,
    ("database-exporter", "METADATA_EXPORTER_PASSWORD"): Kind.PASSWORD,
    ("airflow-keys", "AIRFLOW__CORE__FERNET_KEY"): Kind.FERNET_KEY,
    ("airflow-keys", "AIRFLOW__API__SECRET_KEY"): Kind.SIGNING_KEY,
    ("airflow-keys", "AIRFLOW__API_AUTH__JWT_SECRET"): Kind.SIGNING_KEY,
    ADMIN: Kind.PASSWORD,
    ("grafana-admin", "ADMIN_PASSWORD"): Kind.PASSWORD,
}
_ELSEWHERE = {"grafana-admin": OBSERVABILITY, "grafana-oidc": OBSERVABILITY}
"""The Secrets outside the namespace of the pipelines."""
SECRET_NAMESPACES = tuple(dict.fromkeys((NAMESPACE, *_ELSEWHERE.values())))


def namespace_of(secret: str) -> str:
    """The namespace of a Secret."""
    return _ELSEWHERE.get(secret, NAMESPACE)
