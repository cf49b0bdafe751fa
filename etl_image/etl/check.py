"""`etl check`: checks that the steps can use source, sink and staging, with one log line each.

Each is checked from the outside in, up to the first failure: DNS name, port, login, contents. Only a file in staging is
written, and removed again.
"""

import shutil
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress

import adbc_driver_manager.dbapi as dbapi
import adbc_driver_postgresql.dbapi as postgres
import mssql_python
import structlog
from pydantic import TypeAdapter, ValidationError

from etl.config import entra, urls
from etl.config.reach import REACH_SECONDS, UnreachableError, reach
from etl.config.settings import Settings, redacted_location
from etl.errors import ConfigurationError, EtlError, ExitCode
from etl.model.pipeline import Pipeline
from etl.model.table_name import SourceTable
from etl.postgres.connection import server_words
from etl.postgres.log_problems import log_problems, log_warnings
from etl.postgres.log_state import read_log_state
from etl.postgres.quoting import quote_table
from etl.sqlserver import checks as sink_checks
from etl.sqlserver import ledger
from etl.sqlserver import sql as sink_sql
from etl.sqlserver.connection import connect
from etl.sqlserver.errors import explain
from etl.sqlserver.sink import Sink
from etl.storage.staging import open_storage, storage_errors

_LOGIN = ("authentication failed", "no password supplied", "no pg_hba.conf entry", "role ")
_NEW_TRY_MAY_HELP = ("dns", "port", "connection", "recovering", "write", "silent", "endpoint")
_STAGING_BYTES = 65_536
_Answer = Mapping[str, object]
"""Further fields of the log line, if the check passes."""


class CheckFailedError(Exception):
    """A failed check: a machine-readable code, `problem`, and a message.

    Codes: settings, dns (no DNS server answers), name (it does not resolve), port (it does not answer), connection
    (another error of the server), endpoint (where tokens come from does not answer, or not now), token (it refuses
    one), login, database (missing, or not for the login), recovering (the database does not open), table (missing, or
    not readable), log (the source's write-ahead log cannot be read), unprepared (`etl prepare-sink` has not run),
    write, silent (no answer in time).
    """

    def __init__(self, problem: str, words: str) -> None:
        super().__init__(words)
        self.problem = problem


def check(
    settings: Settings,
    wanted: Sequence[str],
    tables: Sequence[str],
    seconds: float,
    pipelines: Sequence[Pipeline] = (),
) -> ExitCode:
    """Run the `wanted` checks in parallel, and log a line for each; returns the exit code.

    `tables` have to be readable at the source, and so has the log for those of `pipelines` that read it; for their sink
    tables missing indexes are logged.
    """
    checks: dict[str, Callable[[], _Answer]] = {
        "source": lambda: _source(settings, tables, pipelines),
        "sink": lambda: _sink(settings, pipelines),
        "staging": lambda: _staging(settings),
    }
    unknown = [name for name in wanted if name not in checks]
    if unknown:
        raise ConfigurationError(f"{', '.join(unknown)} cannot be checked; give some of {', '.join(checks)}, or none.")
    found: dict[str, _Answer | CheckFailedError] = {}
    names = wanted or list(checks)
    threads = [threading.Thread(target=_run, args=(name, checks[name], found), daemon=True) for name in names]
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    silent = CheckFailedError("silent", f"no answer within {seconds:g} s.")
    problems = [_log(name, _where(settings, name), found.get(name, silent)) for name in names]
    if not any(problems):
        return ExitCode.OK
    lasting = any(problem and problem not in _NEW_TRY_MAY_HELP for problem in problems)
    return ExitCode.CONFIGURATION if lasting else ExitCode.TRY_AGAIN


def _run(name: str, run: Callable[[], _Answer], found: dict[str, _Answer | CheckFailedError]) -> None:
    try:
        found[name] = run()
    except CheckFailedError as error:
        found[name] = error
    except UnreachableError as error:
        found[name] = CheckFailedError(error.problem, str(error))
    except (entra.NoTokenNowError, entra.TokenRefusedError) as error:
        found[name] = CheckFailedError(error.problem, str(error))
    except EtlError as error:
        found[name] = CheckFailedError("settings", str(error))
    except Exception as error:  # of any driver: the other checks are logged nevertheless
        found[name] = CheckFailedError("connection", f"{type(error).__name__}: {error}")


def _log(name: str, where: str, found: _Answer | CheckFailedError) -> str:
    """Log the result of a check; returns the problem, empty if it passed."""
    log = structlog.get_logger()
    about = f"{name} {where}".rstrip()
    if not isinstance(found, CheckFailedError):
        log.info(f"{about}: well", **_for_programs(check=name, where=where, problem="", words=""), **found)
        return ""
    fields = _for_programs(check=name, where=where, problem=found.problem, words=str(found))
    log.error(f"{about}: {found}", **fields)
    return found.problem


