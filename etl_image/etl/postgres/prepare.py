"""`etl prepare-source`: statements that let pipelines read the source's write-ahead log, printed or executed.

It may be repeated at any time: only what is missing or wrong is changed.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import adbc_driver_manager.dbapi as dbapi
import adbc_driver_postgresql.dbapi as postgres
import structlog

from etl.config.settings import Settings
from etl.errors import ConfigurationError, TryAgainError, printable
from etl.model.pipeline import Pipeline
from etl.postgres import log_problems as checks
from etl.postgres import log_state_sql, prepare_sql, prepare_steps
from etl.postgres.connection import server_words
from etl.postgres.log_state import LogState, read_log_state, rows
from etl.postgres.prepare_steps import Step

_CONFIGURATION = ("22", "28", "3D", "3F", "42")
"""Classes of SQLSTATE that a retry does not resolve."""


def prepare_source(
    settings: Settings, pipelines: Sequence[Pipeline], *, undo: bool, execute: bool, wait_seconds: float
) -> None:
    """Print the statements for pipelines that read the log, or execute them as the source's administrator.

    `undo`: those that take all back, of every pipeline, for one may have gone back to versions. `wait_seconds`: how
    long a statement waits for locks and for open transactions. Raises ConfigurationError or TryAgainError.
    """
    wanted = [pipeline for pipeline in pipelines if undo or pipeline.is_log]
    if not wanted:
        structlog.get_logger().info('prepare-source: no pipeline has capture="log", so there is nothing to prepare.')
    for pipeline in wanted:
        with _connected(settings, pipeline, as_admin=execute) as cursor:
            for setting in prepare_sql.limit_waits(wait_seconds):
                cursor.execute(setting)
            if execute:
                _execute(settings, pipeline, cursor, undo=undo, wait_seconds=wait_seconds)
            else:
                state = read_log_state(pipeline, cursor, settings.source_user())
                steps = _steps(pipeline, state, undo=undo)
                sys.stdout.write("\n".join(_script(pipeline, state, steps, undo, wait_seconds)) + "\n")


def _steps(pipeline: Pipeline, state: LogState, *, undo: bool) -> list[Step]:
    make = prepare_steps.steps_to_undo if undo else prepare_steps.steps_to_prepare
    return make(pipeline, state)


def _execute(
    settings: Settings, pipeline: Pipeline, cursor: postgres.Cursor, *, undo: bool, wait_seconds: float
) -> None:
    log, role = structlog.get_logger(), settings.source_user()
    if role is None:
        raise ConfigurationError("SOURCE_URL names no user; name the role that reads the source.")
    state = read_log_state(pipeline, cursor, role)
    steps = _steps(pipeline, state, undo=undo)
    if not undo and state.server.wal_level != "logical":
        # Before anything is changed: a publication would already be there, and a slot could not be made.
        raise ConfigurationError(checks.log_problems(pipeline, state)[0])
    for step in steps:
        _run(settings, pipeline, cursor, step, wait_seconds)
        log.info(f"prepare-source: {step.why}", pipeline=pipeline.name, statement=step.statement)
    after = read_log_state(pipeline, cursor, role)
    remaining = [] if undo else checks.log_problems(pipeline, after)
    if remaining:
        raise ConfigurationError(" ".join(remaining))
    for remark in _remarks(pipeline, after, state, undo=undo):
        log.warning(f"prepare-source: {remark}")
    ready = "slot and publication are gone" if undo else "runs can read the log of its source"
    log.info(f"prepare-source: {pipeline.name}: {ready}", done=[step.statement for step in steps])


def _run(settings: Settings, pipeline: Pipeline, cursor: postgres.Cursor, step: Step, wait_seconds: float) -> None:
    try:
        cursor.execute(step.statement)
        if step.statement.startswith("SELECT"):
            cursor.fetchall()
    except dbapi.Error as error:
        words = server_words(error, settings)
        kind = ConfigurationError if str(error.sqlstate or "").startswith(_CONFIGURATION) else TryAgainError
        advice = ""
        if step.waits and kind is TryAgainError:
            advice = f" It waits for up to {wait_seconds:g} s {step.waits}{_open(cursor)}. Try again, or with --wait."
        raise kind(f"{pipeline.name}: {step.statement}: {words}.{advice}") from None


def _open(cursor: postgres.Cursor) -> str:
    """The oldest transactions that have written, as a part of a sentence; empty if there is none."""
    try:
        found = rows(cursor, log_state_sql.OPEN_TRANSACTIONS)
    except dbapi.Error:
        return ""
    named = (
        f"process {pid} of {printable(user)}{f' ({printable(application)})' if application else ''} for {seconds} s"
        for pid, user, application, seconds in found
    )
    return f"; open are {', '.join(named)}" if found else ""


def _script(
    pipeline: Pipeline, state: LogState, steps: Sequence[Step], undo: bool, wait_seconds: float
) -> Iterator[str]:
    """The statements with their reasons, for psql."""
    database = printable(state.server.database)
    yield f"-- Pipeline {pipeline.name}: {printable(pipeline.source)} in the database {database}."
    if not undo and state.server.wal_level != "logical":
        yield from _set_wal_level(state)
    if not steps:
        yield f"-- {'Nothing is there to take back' if undo else 'Nothing else is missing'}."
    else:
        yield "-- For psql, as a superuser or as the table's owner with the rights to do so; not in one transaction."
        yield from (f"{setting};" for setting in prepare_sql.limit_waits(wait_seconds))
    for step in steps:
        yield f"-- {step.why}"
        if step.waits:
            yield f"-- It waits for up to {wait_seconds:g} s {step.waits}: if it fails, run it again."
        yield f"{step.statement};"
    yield from (f"-- {remark}" for remark in _remarks(pipeline, state, state, undo=undo))


def _set_wal_level(state: LogState) -> Iterator[str]:
    yield f"-- First: wal_level is {state.server.wal_level}, and a restart is needed for another."
    if managed := checks.LOGICAL.get(state.server.managed):
        yield f"-- At this service: {managed}."
    else:
        yield "ALTER SYSTEM SET wal_level = 'logical';"
        yield "-- Now restart Postgres, then run what follows."


def _remarks(pipeline: Pipeline, state: LogState, before: LogState, *, undo: bool) -> list[str]:
    """Remarks on what no statement does, as sentences; `before`: the state in which an undo began."""
    if not undo:
        return checks.log_warnings(pipeline, state)
    found = [
        f"{table.name} keeps REPLICA IDENTITY FULL: another publication has it, or it was so before."
        for table in prepare_steps.kept_identities(before)
    ]
    if before.publication and not prepare_steps.is_own(before.publication):
        found.append(f"The publication {pipeline.publication_name} stays: `etl prepare-source` did not make it.")
    if before.role and before.role.reads_log:
        found.append(f"The role {printable(before.role.name)} keeps its rights; other pipelines may need them.")
    return found


@contextmanager
def _connected(settings: Settings, pipeline: Pipeline, *, as_admin: bool) -> Iterator[postgres.Cursor]:
    """A cursor of a session in which each statement is a transaction. Raises ConfigurationError or TryAgainError."""
    url = (settings.source_admin() if as_admin else settings.source()).get_secret_value()
    try:
        connection = postgres.connect(url, autocommit=True)
    except dbapi.Error as error:
        who = f" as {settings.source_admin_user} (SOURCE_ADMIN_USER, SOURCE_ADMIN_PASSWORD)" if as_admin else ""
        words = server_words(error, settings)
        raise ConfigurationError(f"{pipeline.name}: cannot connect to the source{who}: {words}.") from None
    try:
        with connection, connection.cursor() as cursor:
            yield cursor
    except dbapi.Error as error:
        raise TryAgainError(f"{pipeline.name}: asking the source failed: {server_words(error, settings)}.") from None
