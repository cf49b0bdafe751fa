"""Settings of source, sink, staging and the rest, read from the environment and checked before a command runs.

Passwords come from the environment or a file, as SecretStr, so that no log, repr or traceback shows them.
"""

import os
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Self
from urllib.parse import quote, urlencode

from pydantic import ConfigDict, Field, PositiveInt, SecretStr, ValidationError, model_validator

from etl.config import entra, passwords, tls, urls
from etl.config.sink import CLIENT_SECRETS, SinkSettings, check_authorities, required, text_of
from etl.errors import ConfigurationError
from etl.model.masking import SHORTEST_KEY, Mask
from etl.model.pipeline import Pipeline

_SIDES = ("source", "source_admin", "sink", "sink_admin", "sink_exporter", "sink_backup", "metadata")
"""Names of the passwords: NAME_PASSWORD and NAME_PASSWORD_FILE."""
_ENDPOINTS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")
_KEYS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
"""Read by the S3 libraries, and redacted in our messages."""


class Settings(SinkSettings):
    """The settings of one process, from environment variables of the same names in capitals."""

    model_config = ConfigDict(hide_input_in_errors=True)

    source_url: SecretStr | None = Field(default=None, description=urls.POSTGRES)
    source_password: SecretStr | None = Field(default=None, description="instead of the one in SOURCE_URL")
    source_password_file: Path | None = None
    source_auth: entra.Auth = Field(
        default="password", description="how the source is logged in to; by a token, SOURCE_URL names the role only"
    )
    source_ca_file: Path | None = Field(default=None, description="authorities of the source; default: the system's")
    source_admin_user: str = Field(default="postgres", min_length=1, description="who prepares the source")
    source_admin_password: SecretStr | None = None
    source_admin_password_file: Path | None = None
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
    backup_recipients: str = Field(
        default="",
        description="age's public keys, with blanks between: copies of backups are encrypted for each of them",
    )
    backup_identity: SecretStr | None = Field(
        default=None, description="age's private key, which copies of backups that are brought back are decrypted with"
    )
    staging_url: str = Field(
        default="file:///var/lib/etl/staging", repr=False, description="file:// or s3://bucket/folder"
    )
    staging_retention: timedelta = Field(default=timedelta(days=7), description="how long files of a run are kept")
    audit_retention: timedelta = Field(
        default=timedelta(days=400),
        ge=timedelta(days=1),  # runs in progress need theirs
        le=timedelta(days=36_500),
        description="how long rows of etl.audit are kept, but for a pipeline's latest run",
    )
    mask_key: SecretStr | None = Field(
        default=None,
        min_length=SHORTEST_KEY,
        description="makes the masks of sensitive values; without it they are alike",
    )
    longest_row: PositiveInt | None = Field(
        default=None, description="the most bytes of texts, documents and bytea in a row; default: what memory allows"
    )
    statsd_host: str | None = Field(default=None, description="no metrics are sent where this is not set")
    statsd_port: int = 8125

    @model_validator(mode="after")
    def _one_password_each(self) -> Self:
        for name in _SIDES:
            passwords.check_one(
                f"{name}_password".upper(), getattr(self, f"{name}_password"), getattr(self, f"{name}_password_file")
            )
        return self

    def source(self, **unless_given: str) -> SecretStr:
        """The source as a libpq URL, with default options; by a token, it is good for an hour.

        Raises ConfigurationError, or NoTokenNowError where the token should come from.
        """
        options = unless_given | self._source_options()
        added = tls.source_options(options, self.source_ca_file)
        if "sslrootcert" in added:
            check_authorities("SOURCE", self.source_ca_file)
        options |= added
        if self.source_auth == "password":
            return _libpq(self._with_password("SOURCE", options))
        entra.check_source(tls.source_warning(options))
        options["password"] = self.identity(self.source_auth).get_token(entra.SOURCE_SCOPE).token
        return _libpq(options)

    def source_admin(self, **unless_given: str) -> SecretStr:
        """The source as a libpq URL for its administrator, with default options. Raises ConfigurationError."""
        options = unless_given | self._source_options()
        own = {"user": self.source_admin_user, "password": self._password("SOURCE_ADMIN")}
        added = tls.source_options(options, self.source_ca_file)
        if "sslrootcert" in added:
            check_authorities("SOURCE", self.source_ca_file)
        # Without a password libpq may find one, as in a passfile.
        return _libpq({name: value for name, value in (options | added | own).items() if value})

    def source_user(self) -> str | None:
        """The role that reads the source; None where SOURCE_URL leaves it to libpq. Raises ConfigurationError."""
        return self._source_options().get("user")

    def source_addresses(self) -> list[tuple[str, int]]:
        """Hosts and ports of the source; none for a socket or a service. Raises ConfigurationError."""
        return urls.addresses(self._source_options())

    def metadata(self, **unless_given: str) -> SecretStr:
        """Airflow's metadata database as a libpq URL. Raises ConfigurationError."""
        options = urls.postgres("METADATA_URL", required("METADATA_URL", self.metadata_url, urls.POSTGRES))
        return _libpq(unless_given | self._with_password("METADATA", options))

    def mask(self, pipeline: Pipeline) -> Mask:
        """Formats values of a pipeline for messages."""
        return Mask(pipeline, text_of(self.mask_key))

    def _source_options(self) -> dict[str, str]:
        """The options of libpq in SOURCE_URL."""
        return urls.postgres("SOURCE_URL", required("SOURCE_URL", self.source_url, urls.POSTGRES))

    def _with_password(self, name: str, options: dict[str, str]) -> dict[str, str]:
        """The options of libpq with the password, if there is one; otherwise libpq may find one, as in a passfile."""
        password = self._password(name, options.get("password", ""))
        return options | ({"password": password} if password else {})

    def tls_warnings(self) -> str:
        """One sentence about unverified TLS of source and sink; empty if verified, or if the URLs are invalid."""
        found = []
        with suppress(ConfigurationError):
            found.append(tls.source_warning(self._source_options()))
        with suppress(ConfigurationError):
            sink = self._sink_server()
            found.append(tls.sink_warning(sink.host, sink.tls))
        return tls.describe_tls_warnings(*found)

    def secrets(self) -> list[str]:
        """Every text to redact, longest first."""
        texts = {os.environ.get(name, "") for name in _KEYS}
        addresses = [self.staging_url, self.backup_url, *(os.environ.get(name) for name in _ENDPOINTS)]
        for url in (*map(text_of, (self.source_url, self.sink_url, self.metadata_url)), *addresses):
            texts.update(passwords.in_url(url or ""))
        texts.update(map(text_of, (self.mask_key, self.backup_identity)))
        texts.update(entra.issued())
        for name in CLIENT_SECRETS:
            with suppress(ConfigurationError):
                texts.add(self.client_secret(name))
        for side in _SIDES:
            with suppress(ConfigurationError):  # raised where the password is needed
                texts.add(self._password(side))
        written = {form for text in texts if text for form in passwords.forms(text)}
        return sorted(written, key=lambda text: (-len(text), text))


def read_settings() -> Settings:
    """Read the environment. Raises ConfigurationError naming the variable that is wrong, never its value."""
    found = {name: os.environ.get(name.upper()) for name in Settings.model_fields}
    try:
        # An empty variable counts as one that is not set.
        return Settings.model_validate({name: value for name, value in found.items() if value})
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = "_".join(str(part) for part in first["loc"]).upper()
        raise ConfigurationError(f"Environment variable {name or 'set'}: {first['msg']}.") from None


def redacted_location(url: SecretStr | None) -> str:
    """Hosts, port and database of a connection URL, for messages; empty if it is not set or invalid."""
    return urls.redacted_location(text_of(url))


def _libpq(options: dict[str, str]) -> SecretStr:
    return SecretStr(f"postgresql://?{urlencode(options, quote_via=quote, safe='', errors='surrogateescape')}")
