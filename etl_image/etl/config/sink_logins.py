"""The logins of the sink: whose they are, and the role in the database that says what each may do."""

from dataclasses import dataclass

from pydantic import SecretStr

LOADER, EXPORTER, BACKUP = "etl_loader", "etl_metrics", "etl_backups"
"""The roles in the sink's database: of the loader, of `etl export-metrics`, and of `etl backup-sink`."""
OWN_LOGINS = {EXPORTER: ("SINK_EXPORTER", "exporter"), BACKUP: ("SINK_BACKUP", "backup")}
"""Who has a login of its own if it has a password: its settings, and what is appended to the loader's name."""


@dataclass(frozen=True)
class SinkLogin:
    """A login of the sink, the database that it is for, and the role that it has there."""

    database: str
    user: str
    password: SecretStr
    role: str = LOADER

    @property
    def words(self) -> dict[str, str]:
        """What an ODBC connection string says of it."""
        return {"UID": self.user, "PWD": self.password.get_secret_value()}
