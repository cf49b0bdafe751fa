"""Where the source, the sink and the staging folder are: read from the environment, checked before anything runs.

Passwords come by environment or file, and are kept so that no log, repr or traceback shows them.
"""

from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Self
from urllib.parse import SplitResult, parse_qs, parse_qsl, quote, unquote, urlencode, urlsplit

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from etl import tls
from etl.errors import ConfigurationError

_POSTGRES = {"postgresql", "postgres"}
_SQL_SERVER = {"mssql", "sqlserver", "mssql+pymssql", "mssql+pyodbc"}
_SIDES = ("source", "sink", "sink_admin", "metadata")
"""What has a password: the settings NAME_PASSWORD and NAME_PASSWORD_FILE."""
_LONGEST_PASSWORD = 128  # SQL Server's


@dataclass(frozen=True)
class SinkLogin:
    """What SINK_URL says of whom the loader is, and of where it loads."""

    database: str
    user: str
    password: SecretStr


class Settings(BaseSettings):
    """The settings of one process, from environment variables of the same names in capitals."""

    model_config = SettingsConfigDict(extra="ignore", hide_input_in_errors=True)

    source_url: SecretStr | None = Field(default=None, description="postgresql://user:password@host:port/database")
    source_password: SecretStr | None = Field(default=None, description="instead of the one in SOURCE_URL")
    source_password_file: Path | None = None
    source_ca_file: Path | None = Field(default=None, description="authorities of the source; default: the system's")
    sink_url: SecretStr | None = Field(default=None, description="mssql://user:password@host:port/database")
    sink_password: SecretStr | None = Field(default=None, description="instead of the one in SINK_URL")
    sink_password_file: Path | None = None
    sink_ca_file: Path | None = Field(default=None, description="authorities of the sink beside the system's")
    sink_admin_user: str = Field(default="sa", min_length=1, description="who prepares the sink")
    sink_admin_password: SecretStr | None = None
    sink_admin_password_file: Path | None = None
    metadata_url: SecretStr | None = Field(default=None, description="Airflow's database, for export-metrics alone")
    metadata_password: SecretStr | None = None
    metadata_password_file: Path | None = None
    backup_folder: Path = Field(
        default=Path("/var/lib/etl/backup"), description="of the sink's server, mounted here too"
    )
    backup_url: str | None = Field(
        default=None, description="where copies of backups go: s3://bucket/folder or file://"
    )
    staging_url: str = Field(default="file:///var/lib/etl/staging", description="file:// or s3://bucket/folder")
    staging_retention: timedelta = Field(default=timedelta(days=7), description="how long files of a run are kept")
    sink_lock_timeout: timedelta = Field(default=timedelta(hours=1), description="how long to wait for another load")
    statsd_host: str | None = Field(default=None, description="no metrics are sent where this is not set")
    statsd_port: int = 8125

    @model_validator(mode="after")
    def _one_password_each(self) -> Self:
        for name in _SIDES:
            if getattr(self, f"{name}_password") and getattr(self, f"{name}_password_file"):
                raise ValueError(f"{name.upper()}_PASSWORD and {name.upper()}_PASSWORD_FILE are both set; keep one")
        return self

    def source(self) -> SecretStr:
        """The source as a libpq URL. Raises ConfigurationError."""
        url = _libpq("SOURCE", self.source_url, self.source_password, self.source_password_file)
        parts = urlsplit(url.get_secret_value())
        added = tls.source_options(parts.hostname or "", dict(parse_qsl(parts.query)), self.source_ca_file)
        if "sslrootcert" in added:
            _check_authorities("SOURCE", self.source_ca_file)
        query = "&".join(filter(None, [parts.query, urlencode(added, safe="/")]))
        return SecretStr(parts._replace(query=query).geturl())

    def metadata(self) -> SecretStr:
        """Airflow's metadata database as a libpq URL. Raises ConfigurationError."""
        return _libpq("METADATA", self.metadata_url, self.metadata_password, self.metadata_password_file)

    def sink(self) -> SecretStr:
        """The sink as an ODBC connection string. Raises ConfigurationError."""
        return _connection_string(self._sink_words())

    def sink_admin(self) -> SecretStr:
        """The sink's server as an ODBC connection string for its administrator. Raises ConfigurationError."""
        password = _password("SINK_ADMIN", "", self.sink_admin_password, self.sink_admin_password_file)
        who = {"UID": self.sink_admin_user, "PWD": _usable("SINK_ADMIN", password)}
        # The sink's own database may not be there yet.
        return _connection_string(self._sink_words() | {"Database": "master"} | who)

    def sink_login(self) -> SinkLogin:
        """The login that the sink is to have, with its password. Raises ConfigurationError."""
        words = self._sink_words()
        if words["UID"].lower() == self.sink_admin_user.lower():
            raise ConfigurationError(
                f"SINK_URL names the administrator, {self.sink_admin_user}; name a login of the pipelines' own there."
            )
        return SinkLogin(words["Database"], words["UID"], SecretStr(_usable("SINK", words["PWD"])))

    def _sink_words(self) -> dict[str, str]:
        """The words of the sink's ODBC connection string."""
        url = _split("SINK_URL", self.sink_url, _SQL_SERVER)
        options = _options(url)
        database = unquote(url.path.strip("/")) or options.pop("database", "")
        if not database:
            raise ConfigurationError("SINK_URL names no database; write mssql://user:password@host:1433/DATABASE.")
        asked = tls.take_sink_tls(url.hostname or "", options)
        words = {
            "Server": f"{_host(url)},{url.port or 1433}",
            "Database": database,
            "UID": unquote(url.username or ""),
            "PWD": _password("SINK", url.password, self.sink_password, self.sink_password_file),
            "Encrypt": asked.encrypt,
            "TrustServerCertificate": "yes" if asked.believes_anybody else "no",
        }
        if asked.name:
            words["HostnameInCertificate"] = asked.name
        _check_authorities("SINK", self.sink_ca_file)
        if options:
            raise ConfigurationError(
                f"SINK_URL: unknown option {', '.join(sorted(options))};"
                " known are encrypt, trustservercertificate, hostnameincertificate and database."
            )
        return words

    def doubts(self) -> str:
        """What is not verified of source and sink, in one sentence; empty where all is, or cannot be read yet."""
        found = []
        with suppress(ConfigurationError):
            source = _split("SOURCE_URL", self.source_url, _POSTGRES)
            found.append(tls.source_doubt(source.hostname or "", dict(parse_qsl(source.query))))
        with suppress(ConfigurationError):
            sink = _split("SINK_URL", self.sink_url, _SQL_SERVER)
            found.append(tls.sink_doubt(sink.hostname or "", tls.take_sink_tls(sink.hostname or "", _options(sink))))
        return tls.doubts_told(*found)

    def secrets(self) -> list[str]:
        """Every text that no output may show, longest first."""
        texts: set[str] = set()
        for password in (getattr(self, f"{side}_password") for side in _SIDES):
            texts.add(password.get_secret_value() if password else "")
        for url in (self.source_url, self.sink_url, self.metadata_url):
            texts |= _raw_passwords(url.get_secret_value() if url else "")
        for file in (getattr(self, f"{side}_password_file") for side in _SIDES):
            with suppress(OSError):  # told where the password is needed
                texts.add(_read_password(file) if file else "")
        texts |= {text.replace("'", "''") for text in texts}  # as SQL quotes it
        return sorted(texts - {""}, key=len, reverse=True)


