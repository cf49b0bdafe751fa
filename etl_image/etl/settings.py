"""Where the source, the sink and the staging folder are: read from the environment, checked before anything runs.

Passwords come by environment or file, and are kept so that no log, repr or traceback shows them.
"""

import os
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Self
from urllib.parse import quote, urlencode

from pydantic import Field, PositiveInt, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from etl import passwords, tls, urls
from etl.errors import ConfigurationError
from etl.sink_login import BACKUP, EXPORTER, OWN_LOGINS, SinkLogin

_SIDES = ("source", "sink", "sink_admin", "sink_exporter", "sink_backup", "metadata")
"""What has a password: the settings NAME_PASSWORD and NAME_PASSWORD_FILE."""
_LONGEST_PASSWORD = 128  # SQL Server's
_ENDPOINTS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")
_KEYS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
"""Read by the libraries of S3, and shown by none of our messages."""


class Settings(BaseSettings):
    """The settings of one process, from environment variables of the same names in capitals."""

    model_config = SettingsConfigDict(extra="ignore", env_ignore_empty=True, hide_input_in_errors=True)

    source_url: SecretStr | None = Field(default=None, description=urls.POSTGRES)
    source_password: SecretStr | None = Field(default=None, description="instead of the one in SOURCE_URL")
    source_password_file: Path | None = None
    source_ca_file: Path | None = Field(default=None, description="authorities of the source; default: the system's")
    sink_url: SecretStr | None = Field(default=None, description=urls.SQL_SERVER)
    sink_password: SecretStr | None = Field(default=None, description="instead of the one in SINK_URL")
    sink_password_file: Path | None = None
    sink_ca_file: Path | None = Field(default=None, description="authorities of the sink beside the system's")
    sink_admin_user: str = Field(default="sa", min_length=1, description="who prepares the sink")
    sink_admin_password: SecretStr | None = None
    sink_admin_password_file: Path | None = None
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
    metadata_url: SecretStr | None = Field(default=None, description="Airflow's database, for export-metrics alone")
    metadata_password: SecretStr | None = None
    metadata_password_file: Path | None = None
    backup_folder: Path = Field(
        default=Path("/var/lib/etl/backup"), description="of the sink's server, mounted here too"
    )
    # Not shown either: keys may be in them.
    backup_url: str | None = Field(
        default=None, repr=False, description="where copies of backups go: s3://bucket/folder or file://"
    )
    staging_url: str = Field(
        default="file:///var/lib/etl/staging", repr=False, description="file:// or s3://bucket/folder"
    )
    staging_retention: timedelta = Field(default=timedelta(days=7), description="how long files of a run are kept")
    audit_retention: timedelta = Field(
        default=timedelta(days=400),
        ge=timedelta(days=1),  # runs that are under way need theirs
        le=timedelta(days=36_500),
        description="how long rows of etl.audit are kept, but for a pipeline's latest run",
    )
    sink_lock_timeout: timedelta = Field(default=timedelta(hours=1), description="how long to wait for another load")
    longest_row: PositiveInt | None = Field(
        default=None, description="the most bytes of texts, documents and bytea in a row; default: what memory allows"
    )
    statsd_host: str | None = Field(default=None, description="no metrics are sent where this is not set")
    statsd_port: int = 8125

    @model_validator(mode="after")
    def _one_password_each(self) -> Self:
        for name in _SIDES:
            passwords.check_one(name.upper(), getattr(self, f"{name}_password"), getattr(self, f"{name}_password_file"))
        return self

    def source(self, **unless_given: str) -> SecretStr:
        """The source as a libpq URL, with options of ours unless it has them. Raises ConfigurationError."""
        options = unless_given | self._with_password("SOURCE", self._source_words())
        added = tls.source_options(options, self.source_ca_file)
        if "sslrootcert" in added:
            _check_authorities("SOURCE", self.source_ca_file)
        return _libpq(options | added)

    def source_addresses(self) -> list[tuple[str, int]]:
        """Hosts and ports of the source; none where it is a socket or a service. Raises ConfigurationError."""
        return urls.addresses(self._source_words())

    def metadata(self, **unless_given: str) -> SecretStr:
        """Airflow's metadata database as a libpq URL, as `source` does. Raises ConfigurationError."""
        options = urls.postgres("METADATA_URL", _set("METADATA_URL", self.metadata_url, urls.POSTGRES))
        return _libpq(unless_given | self._with_password("METADATA", options))

    def sink(self) -> SecretStr:
        """The sink as an ODBC connection string. Raises ConfigurationError."""
        return _connection_string(self._sink_words())

    def sink_admin(self) -> SecretStr:
        """The sink's server as an ODBC connection string for its administrator. Raises ConfigurationError."""
        who = {"UID": self.sink_admin_user, "PWD": _usable("SINK_ADMIN", self._password("SINK_ADMIN"))}
        # The sink's own database may not be there yet.
        return _connection_string(self._sink_words() | {"Database": "master"} | who)

    def sink_exporter(self) -> SecretStr:
        """The sink for `export-metrics`: as its own login where that has a password, else as the loader."""
        return self._as_own_login(EXPORTER) or self.sink()

    def sink_backup(self) -> SecretStr:
        """The sink's server for `backup-sink`: as its own login where that has a password, else as administrator."""
        return self._as_own_login(BACKUP, {"Database": "master"}) or self.sink_admin()

    def sink_database(self) -> str:
        """The name of the sink's database. Raises ConfigurationError."""
        return self._sink_server().database

    def sink_logins(self) -> list[SinkLogin]:
        """The logins that the sink is to have, the loader's first. Raises ConfigurationError."""
        words = self._sink_words()
        if words["UID"].lower() == self.sink_admin_user.lower():
            raise ConfigurationError(
                f"SINK_URL names the administrator, {self.sink_admin_user}; name a login of the pipelines' own there."
            )
        loader = SinkLogin(words["Database"], words["UID"], SecretStr(_usable("SINK", words["PWD"])))
        own = [self._own_login(role) for role in OWN_LOGINS]
        return [loader, *(login for login in own if login)]

    def sink_as(self, login: SinkLogin) -> SecretStr:
        """The sink as an ODBC connection string for one of its logins. Raises ConfigurationError."""
        return _connection_string(self._sink_words() | login.words)

    def _own_login(self, role: str) -> SinkLogin | None:
        """The login of a role that may have one of its own, None where it has no password."""
        name, suffix = OWN_LOGINS[role]
        if not (password := self._password(name)):
            return None
        server = self._sink_server()
        return SinkLogin(server.database, f"{server.user}_{suffix}", SecretStr(_usable(name, password)), role)

    def _as_own_login(self, role: str, words: dict[str, str] | None = None) -> SecretStr | None:
        if (login := self._own_login(role)) is None:
            return None
        return _connection_string(self._sink_words() | login.words | (words or {}))

    def sink_address(self) -> tuple[str, int]:
        """Host and port of the sink. Raises ConfigurationError."""
        server = self._sink_server()
        return server.host, server.port

    def _sink_server(self) -> urls.SqlServer:
        return urls.sql_server("SINK_URL", _set("SINK_URL", self.sink_url, urls.SQL_SERVER))

    def _sink_words(self) -> dict[str, str]:
        """The words of the sink's ODBC connection string."""
        server = self._sink_server()
        words = {
            "Server": f"{server.host},{server.port}",  # IPv6 without brackets, as the driver wants it
            "Database": server.database,
            "UID": server.user,
            "PWD": self._password("SINK", server.password),
            "Encrypt": server.tls.encrypt,
            "TrustServerCertificate": "yes" if server.tls.believes_anybody else "no",
            **server.options,
        }
        if server.tls.name:
            words["HostnameInCertificate"] = server.tls.name
        _check_authorities("SINK", self.sink_ca_file)
        return words

    def _source_words(self) -> dict[str, str]:
        """The options of libpq in SOURCE_URL alone."""
        return urls.postgres("SOURCE_URL", _set("SOURCE_URL", self.source_url, urls.POSTGRES))

    def _with_password(self, name: str, options: dict[str, str]) -> dict[str, str]:
        """The options of libpq with their password; where there is none, libpq may find one itself."""
        password = self._password(name, options.get("password", ""))
        return options | ({"password": password} if password else {})

    def _password(self, name: str, in_url: str = "") -> str:
        side = name.lower()
        given, file = getattr(self, f"{side}_password"), getattr(self, f"{side}_password_file")
        return passwords.read_password(name, in_url, _text(given), file)

    def doubts(self) -> str:
        """What is not verified of source and sink, in one sentence; empty where all is, or cannot be read yet."""
        found = []
        with suppress(ConfigurationError):
            found.append(tls.source_doubt(self._source_words()))
        with suppress(ConfigurationError):
            sink = self._sink_server()
            found.append(tls.sink_doubt(sink.host, sink.tls))
        return tls.doubts_told(*found)

    def secrets(self) -> list[str]:
        """Every text that no output may show, longest first."""
        texts = {os.environ.get(name, "") for name in _KEYS}
        addresses = [self.staging_url, self.backup_url, *(os.environ.get(name) for name in _ENDPOINTS)]
        for url in (*map(_text, (self.source_url, self.sink_url, self.metadata_url)), *addresses):
            texts.update(passwords.in_url(url or ""))
        for side in _SIDES:
            with suppress(ConfigurationError):  # told where the password is needed
                texts.add(self._password(side))
        written = {form for text in texts if text for form in passwords.forms(text)}
        return sorted(written, key=lambda text: (-len(text), text))


