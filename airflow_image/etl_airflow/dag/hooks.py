"""The hooks of `plan` and `reconcile`: they verify who answers, and say so where their connection asks for less."""

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

# What pymssql and the library below it say where no connection came about.
_NOT_CONNECTED = "TDS server connection failed"
_NO_ANSWER = "is unavailable or does not exist"
# pymssql reports the number that a server gave last, maybe to an earlier connection; with the library's 20018 ("check
# messages from the SQL Server") it is of this one.
_LOGIN_FAILED = re.compile(r"^\(18456,.*\b20018\b", re.DOTALL)
_MASTER = "master"
log = logging.getLogger(__name__)
# Airflow hides a connection's options with its password, and warns of one that is too short for that, as "off" is.
logging.getLogger("airflow.sdk._shared.secrets_masker.secrets_masker").setLevel(logging.ERROR)


def source_hook(conn_id: str) -> PostgresHook:
    """The source; libpq verifies it as the connection's extra says."""
    hook = PostgresHook(conn_id)
    _check(hook.connection)
    options = {"host": hook.connection.host or "", "sslmode": "prefer"} | hook.connection.extra_dejson
    _tell(tls.source_doubt(options))
    return hook


class SinkHook(MsSqlHook):
    """The sink. Its extra may name authorities (`ca_file`) and the name in the certificate (`certificate_name`).

    pymssql takes neither: the library below it reads them from a file that its environment names. `mask_secret` is not
    for the sink: plan makes masks with it (etl.masking).
    """

    def __init__(self, conn_id: str) -> None:
        super().__init__(conn_id)
        _check(self.connection)
        extra = self.connection.extra_dejson
        self.believed, name = extra.pop("ca_file", ""), extra.pop("certificate_name", "")
        self.mask_key = str(extra.pop("mask_secret", ""))
        self.connection.extra = json.dumps(extra)
        os.environ["FREETDSCONF"] = _settings(self.believed, name)
        encrypt = "yes" if extra.get("encryption") == "require" else "no"
        asked = tls.SinkTls(encrypt, trusts_any_certificate=not self.believed)
        _tell(tls.sink_doubt(self.connection.host or "", asked))

    def get_conn(self) -> Any:
        """A connection. Raises AirflowFailException for a login or a database that a retry cannot help.

        Raises AirflowException where there is no connection for another reason, with where it was looked for and why.
        """
        try:
            return super().get_conn()
        except pymssql.OperationalError as error:
            text = str(error)
            if _LOGIN_FAILED.search(text):
                raise self._kept_out() from None
            if _NO_ANSWER in text:
                self._reach()
            raise AirflowException(f"No connection to the sink {self._place}: {self._why(text)}") from None

    @property
    def _address(self) -> tuple[str, int]:
        # An IPv6 address is there as pymssql takes it: in brackets, with its port.
        host = self.connection.host or ""
        return host[1:].partition("]")[0] if host.startswith("[") else host, self.connection.port or 1433

    @property
    def _place(self) -> str:
        host, port = self._address
        return f"{urls.bracketed(host)}:{port}"

    def _why(self, text: str) -> str:
        if self.believed and _NOT_CONNECTED in text:
            return (
                f"it has no TLS, or its certificate is not of an authority in {self.believed}, or for another name"
                " (hostnameincertificate in SINK_URL)."
            )
        return f"{text} `etl check sink` looks closer."

    def _reach(self) -> None:
        """Raise AirflowException where nothing answers at the sink's port, in the words of the steps."""
        try:
            reach([self._address])
        except UnreachableError as error:
            place = f"{self._place}/{self.connection.schema or ''}"
            raise AirflowException(f"The sink {place} cannot be reached: {error}") from None

    def _kept_out(self) -> Exception:
        """Why a login was refused: SQL Server says the same of a wrong password and of a database that is recovered."""
        place, database = self._place, self.schema or self.connection.schema or ""
        self.schema = _MASTER
        try:
            with super().get_conn() as connection, connection.cursor() as cursor:
                cursor.execute(sink_state.query(database))
                state = sink_state.read(database, cursor.fetchone())
        except pymssql.OperationalError as second:
            if not _LOGIN_FAILED.search(str(second)):
                return second
            return AirflowFailException(
                f"The sink {place} does not let the login {self.connection.login} in: there is none, or SINK_PASSWORD"
                " is another; `etl prepare-sink` makes the login and gives it that password."
            )
        finally:
            self.schema = database
        kind = AirflowException if state.may_pass else AirflowFailException
        return kind(f"The sink {place} said: {state.words}")


@cache
def _settings(believed: str, name: str) -> str:
    """A file of settings for FreeTDS, which verifies only where it is given authorities; gone with the process."""
    lines = ["[global]"]
    if believed:
        lines.append(f"ca file = {believed}")
    if name:
        lines.append(f"certificate hostname = {name}")
    folder = Path(tempfile.mkdtemp(prefix="freetds-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "freetds.conf").write_text("\n".join([*lines, ""]))
    return str(folder / "freetds.conf")


def _check(connection: Any) -> None:
    """Raise AirflowFailException where the settings that the connection is made of cannot be read."""
    if refused := connection.extra_dejson.get("refused"):
        raise AirflowFailException(refused)


def _tell(doubt: str) -> None:
    if told := tls.describe_tls_warnings(doubt):
        log.warning(told)