def read_settings() -> Settings:
    """Read the environment. Raises ConfigurationError naming the variable that is wrong, never its value."""
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = "_".join(str(part) for part in first["loc"]).upper()
        raise ConfigurationError(f"Environment variable {name or 'set'}: {first['msg']}.") from None


def place(url: SecretStr | None) -> str:
    """Host, port and database of a URL, for messages: what of it is no secret."""
    parts = urlsplit(url.get_secret_value() if url else "")
    return parts.netloc.rpartition("@")[2] + parts.path


def _split(name: str, url: SecretStr | None, schemes: set[str]) -> SplitResult:
    if url is None:
        raise ConfigurationError(f"{name} is not set; write {sorted(schemes)[0]}://user:password@host:port/database.")
    try:
        parts = urlsplit(url.get_secret_value())
        usable = parts.scheme in schemes and parts.hostname and parts.username and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ConfigurationError(
            f"{name} is not a URL such as {sorted(schemes)[0]}://user:password@host:port/database;"
            " characters such as @ / : in a password are written %40 %2F %3A, or set the password apart."
        )
    return parts


def _options(url: SplitResult) -> dict[str, str]:
    return {name.lower(): values[-1] for name, values in parse_qs(url.query).items()}


def _check_authorities(name: str, file: Path | None) -> None:
    """A driver that does not find the file says so in no useful words, or uses another. Raises ConfigurationError."""
    if file is not None and not file.is_file():
        raise ConfigurationError(f"{name}_CA_FILE ({file}) is no file; put the authorities there, as PEM.")


def _libpq(name: str, url: SecretStr | None, password: SecretStr | None, file: Path | None) -> SecretStr:
    parts = _split(f"{name}_URL", url, _POSTGRES)
    words = _password(name, parts.password, password, file)
    user = quote(unquote(parts.username or ""), safe="")
    netloc = f"{user}:{quote(words, safe='')}@{_host(parts)}:{parts.port or 5432}"
    return SecretStr(parts._replace(scheme="postgresql", netloc=netloc).geturl())


def _connection_string(words: dict[str, str]) -> SecretStr:
    return SecretStr(";".join(f"{name}={{{value.replace('}', '}}')}}}" for name, value in words.items()))


def _password(name: str, in_url: str | None, password: SecretStr | None, file: Path | None) -> str:
    if password is not None:
        return password.get_secret_value()
    if file is None:
        return unquote(in_url or "")
    try:
        return _read_password(file)
    except OSError as error:
        raise ConfigurationError(f"{name}_PASSWORD_FILE ({file}) cannot be read: {error.strerror}.") from error


def _read_password(file: Path) -> str:
    return file.read_text().rstrip("\r\n")


def _usable(name: str, password: str) -> str:
    """The password, if SQL Server can have it. Raises ConfigurationError."""
    if not password:
        raise ConfigurationError(f"{name}_PASSWORD is not set; set it, or {name}_PASSWORD_FILE to a file with it.")
    if len(password) > _LONGEST_PASSWORD:
        raise ConfigurationError(f"{name}_PASSWORD has more than {_LONGEST_PASSWORD} characters; choose a shorter one.")
    return password


def _raw_passwords(url: str) -> set[str]:
    try:
        password = urlsplit(url).password or ""
    except ValueError:
        return set()
    return {password, unquote(password)}


def _host(url: SplitResult) -> str:
    host = url.hostname or ""
    return f"[{host}]" if ":" in host else host
