"""Logins of `plan` and `reconcile` by tokens of Entra ID, which only the driver of the steps can do at the sink.

The Airflow image has it, and the library that gets tokens, with the extra `entra` only: they are imported when needed.
"""

from importlib.util import find_spec
from typing import Any

from airflow.providers.common.compat.sdk import AirflowException
from airflow.sdk.exceptions import AirflowFailException
from airflow.sdk.log import mask_secret
from etl.config.connection_string import ConnectionString
from etl.config.entra import SOURCE_SCOPE, Identity, cause_of, check_source, issued
from etl.errors import ConfigurationError, EtlError

_FIELDS = ("client_id", "tenant", "secret")
_DRIVER = "mssql_python"


def take_identity(extra: dict[str, Any]) -> Identity | None:
    """Remove the identity from the extra of a connection; None if the login is by a password.

    Raises AirflowFailException if this image has not what a login by a token needs.
    """
    found = {name: str(extra.pop(f"entra_{name}")) for name in _FIELDS if f"entra_{name}" in extra}
    if found and find_spec(_DRIVER) is None:
        raise AirflowFailException(
            "This image of Airflow cannot log in by tokens of Entra ID: scripts/apply-all.sh builds one that can where"
            " SINK_AUTH or SOURCE_AUTH in the ConfigMap etl-connections says so; docs/operations.md, Logins of Entra"
            " ID, has the arguments of a build by hand."
        )
    return Identity(**found) if found else None


def source_password(identity: Identity, warning: str) -> str:
    """A token, which Azure's Postgres takes as the password. Raises AirflowException, also for a warning about TLS."""
    try:
        check_source(warning)
        token = str(identity.get_token(SOURCE_SCOPE).token)
    except EtlError as error:
        raise _as_airflow(error, f"The source: {error}") from None
    mask_secret(token)
    return token


def connect_sink(odbc: str, identity: Identity, ca_file: str, location: str) -> Any:
    """Connect. Raises AirflowFailException for a refused token or login, AirflowException for another reason."""
    import mssql_python
    from etl.sqlserver.driver import open_connection
    from etl.sqlserver.errors import explain

    try:
        own_file = "" if ca_file == "system" else ca_file
        connection = open_connection(ConnectionString(odbc, identity), own_file, autocommit=False)
        with connection.cursor() as cursor:
            cursor.execute("SET LANGUAGE us_english")
    except (mssql_python.Error, RuntimeError) as error:
        answer = explain(error, [*filter(None, [identity.secret]), *issued()])
        said = "" if cause_of(error) else " said"
        raise _as_airflow(answer.kind(""), f"The sink {location}{said}: {answer.words}") from None
    return connection


def _as_airflow(error: EtlError, text: str) -> AirflowException:
    return AirflowFailException(text) if isinstance(error, ConfigurationError) else AirflowException(text)
