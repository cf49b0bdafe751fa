"""`etl check`: whether source, sink and staging are there for the steps, each told in one line.

Each is looked at from the outside in, and what is told is the first thing that is wrong: its name, its port, the login,
what is in it. Nothing is changed but a file in staging, which is removed again.
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

from etl.config import urls
from etl.config.reach import REACH_SECONDS, UnreachableError, reach
from etl.config.settings import Settings, place
from etl.errors import ConfigurationError, EtlError, ExitCode
from etl.model.pipeline import Pipeline, SourceTable
from etl.postgres import sql as source_sql
from etl.postgres.connection import server_words
from etl.sqlserver import checks as sink_checks
from etl.sqlserver import ledger
from etl.sqlserver import sql as sink_sql
from etl.sqlserver.connection import Sink, connect
from etl.sqlserver.errors import explain
from etl.storage.staging import open_storage, told

_LOGIN = ("authentication failed", "no password supplied", "no pg_hba.conf entry", "role ")
_NEW_TRY_MAY_HELP = ("dns", "port", "connection", "recovering", "write", "silent")
_STAGING_BYTES = 65_536
_Answer = Mapping[str, object]
"""What else there is to tell of something that is well."""


class NotWellError(Exception):
    """What is wrong: `problem` is one word for programs, the text is for people.

    settings, dns (nobody answers for names), name (there is no such name), port (nobody answers there), connection
    (something else does), login, database (there is none of that name, or it is not for the login), recovering (the
    database is there and does not open), table (it is not there or may not be read), unprepared (what `etl
    prepare-sink` makes is not there), write, silent (no answer in time).
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
    """Look at those that are wanted, all at once, and log a line for each; returns the exit code.

    `tables` have to be readable at the source; of the sink tables of `pipelines` it is told which lack an index.
    """
    looks: dict[str, Callable[[], _Answer]] = {
        "source": lambda: _source(settings, tables),
        "sink": lambda: _sink(settings, pipelines),
        "staging": lambda: _staging(settings),
    }
    unknown = [name for name in wanted if name not in looks]
    if unknown:
        raise ConfigurationError(f"{', '.join(unknown)} cannot be checked; give some of {', '.join(looks)}, or none.")
    found: dict[str, _Answer | NotWellError] = {}
    names = wanted or list(looks)
    threads = [threading.Thread(target=_look, args=(name, looks[name], found), daemon=True) for name in names]
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    silent = NotWellError("silent", f"no answer within {seconds:g} s.")
    problems = [_tell(name, _where(settings, name), found.get(name, silent)) for name in names]
    if not any(problems):
        return ExitCode.OK
    lasting = any(problem and problem not in _NEW_TRY_MAY_HELP for problem in problems)
    return ExitCode.CONFIGURATION if lasting else ExitCode.TRY_AGAIN


def _look(name: str, look: Callable[[], _Answer], found: dict[str, _Answer | NotWellError]) -> None:
    try:
        found[name] = look()
    except NotWellError as error:
        found[name] = error
    except UnreachableError as error:
        found[name] = NotWellError(error.problem, str(error))
    except EtlError as error:
        found[name] = NotWellError("settings", str(error))
    except Exception as error:  # whatever a driver raises: the others are told all the same
        found[name] = NotWellError("connection", f"{type(error).__name__}: {error}")


def _tell(name: str, where: str, found: _Answer | NotWellError) -> str:
    """Log what was found; returns the problem, nothing where all is well."""
    log = structlog.get_logger()
    about = f"{name} {where}".rstrip()
    if not isinstance(found, NotWellError):
        log.info(f"{about}: well", **_for_programs(check=name, where=where, problem="", words=""), **found)
        return ""
    fields = _for_programs(check=name, where=where, problem=found.problem, words=str(found))
    log.error(f"{about}: {found}", **fields)
    return found.problem


def _for_programs(**fields: str) -> dict[str, str]:
    """Fields of the JSON line that repeat the sentence; none on a terminal, where the sentence is enough."""
    return {} if sys.stderr.isatty() else fields


def _where(settings: Settings, name: str) -> str:
    """The place of an end; empty where it is not set, or its URL cannot be shown."""
    if name != "staging":
        return place(settings.source_url if name == "source" else settings.sink_url)
    with suppress(ConfigurationError):
        urls.check_storage("STAGING_URL", settings.staging_url)
        return settings.staging_url
    return ""


def _source(settings: Settings, tables: Sequence[str]) -> _Answer:
    with _connected(settings) as cursor:
        for name in tables:
            try:
                table = TypeAdapter(SourceTable).validate_python(name)
                cursor.execute(f"SELECT 1 FROM {source_sql.quote_table(table)} LIMIT 0")
            except dbapi.Error as error:
                raise NotWellError("table", f"{name} cannot be read: {server_words(error, settings)}") from None
            except ValidationError:
                raise NotWellError("table", f"{name} is no name of a table, such as public.orders.") from None
    return {}


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
        raise NotWellError("database" if missing else "login" if login else "connection", words) from None
    try:
        with connection, connection.cursor() as cursor:
            yield cursor
    except dbapi.Error as error:
        raise NotWellError("connection", server_words(error, settings)) from None


def _sink(settings: Settings, pipelines: Sequence[Pipeline]) -> _Answer:
    connection_string = settings.sink()
    reach([settings.sink_address()])
    try:
        with closing(connect(settings, connection_string, autocommit=True, timeout=REACH_SECONDS)) as connection:
            connection.timeout = REACH_SECONDS
            sink = Sink(connection)
            _check_prepared(sink)
            advice = [_index_advice(sink, sink_sql.sink_table(pipeline)) for pipeline in pipelines]
    except (mssql_python.Error, RuntimeError) as error:
        answer = explain(error, settings.secrets())
        raise NotWellError(answer.problem, answer.words) from None
    return {"advice": list(filter(None, advice))} if any(advice) else {}


def _index_advice(sink: Sink, table: sink_sql.Table) -> str:
    """What a sink table lacks that is there; the first load makes one that is not."""
    return sink_checks.index_advice(table, sink.indexes(table.name)) if sink.exists(table.name) else ""


def _check_prepared(sink: Sink) -> None:
    """What every load needs, whatever its pipeline. Raises NotWellError, or what the server says of a missing grant."""
    missing = [str(table.name) for table in ledger.tables() if not sink.exists(table.name)]
    if sink.value(f"SELECT SCHEMA_ID({sink_sql.quote_text(sink_sql.STAGING)})") is None:
        missing.append(f"schema {sink_sql.STAGING}")
    if missing:
        raise NotWellError("unprepared", f"it lacks {', '.join(missing)}.")
    sink.value(sink_sql.count_rows(ledger.WATERMARK))


def _staging(settings: Settings) -> _Answer:
    filesystem, root = open_storage("STAGING_URL", settings.staging_url)
    name, is_local = f"{root.rstrip('/')}/.check-{uuid.uuid4().hex}", "file" in filesystem.protocol
    try:
        with told("written"):
            if is_local:  # as a step would
                filesystem.makedirs(root, exist_ok=True)
            try:
                filesystem.pipe_file(name, bytes(_STAGING_BYTES))
            finally:
                if filesystem.exists(name):
                    filesystem.rm(name)
    except (EtlError, FileNotFoundError) as error:
        raise NotWellError("write", str(error)) from None
    if not is_local:
        return {}
    usage = shutil.disk_usage(root)
    return {"free_bytes": usage.free, "size_bytes": usage.total}
