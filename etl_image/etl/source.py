"""The source: a Postgres that is read, in one snapshot, and never written."""

from collections.abc import Iterator
from contextlib import contextmanager

import adbc_driver_manager.dbapi as dbapi
import adbc_driver_postgresql.dbapi as postgres

from etl import source_sql
from etl.column_types import plain_name
from etl.errors import ConfigurationError, TryAgainError
from etl.logs import blot_out
from etl.pipeline import Pipeline
from etl.predicate import compared_columns
from etl.settings import Settings, place
from etl.step import Work

# SQLSTATE classes (PostgreSQL's Appendix A) that the same command would only meet again:
# wrong data type or value, no such table or column, no permission, syntax, password, database.
_CONFIGURATION = ("22", "28", "3D", "3F", "42")
_REFUSED = (
    "certificate verify failed", "does not support SSL", "does not exist",
    "password authentication failed", "no password supplied", "no pg_hba.conf entry", "does not match host name",
)  # fmt: skip


@contextmanager
def connect_source(work: Work) -> Iterator[postgres.Connection]:
    """Connect and begin one read-only snapshot. Raises ConfigurationError or TryAgainError."""
    url = work.settings.source().get_secret_value()
    try:
        connection = postgres.connect(url)
    except dbapi.Error as error:
        kind = ConfigurationError if any(words in str(error) for words in _REFUSED) else TryAgainError
        where = place(work.settings.source_url)
        words = server_words(error, work.settings)
        raise kind(f"{work}: cannot connect to the source {where}: {words}{_advice(error)}") from None
    try:
        with connection, connection.cursor() as cursor:
            # The driver begins a transaction with the first statement; this makes it one unchanging snapshot.
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            for statement in (*source_sql.SESSION, source_sql.ENCODING):
                cursor.execute(statement)
            yield connection
            connection.rollback()
    except dbapi.Error as error:
        kind = ConfigurationError if str(error.sqlstate or "").startswith(_CONFIGURATION) else TryAgainError
        raise kind(f"{work}: reading {work.pipeline.source} failed: {server_words(error, work.settings)}") from None


def check_source(pipeline: Pipeline, cursor: postgres.Cursor) -> None:
    """Compare the source table with the pipeline. Raises ConfigurationError naming the first column that differs."""
    cursor.execute(source_sql.describe_columns(pipeline.source))
    found = {name: (source_type, required) for name, source_type, required in cursor.fetchall()}
    if not found:
        raise ConfigurationError(f"{pipeline.name}: there is no table {pipeline.source} at the source.")
    compared = compared_columns(pipeline.predicate)
    for name, declared in pipeline.types.items():
        if name not in found:
            raise ConfigurationError(f"{pipeline.name}: {pipeline.source} has no column {name}.")
        source_type, required = found[name]
        if not declared.carries(source_type):
            raise ConfigurationError(
                f"{pipeline.name}: column {name} of {pipeline.source} is {source_type}, the pipeline says {declared}."
            )
        # It comes with the spaces that pad it, which Postgres does not compare.
        if name in compared and plain_name(source_type) == "char" and declared.name != "char":
            raise ConfigurationError(
                f"{pipeline.name}: column {name} of {pipeline.source} is {source_type}, the pipeline says {declared},"
                " and the filter would compare the spaces that pad it; declare it as it is, for example char(12)."
            )
        if name in (*pipeline.key, pipeline.version) and not required:
            raise ConfigurationError(
                f"{pipeline.name}: column {name} of {pipeline.source} may be null, so rows could be missed;"
                " make it NOT NULL at the source."
            )
    cursor.execute(source_sql.unique_indexes(pipeline.source))
    if not any(set(names) <= set(pipeline.key) for (names,) in cursor.fetchall()):
        raise ConfigurationError(
            f"{pipeline.name}: no unique index of {pipeline.source} covers {', '.join(pipeline.key)},"
            " so it does not identify a row; correct the key or add the index."
        )


def _advice(error: dbapi.Error) -> str:
    """What to do where the source is not who it should be."""
    if "certificate verify failed" in str(error):
        return " Name the authority that signed its certificate as SOURCE_CA_FILE."
    if "does not match host name" in str(error):
        return " Let SOURCE_URL name the host as its certificate does; hostaddr in it is where that is."
    return ""


def server_words(error: dbapi.Error, settings: Settings) -> str:
    """The server's own first line, without the driver's frame and without secrets."""
    text = blot_out(str(error), settings.secrets())  # before it is cut: half a secret is one, too
    return text.split("ERROR: ")[-1].split("failed: ")[-1].strip().splitlines()[0].strip()