def read_settings() -> Settings:
    """Read the environment. Raises ConfigurationError naming the variable that is wrong, never its value."""
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = "_".join(str(part) for part in first["loc"]).upper()
        raise ConfigurationError(f"Environment variable {name or 'set'}: {first['msg']}.") from None


def place(url: SecretStr | None) -> str:
    """Hosts, port and database of a connection URL, for messages; nothing where it is not set or cannot be read."""
    return urls.place(_text(url))


def _check_authorities(name: str, file: Path | None) -> None:
    """A driver that does not find the file says so in no useful words, or uses another. Raises ConfigurationError."""
    if file is not None and not file.is_file():
        raise ConfigurationError(f"{name}_CA_FILE ({file}) is no file; put the authorities there, as PEM.")


def _libpq(options: dict[str, str]) -> SecretStr:
    return SecretStr(f"postgresql://?{urlencode(options, quote_via=quote, safe='', errors='surrogateescape')}")


def _set(name: str, url: SecretStr | None, example: str) -> str:
    if url is None:
        raise ConfigurationError(f"{name} is not set; write {example}.")
    return url.get_secret_value()


def _text(secret: SecretStr | None) -> str:
    return secret.get_secret_value() if secret else ""


def _connection_string(words: dict[str, str]) -> SecretStr:
    return SecretStr(";".join(f"{name}={{{value.replace('}', '}}')}}}" for name, value in words.items()))


def _usable(name: str, password: str) -> str:
    """The password, if SQL Server can have it. Raises ConfigurationError."""
    if not password:
        raise ConfigurationError(f"{name}_PASSWORD is not set; set it, or {name}_PASSWORD_FILE to a file with it.")
    if len(password) > _LONGEST_PASSWORD:
        raise ConfigurationError(f"{name}_PASSWORD has more than {_LONGEST_PASSWORD} characters; choose a shorter one.")
    return password