def _for_programs(**fields: str) -> dict[str, str]:
    """Fields of the JSON line that repeat the sentence; none on a terminal."""
    return {} if sys.stderr.isatty() else fields


def _where(settings: Settings, name: str) -> str:
    """The location of source, sink or staging, for the log; empty if it is not set, or if its URL is refused."""
    if name != "staging":
        return redacted_location(settings.source_url if name == "source" else settings.sink_url)
    with suppress(ConfigurationError):
        urls.check_storage("STAGING_URL", settings.staging_url)
        return settings.staging_url
    return ""


def _source(settings: Settings, tables: Sequence[str], pipelines: Sequence[Pipeline]) -> _Answer:
    with _connected(settings) as cursor:
        for name in tables:
            try:
                table = TypeAdapter(SourceTable).validate_python(name)
                cursor.execute(f"SELECT 1 FROM {quote_table(table)} LIMIT 0")
            except dbapi.Error as error:
                raise CheckFailedError("table", f"{name} cannot be read: {server_words(error, settings)}") from None
            except ValidationError:
                raise CheckFailedError("table", f"{name} is no name of a table, such as public.orders.") from None
        advice = [each for pipeline in pipelines if pipeline.is_log for each in _log_advice(pipeline, cursor)]
    return {"advice": advice} if advice else {}


def _log_advice(pipeline: Pipeline, cursor: postgres.Cursor) -> list[str]:
    """Advice on reading the source's log. Raises CheckFailedError if a run could not read it."""
    state = read_log_state(pipeline, cursor)
    if problems := log_problems(pipeline, state):
        raise CheckFailedError("log", " ".join(problems))
    return log_warnings(pipeline, state)


@contextmanager
def _connected(settings: Settings) -> Iterator[postgres.Cursor]:
    url = settings.source(connect_timeout=str(REACH_SECONDS))
    reach(settings.source_addresses())
    try:
        connection = postgres.connect(url.get_secret_value(), autocommit=True)
    except dbapi.Error as error:
        words = server_words(error, settings)
        missing = "database " in words and "does not exist" in words
        login = any(sign in words for sign in _LOGIN)
        raise CheckFailedError("database" if missing else "login" if login else "connection", words) from None
    try:
        with connection, connection.cursor() as cursor:
            yield cursor
    except dbapi.Error as error:
        raise CheckFailedError("connection", server_words(error, settings)) from None


def _sink(settings: Settings, pipelines: Sequence[Pipeline]) -> _Answer:
    connection_string = settings.sink()
    reach([settings.sink_address()])
    try:
        with closing(connect(settings, connection_string, autocommit=True, timeout=REACH_SECONDS)) as connection:
            connection.timeout = REACH_SECONDS
            sink = Sink(connection)
            _check_prepared(sink, reads_log=any(pipeline.is_log for pipeline in pipelines))
            advice = [_index_advice(sink, sink_sql.sink_table(pipeline)) for pipeline in pipelines]
    except (mssql_python.Error, RuntimeError) as error:
        answer = explain(error, settings.secrets())
        raise CheckFailedError(answer.problem, answer.words) from None
    return {"advice": list(filter(None, advice))} if any(advice) else {}


def _index_advice(sink: Sink, table: sink_sql.Table) -> str:
    """Advice on a missing index of an existing sink table; the first load creates a missing table."""
    return sink_checks.index_advice(table, sink.indexes(table.name)) if sink.exists(table.name) else ""


def _check_prepared(sink: Sink, *, reads_log: bool) -> None:
    """Check what every load needs in the sink. Raises CheckFailedError, or the server's error for a missing grant."""
    needed = ledger.tables_of_loads(reads_log=reads_log)
    missing = [str(table.name) for table in needed if not sink.exists(table.name)]
    missing += [f"columns {', '.join(names)} of {table.name}" for table, names in sink.lacking_columns()]
    if not sink.has_schema(sink_sql.STAGING):
        missing.append(f"schema {sink_sql.STAGING}")
    if missing:
        raise CheckFailedError("unprepared", f"it lacks {', '.join(missing)}.")
    sink.value(sink_sql.count_rows(ledger.WATERMARK))


def _staging(settings: Settings) -> _Answer:
    filesystem, root = open_storage("STAGING_URL", settings.staging_url)
    name, is_local = f"{root.rstrip('/')}/.check-{uuid.uuid4().hex}", "file" in filesystem.protocol
    try:
        with storage_errors("written"):
            if is_local:  # as the steps do
                filesystem.makedirs(root, exist_ok=True)
            try:
                filesystem.pipe_file(name, bytes(_STAGING_BYTES))
            finally:
                if filesystem.exists(name):
                    filesystem.rm(name)
    except (EtlError, FileNotFoundError) as error:
        raise CheckFailedError("write", str(error)) from None
    if not is_local:
        return {}
    usage = shutil.disk_usage(root)
    return {"free_bytes": usage.free, "size_bytes": usage.total}
