"""Connection to the source: a Postgres that is read in one snapshot and never written."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import adbc_driver_manager.dbapi as dbapi
import adbc_driver_postgresql.dbapi as postgres

from etl.config.settings import Settings, redacted_location
from etl.errors import ConfigurationError, TryAgainError
from etl.logs import redact
from etl.model.pipeline import Pipeline
from etl.postgres import sql as source_sql

# SQLSTATE classes (PostgreSQL's Appendix A) that a retry does not resolve:
# wrong data type or value, no such table or column, no permission, syntax, password, database.
_CONFIGURATION = ("22", "28", "3D", "3F", "42")
_REFUSED = (
    "certificate verify failed", "does not support SSL", "does not exist",
    "password authentication failed", "no password supplied", "no pg_hba.conf entry", "does not match host name",
)  # fmt: skip


@contextmanager
def connect_source(settings: Settings, pipeline: Pipeline, about: str) -> Iterator[postgres.Connection]:
    """Connect and begin one read-only snapshot.

    Raises ConfigurationError or TryAgainError. `about`, pipeline and partition, begins their messages.
    """
    with snapshot(settings, about, f"reading {pipeline.source}", settings.mask(pipeline).words) as connection:
        yield connection


@contextmanager
def snapshot(
    settings: Settings, about: str, doing: str, cleaned: Callable[[str], str] = str
) -> Iterator[postgres.Connection]:
    """Connect and begin one read-only snapshot; `doing` and the `cleaned` words of the server are in messages.

    Raises ConfigurationError or TryAgainError.
    """
    url = settings.source().get_secret_value()
    try:
        connection = postgres.connect(url)
    except dbapi.Error as error:
        kind = ConfigurationError if any(words in str(error) for words in _REFUSED) else TryAgainError
        where = redacted_location(settings.source_url)
        words = server_words(error, settings)
        raise kind(f"{about}: cannot connect to the source {where}: {words}{_advice(error)}") from None
    try:
        with _closing(connection), connection.cursor() as cursor:
            # The driver begins a transaction with the first statement; this makes it one unchanging snapshot.
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            for statement in (*source_sql.SESSION, source_sql.ENCODING):
                cursor.execute(statement)
            yield connection
    except dbapi.Error as error:
        kind = ConfigurationError if str(error.sqlstate or "").startswith(_CONFIGURATION) else TryAgainError
        raise kind(f"{about}: {doing} failed: {cleaned(server_words(error, settings))}") from None


@contextmanager
def _closing(connection: postgres.Connection) -> Iterator[None]:
    """End the transaction and close the connection after the block.

    Errors of that are suppressed: the rows have been read, or the block's own error is the one to show.
    """
    try:
        yield
    finally:
        for end in (connection.rollback, connection.close):
            with suppress(dbapi.Error):
                end()


def _advice(error: dbapi.Error) -> str:
    """Advice on TLS that could not be used; empty for other errors."""
    if "certificate verify failed" in str(error):
        return ". Name the authority that signed its certificate as SOURCE_CA_FILE."
    if "does not match host name" in str(error):
        return ". Let SOURCE_URL name the host as its certificate does; hostaddr in it is where that is."
    if "does not support SSL" in str(error):
        return (
            ". Without TLS at the source, add ?sslmode=disable to SOURCE_URL; with a certificate that cannot be"
            " verified, ?sslmode=require."
        )
    return ""


def server_words(error: dbapi.Error, settings: Settings) -> str:
    """The first line of the server's message, without the driver's prefix, redacted."""
    text = redact(str(error), settings.secrets())  # before it is cut: half a secret would not be found
    return text.split("ERROR: ")[-1].split("failed: ")[-1].strip().splitlines()[0].strip()
