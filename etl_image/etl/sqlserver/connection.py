"""Connection to the sink: SQL Server through `mssql-python`."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

import mssql_python
from mssql_python import Connection

from etl.config import entra
from etl.config.connection_string import ConnectionString
from etl.config.reach import UnreachableError, reach
from etl.config.settings import Settings, redacted_location
from etl.errors import EtlError, TryAgainError
from etl.model.masking import Mask
from etl.model.pipeline import Pipeline
from etl.sqlserver import errors as sink_errors
from etl.sqlserver import state as sink_state
from etl.sqlserver.driver import open_connection
from etl.sqlserver.sink import Sink
from etl.sqlserver.sql import session_of_load
from etl.sqlserver.state import State

_MASTER = "master"
# Row counts would include those of triggers: statements select @@ROWCOUNT instead.
_SESSION = "SET NOCOUNT ON; SET LANGUAGE us_english"


def connect(
    settings: Settings, connection_string: ConnectionString, *, autocommit: bool, timeout: int = 0
) -> Connection:
    """Connect, with the CA file of the settings; `timeout` in seconds, 0 is the driver's default.

    Raises UnreachableError if the port does not answer (the driver's error does not name the host), NotOpenError, or
    the driver's errors.
    """
    ca_file = str(settings.sink_ca_file or "")
    try:
        return open_connection(connection_string, ca_file, autocommit=autocommit, timeout=timeout)
    except (mssql_python.Error, RuntimeError) as error:
        if entra.cause_of(error):
            raise
        if "[SQL Server]" not in str(error):  # then the server answered
            reach([settings.sink_address()])
        # The driver's error is the same for a wrong password and for a database that does not open.
        database = connection_string.database
        if not sink_errors.is_refusal(error) or database in ("", _MASTER):
            raise
        state = _state(database, connection_string.in_database(_MASTER), error, timeout)
    raise sink_errors.NotOpenError(state)


def _state(database: str, in_master: ConnectionString, refusal: Exception, timeout: int) -> State:
    """The state of a database as master has it, read by the same login. Raises the refusal if master refuses it too."""
    try:
        with closing(open_connection(in_master, "", autocommit=True, timeout=timeout)) as connection:
            found = Sink(connection).rows(sink_state.query(database))
    except mssql_python.Error as error:
        raise (refusal if sink_errors.is_refusal(error) else error) from None
    return sink_state.read(database, found[0] if found else None)


@contextmanager
def connect_sink(settings: Settings, pipeline: Pipeline, about: str) -> Iterator[Sink]:
    """Connect to the sink.

    Raises ConfigurationError, DataError or TryAgainError. `about`, pipeline and partition, begins their messages.
    """
    with _connected(settings, settings.sink(), about, autocommit=False, mask=settings.mask(pipeline)) as sink:
        sink.execute(session_of_load(settings.sink_lock_timeout))
        yield sink


@contextmanager
def connect_to_prepare(
    settings: Settings,
    connection_string: ConnectionString | None = None,
    *,
    database: str = "",
    about: str = "prepare-sink",
    autocommit: bool = True,
    mask: Mask | None = None,
) -> Iterator[Sink]:
    """Connect to master or a `database`: as the administrator, or by another connection string.

    Statements commit at once, unless `autocommit` is off. `about`, the command, begins messages. Raises
    ConfigurationError or TryAgainError for errors of the server.
    """
    connection_string = connection_string or settings.sink_admin()
    if database:
        connection_string = connection_string.in_database(database)
    with _connected(settings, connection_string, about, autocommit=autocommit, mask=mask) as sink:
        yield sink


@contextmanager
def _connected(
    settings: Settings, connection_string: ConnectionString, about: str, *, autocommit: bool, mask: Mask | None = None
) -> Iterator[Sink]:
    try:
        connection = connect(settings, connection_string, autocommit=autocommit)
        try:
            sink = Sink(connection)
            sink.execute(_SESSION)
            yield sink
        finally:
            connection.close()
    except UnreachableError as error:
        raise TryAgainError(
            f"{about}: the sink {redacted_location(settings.sink_url)} cannot be reached: {error}"
        ) from None
    except (mssql_python.Error, RuntimeError) as error:
        raise translate_error(error, about, settings, mask) from None


def translate_error(error: Exception, about: str, settings: Settings, mask: Mask | None = None) -> EtlError:
    """An error of the server as an EtlError, with the server's message, redacted and without sensitive values."""
    if refused := entra.cause_of(error):
        return type(refused)(f"{about}: {refused}")
    answer = sink_errors.explain(error, settings.secrets(), mask)
    return answer.kind(f"{about}: the sink {redacted_location(settings.sink_url)} said: {answer.words}")
