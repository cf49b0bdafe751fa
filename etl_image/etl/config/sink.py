"""Settings of the sink and its logins, as ODBC connection strings."""

from datetime import timedelta
from pathlib import Path

from pydantic import BaseModel, Field, SecretStr

from etl.config import entra, passwords, urls
from etl.config.connection_string import ConnectionString, connection_string, server_words, words_for_token
from etl.config.entra import Auth, Identity
from etl.config.sink_logins import BACKUP, EXPORTER, OWN_LOGINS, SinkLogin
from etl.errors import ConfigurationError

_LONGEST_PASSWORD = 128  # SQL Server's
CLIENT_SECRETS = ("ENTRA", "SINK_ADMIN")
"""Names of the service principals: NAME_CLIENT_ID, NAME_CLIENT_SECRET and NAME_CLIENT_SECRET_FILE."""


class SinkSettings(BaseModel):
    """Settings of the sink and its logins; Settings adds the others."""

    sink_url: SecretStr | None = Field(default=None, description=urls.SQL_SERVER)
    sink_password: SecretStr | None = Field(default=None, description="instead of the one in SINK_URL")
    sink_password_file: Path | None = None
    sink_auth: Auth = Field(
        default="password", description="how the sink is logged in to; by a token, SINK_URL names the user only"
    )
    entra_tenant: str = Field(default="", description="the tenant of the service principal, in Entra ID")
    entra_client_id: str = Field(
        default="", description="of the service principal, or of a managed identity that is not the machine's own"
    )
    entra_client_secret: SecretStr | None = Field(default=None, description="of the service principal")
    entra_client_secret_file: Path | None = None
    sink_ca_file: Path | None = Field(default=None, description="authorities of the sink beside the system's")
    sink_admin_user: str = Field(default="sa", min_length=1, description="who prepares the sink")
    sink_admin_password: SecretStr | None = None
    sink_admin_password_file: Path | None = None
    sink_admin_client_id: str = Field(
        default="", description="of the administrator in Entra ID, which logs in by a token and not by a password"
    )
    sink_admin_client_secret: SecretStr | None = Field(
        default=None, description="of that administrator, unless it is a managed identity"
    )
    sink_admin_client_secret_file: Path | None = None
    sink_exporter_password: SecretStr | None = Field(
        default=None, description="of the login of export-metrics; the loader's is used where this is not set"
    )
    sink_exporter_password_file: Path | None = None
    sink_exporter_counters: bool = Field(
        default=False, description="whether prepare-sink lets that login see the counters of the whole server"
    )
    sink_backup_password: SecretStr | None = Field(
        default=None, description="of the login of backup-sink; the administrator's is used where this is not set"
    )
    sink_backup_password_file: Path | None = None
    sink_lock_timeout: timedelta = Field(
        default=timedelta(hours=1), description="how long to wait for another load, and for locks of others in the sink"
    )

    def sink(self) -> ConnectionString:
        """The sink as an ODBC connection string. Raises ConfigurationError."""
        if self.sink_auth == "password":
            return connection_string(self._sink_options())
        check_authorities("SINK", self.sink_ca_file)
        return connection_string(words_for_token(self._sink_server()), self.identity(self.sink_auth))

    def sink_admin(self) -> ConnectionString:
        """The sink's server as an ODBC connection string for its administrator. Raises ConfigurationError."""
        if self.sink_admin_client_id:
            by: Auth = "service-principal" if self.client_secret("SINK_ADMIN") else "managed-identity"
            words = words_for_token(self._sink_server()) | {"Database": "master"}
            return connection_string(words, self.identity(by, "SINK_ADMIN"))
        who = {"UID": self.sink_admin_user, "PWD": _usable("SINK_ADMIN", self._password("SINK_ADMIN"))}
        # The sink's own database may not exist yet.
        return connection_string(self._sink_options() | {"Database": "master"} | who)

    def sink_exporter(self) -> ConnectionString:
        """The sink for `export-metrics`: by the exporter's login if it has a password, else by the loader's."""
        return self._as_own_login(EXPORTER) or self.sink()

    def sink_backup(self) -> ConnectionString:
        """The sink's server for `backup-sink`: by the backup login if it has a password, else by the admin's."""
        return self._as_own_login(BACKUP, {"Database": "master"}) or self.sink_admin()

    def sink_database(self) -> str:
        """The name of the sink's database. Raises ConfigurationError."""
        return self._sink_server().database

    def sink_logins(self) -> list[SinkLogin]:
        """The logins of the sink, the loader's first; by tokens it is alone. Raises ConfigurationError."""
        options = self._sink_options()
        if options["UID"].lower() == self.sink_admin_user.lower():
            raise ConfigurationError(
                f"SINK_URL names the administrator, {self.sink_admin_user}; name a login of the pipelines' own there."
            )
        if self.sink_auth != "password":
            return [SinkLogin(options["Database"], options["UID"], SecretStr(""), is_external=True)]
        loader = SinkLogin(options["Database"], options["UID"], SecretStr(_usable("SINK", options["PWD"])))
        own = [self._own_login(role) for role in OWN_LOGINS]
        return [loader, *(login for login in own if login)]

    def sink_as(self, login: SinkLogin) -> ConnectionString:
        """The sink as an ODBC connection string for one of its logins. Raises ConfigurationError."""
        return self.sink() if login.is_external else connection_string(self._sink_options() | login.options)

    def identity(self, auth: Auth, name: str = "ENTRA") -> Identity:
        """The identity of a login by a token, by NAME_CLIENT_ID and NAME_CLIENT_SECRET. Raises ConfigurationError."""
        client_id = str(getattr(self, f"{name.lower()}_client_id"))
        return entra.identity(auth, client_id, self.entra_tenant, self.client_secret(name), name)

    def client_secret(self, name: str) -> str:
        """The secret of a service principal; empty if there is none. Raises ConfigurationError."""
        prefix = f"{name.lower()}_client_secret"
        given, file = getattr(self, prefix), getattr(self, f"{prefix}_file")
        return passwords.read_password(name, "", text_of(given), file, "CLIENT_SECRET")

    def _own_login(self, role: str) -> SinkLogin | None:
        """The separate login of a role; None if it has no password, or where the loader has none."""
        name, suffix = OWN_LOGINS[role]
        if self.sink_auth != "password" or not (password := self._password(name)):
            return None
        server = self._sink_server()
        return SinkLogin(server.database, f"{server.user}_{suffix}", SecretStr(_usable(name, password)), role)

    def _as_own_login(self, role: str, words: dict[str, str] | None = None) -> ConnectionString | None:
        if (login := self._own_login(role)) is None:
            return None
        return connection_string(self._sink_options() | login.options | (words or {}))

    def sink_address(self) -> tuple[str, int]:
        """Host and port of the sink. Raises ConfigurationError."""
        server = self._sink_server()
        return server.host, server.port

    def _sink_server(self) -> urls.SqlServer:
        return urls.sql_server("SINK_URL", required("SINK_URL", self.sink_url, urls.SQL_SERVER))

    def _sink_options(self) -> dict[str, str]:
        """The options of the sink's ODBC connection string."""
        server = self._sink_server()
        check_authorities("SINK", self.sink_ca_file)
        return server_words(server, {"UID": server.user, "PWD": self._password("SINK", server.password)})

    def _password(self, name: str, in_url: str = "") -> str:
        side = name.lower()
        given, file = getattr(self, f"{side}_password"), getattr(self, f"{side}_password_file")
        return passwords.read_password(name, in_url, text_of(given), file)


def check_authorities(name: str, file: Path | None) -> None:
    """Raise ConfigurationError for a missing CA file: drivers report it badly, or use another one."""
    if file is not None and not file.is_file():
        raise ConfigurationError(f"{name}_CA_FILE ({file}) is no file; put the authorities there, as PEM.")


def required(name: str, url: SecretStr | None, example: str) -> str:
    """A URL as text. Raises ConfigurationError with an example if it is not set."""
    if url is None:
        raise ConfigurationError(f"{name} is not set; write {example}.")
    return url.get_secret_value()


def text_of(secret: SecretStr | None) -> str:
    """A secret as text; empty if it is not set."""
    return secret.get_secret_value() if secret else ""


def _usable(name: str, password: str) -> str:
    """A password that SQL Server accepts. Raises ConfigurationError."""
    if not password:
        raise ConfigurationError(f"{name}_PASSWORD is not set; set it, or {name}_PASSWORD_FILE to a file with it.")
    if len(password) > _LONGEST_PASSWORD:
        raise ConfigurationError(f"{name}_PASSWORD has more than {_LONGEST_PASSWORD} characters; choose a shorter one.")
    return password
