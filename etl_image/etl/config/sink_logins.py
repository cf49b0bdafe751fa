"""The logins of the sink, and the database role of each."""

from dataclasses import dataclass

from pydantic import SecretStr

LOADER, EXPORTER, BACKUP = "etl_loader", "etl_metrics", "etl_backups"
"""The roles in the sink's database: of the loader, of `etl export-metrics`, and of `etl backup-sink`."""
OWN_LOGINS = {EXPORTER: ("SINK_EXPORTER", "exporter"), BACKUP: ("SINK_BACKUP", "backup")}
"""Roles with a separate login if its password is set: prefix of the settings, and suffix to the loader's name."""


@dataclass(frozen=True)
class SinkLogin:
    """A login of the sink, its database, and its role there.

    `is_external`: a user of the database alone, whom Entra ID vouches for.
    """

    database: str
    user: str
    password: SecretStr
    role: str = LOADER
    is_external: bool = False

    @property
    def options(self) -> dict[str, str]:
        """Its options of an ODBC connection string."""
        return {"UID": self.user, "PWD": self.password.get_secret_value()}
