"""The driver of SQL Server, `mssql-python`, set up as steps, plan and reconcile need it; without other libraries."""

import os

import mssql_python
from mssql_python import Connection

from etl.config.connection_string import ConnectionString


def open_connection(
    connection_string: ConnectionString, ca_file: str, *, autocommit: bool, timeout: int = 0
) -> Connection:
    """Connect, by a token if an identity logs in. Raises the driver's errors.

    `ca_file`: authorities to believe beside the system's; empty if there are none.
    """
    # A pooled connection would keep its session, with locks and settings, after it is closed.
    mssql_python.pooling(enabled=False)
    if ca_file:
        # Both parts of the driver, for statements and for bulk copy, read this variable and the system's folder; its
        # own option for a file works for strict connections only.
        os.environ["SSL_CERT_FILE"] = ca_file
    text, identity = connection_string.get_secret_value(), connection_string.identity
    return mssql_python.connect(text, autocommit=autocommit, timeout=timeout, token_provider=identity)
