"""Hooks of `plan` and `reconcile`: TLS is verified, with a warning if the connection asks for less."""

import atexit
import json
import logging
import os
import re
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pymssql
from airflow.providers.common.compat.sdk import AirflowException
from airflow.providers.microsoft.mssql.hooks.mssql import MsSqlHook
from airflow.providers.postgres.hooks.postgres import PostgresHook
from airflow.sdk.exceptions import AirflowFailException
from etl.config import tls, urls
from etl.config.reach import UnreachableError, reach
from etl.sqlserver import state as sink_state

from etl_airflow.dag.token_login import connect_sink, source_password, take_identity

# Messages of pymssql, and of the library below it, when no connection is established.
_NOT_CONNECTED = "TDS server connection failed"
_NO_ANSWER = "is unavailable or does not exist"
# pymssql reports the server's last error number, possibly of an earlier connection; with the library's 20018 ("check
# messages from the SQL Server") it is of this one.
_LOGIN_FAILED = re.compile(r"^\(18456,.*\b20018\b", re.DOTALL)
_MASTER = "master"
log = logging.getLogger(__name__)
# Airflow masks a connection's options as it does its password, and warns of values that are too short, such as "off".
logging.getLogger("airflow.sdk._shared.secrets_masker.secrets_masker").setLevel(logging.ERROR)


def source_hook(conn_id: str) -> PostgresHook:
    """The hook of the source; libpq verifies TLS as the connection's extra says."""
    hook = PostgresHook(conn_id)
    _check(hook.connection)
    extra = hook.connection.extra_dejson
    identity = take_identity(extra)
    warning = tls.source_warning({"host": hook.connection.host or "", "sslmode": "prefer"} | extra)
    _warn(warning)
    if identity:
        hook.connection.extra = json.dumps(extra)
        hook.connection.password = source_password(identity, warning)
    return hook


class SinkHook(MsSqlHook):
    """The hook of the sink. Its extra may have a CA file (`ca_file`) and the certificate's name (`certificate_name`).

    pymssql takes neither: the library below it, FreeTDS, reads them from a file that an environment variable names.
    `mask_secret` is the key of masks in plan (etl.model.masking).
    """

    def __init__(self, conn_id: str) -> None:
        super().__init__(conn_id)
        _check(self.connection)
        extra = self.connection.extra_dejson
        self.ca_file, name = extra.pop("ca_file", ""), extra.pop("certificate_name", "")
        self.identity, self._odbc = take_identity(extra), str(extra.pop("odbc", ""))
        self.mask_key = str(extra.pop("mask_secret", ""))
        self.connection.extra = json.dumps(extra)
        os.environ["FREETDSCONF"] = _settings(self.ca_file, name)
        encrypt = "yes" if extra.get("encryption") == "require" else "no"
        sink_tls = tls.SinkTls(encrypt, trusts_any_certificate=not self.ca_file)
        _warn(tls.sink_warning(self.connection.host or "", sink_tls))

    def get_conn(self) -> Any:
        """Connect. Raises AirflowFailException for a refused login or a missing database.

        Raises AirflowException, with address and reason, if there is no connection for another reason.
        """
        if self.identity:
            return connect_sink(self._odbc, self.identity, self.ca_file, self._location)
        try:
            return super().get_conn()
        except pymssql.OperationalError as error:
            text = str(error)
            if _LOGIN_FAILED.search(text):
                raise self._refusal() from None
            if _NO_ANSWER in text:
                self._reach()
            raise AirflowException(f"No connection to the sink {self._location}: {self._why(text)}") from None

    def set_autocommit(self, conn: Any, autocommit: bool) -> None:
        """Turn autocommit on or off: a method of pymssql's connections, a property of the other driver's."""
        if self.identity:
            conn.autocommit = autocommit
        else:
            super().set_autocommit(conn, autocommit)

    def get_autocommit(self, conn: Any) -> bool:
        """Whether autocommit is on."""
        return bool(conn.autocommit if self.identity else super().get_autocommit(conn))

    @property
    def _address(self) -> tuple[str, int]:
        # pymssql takes an IPv6 address in brackets, with its port.
        host = self.connection.host or ""
        return host[1:].partition("]")[0] if host.startswith("[") else host, self.connection.port or 1433

    @property
    def _location(self) -> str:
        host, port = self._address
        return f"{urls.bracketed(host)}:{port}"

    def _why(self, text: str) -> str:
        if self.ca_file and _NOT_CONNECTED in text:
            return (
                f"it has no TLS, or its certificate is not of an authority in {self.ca_file}, or for another name"
                " (hostnameincertificate in SINK_URL)."
            )
        return f"{text} `etl check sink` looks closer."

    def _reach(self) -> None:
        """Raise AirflowException if the sink's port does not answer, with the message of the steps."""
        try:
            reach([self._address])
        except UnreachableError as error:
            location = f"{self._location}/{self.connection.schema or ''}"
            raise AirflowException(f"The sink {location} cannot be reached: {error}") from None

    def _refusal(self) -> Exception:
        """Why a login was refused: SQL Server's error is the same for a wrong password and a recovering database."""
        location, database = self._location, self.schema or self.connection.schema or ""
        self.schema = _MASTER
        try:
            with super().get_conn() as connection, connection.cursor() as cursor:
                cursor.execute(sink_state.query(database))
                state = sink_state.read(database, cursor.fetchone())
        except pymssql.OperationalError as second:
            if not _LOGIN_FAILED.search(str(second)):
                return second
            return AirflowFailException(
                f"The sink {location} does not let the login {self.connection.login} in: there is none, or"
                " SINK_PASSWORD is another; `etl prepare-sink` makes the login and gives it that password."
            )
        finally:
            self.schema = database
        kind = AirflowException if state.may_pass else AirflowFailException
        return kind(f"The sink {location} said: {state.words}")


@cache
def _settings(ca_file: str, name: str) -> str:
    """A FreeTDS settings file, which verifies TLS only with a CA file; deleted when the process ends."""
    lines = ["[global]"]
    if ca_file:
        lines.append(f"ca file = {ca_file}")
    if name:
        lines.append(f"certificate hostname = {name}")
    folder = Path(tempfile.mkdtemp(prefix="freetds-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "freetds.conf").write_text("\n".join([*lines, ""]))
    return str(folder / "freetds.conf")


def _check(connection: Any) -> None:
    """Raise AirflowFailException if the settings of the connection are invalid."""
    if refused := connection.extra_dejson.get("refused"):
        raise AirflowFailException(refused)


def _warn(warning: str) -> None:
    if text := tls.describe_tls_warnings(warning):
        log.warning(text)
