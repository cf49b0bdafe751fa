"""`etl prepare-sink`: what the pipelines need in SQL Server before the first load, made by its administrator.

It may be repeated at any time: what is there and right is left alone. Another password becomes the login's. The
exporter and backups have logins of their own where these have passwords.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import structlog

from etl.config.settings import Settings
from etl.config.sink_logins import BACKUP, EXPORTER, SinkLogin
from etl.errors import ConfigurationError, EtlError
from etl.model.pipeline import Pipeline
from etl.sqlserver import checks as sink_checks
from etl.sqlserver import ledger, prepare_sql
from etl.sqlserver import sql as sink_sql
from etl.sqlserver.connection import Sink, connect_to_prepare

_PAUSE_SECONDS = 2


def prepare_sink(settings: Settings, pipelines: Sequence[Pipeline] = (), wait_seconds: float = 0) -> list[str]:
    """Make database, logins, users, roles, schemas, ledger and grants; returns what was missing or wrong.

    Where `pipelines` are named their tables are made too, and the loader may then create no others.
    Raises ConfigurationError or TryAgainError.
    """
    log = structlog.get_logger()
    loader, *others = settings.sink_logins()
    _wait_for_server(settings, wait_seconds)
    with _prepared(settings, [loader, *others]) as (sink, done):
        done += _prepare_database(sink, pipelines)
    told = {"others": [login.user for login in others]} if others else {}
    log.info("prepare-sink: the login can connect, and may do what loads need", login=loader.user, **told, done=done)
    return done


def prepare_logins(settings: Settings) -> list[str]:
    """Make the logins, and tie their users to them, as in a database that was restored; returns what was not so.

    What the loader may do is in the database. Raises ConfigurationError or TryAgainError.
    """
    with _prepared(settings, settings.sink_logins()) as (_, done):
        return done


@contextmanager
def _prepared(settings: Settings, logins: Sequence[SinkLogin]) -> Iterator[tuple[Sink, list[str]]]:
    """Make the database and the logins; yields a connection to the database, and what was done.

    Afterwards grants the logins beside the loader what they may do, and tries whether all can connect.
    """
    # Each in its database, for Azure SQL Database has no USE, and logins in master alone.
    with connect_to_prepare(settings) as server:
        is_azure = server.value(prepare_sql.EDITION) == prepare_sql.AZURE_SQL_DATABASE
        if is_azure and any(login.role == BACKUP for login in logins):
            raise ConfigurationError(
                "SINK_BACKUP_PASSWORD is set, and an Azure SQL Database keeps backups itself: unset it."
            )
        done = [*_prepare_server(server, logins[0])]
        with connect_to_prepare(settings, database=logins[0].database) as sink:
            for login in logins:
                done += _prepare_login(server, sink, login)
                sid = server.value(prepare_sql.FIND_SID_OF_LOGIN, login.user)
                done += _prepare_principals(sink, login, sid)
            yield sink, done
            _grant_others(server, sink, logins, settings.sink_exporter_counters)
    for login in logins:  # it could be disabled, or locked out
        with connect_to_prepare(settings, settings.sink_as(login)):
            pass


def _wait_for_server(settings: Settings, seconds: float) -> None:
    """Return once the administrator can log in. Raises what the server last said when the time is up."""
    settings.sink_admin()  # what is wrong in the settings is told at once
    deadline = time.monotonic() + seconds
    told = ""
    while True:
        try:
            with connect_to_prepare(settings):
                return
        except EtlError as error:
            # Also a refused login: on its way up, a server does not know its administrator's password yet.
            if time.monotonic() >= deadline:
                raise
            if str(error) != told:
                told = str(error)
                structlog.get_logger().info(f"{told} Trying again for up to {seconds:g} s.")
        time.sleep(_PAUSE_SECONDS)


def _prepare_server(sink: Sink, login: SinkLogin) -> Iterator[str]:
    """The database; yields what it did."""
    found = sink.rows(prepare_sql.FIND_DATABASE, login.database)
    is_managed = sink.value(prepare_sql.EDITION) in prepare_sql.MANAGED
    if not found:
        for statement in prepare_sql.create_database(login.database, is_managed=is_managed):
            sink.execute(statement)
        yield f"created database {login.database}"
    else:
        reads_snapshots, closes, recovery = found[0]
        _tell_options(login.database, reads_snapshots, closes and not is_managed, "SIMPLE" if is_managed else recovery)


def _prepare_login(server: Sink, sink: Sink, login: SinkLogin) -> Iterator[str]:
    """The login; yields what it did."""
    matches = server.rows(prepare_sql.MATCH_LOGIN, login.password.get_secret_value(), login.user)
    if not matches:
        user = sink.rows(prepare_sql.FIND_SID_OF_USER, login.user)
        # With the user's SID it is that user's login on every server that the database moves to, as in a failover.
        is_free = user and user[0][0] and not server.rows(prepare_sql.find_login_of_sid(user[0][0]))
        is_azure = server.value(prepare_sql.EDITION) == prepare_sql.AZURE_SQL_DATABASE
        server.execute(prepare_sql.create_login(login, user[0][0] if is_free else b"", is_azure=is_azure))
        yield f"created login {login.user}"
    elif matches[0][0] != 1:
        server.execute(prepare_sql.change_password(login))
        yield f"changed the password of login {login.user}"


def _grant_others(server: Sink, sink: Sink, logins: Sequence[SinkLogin], shows_counters: bool) -> None:
    """What the logins beside the loader may do; a database that was restored may be from before there were any."""
    metered = [table for table in prepare_sql.METERED if sink.exists(table)]
    for login in logins:
        for statement in prepare_sql.grants_of_own_login(login.role, metered):
            sink.execute(statement)
        for statement in prepare_sql.grants_on_server(login):
            server.execute(statement)
        if login.role == EXPORTER and shows_counters:
            _grant_counters(server, sink, login.user, logins[0].user)


def _grant_counters(server: Sink, sink: Sink, exporter: str, loader: str) -> None:
    if server.value(prepare_sql.EDITION) == prepare_sql.AZURE_SQL_DATABASE:
        sink.execute(prepare_sql.GRANT_COUNTERS_IN_AZURE)
        return
    for statement in prepare_sql.grants_of_counters(exporter, loader, server.value(prepare_sql.MAJOR_VERSION)):
        server.execute(statement)


def _tell_options(database: str, reads_snapshots: bool, closes: bool, recovery: str) -> None:
    """Say what of a database that is there already is not as `create_database` would make it."""
    log = structlog.get_logger()
    if not reads_snapshots:
        log.info(f"prepare-sink: readers of database {database} wait for loads: READ_COMMITTED_SNAPSHOT is off there.")
    if closes:
        log.warning(
            f"prepare-sink: database {database} is closed whenever its last connection ends, and every run begins with"
            f" opening it. Change that: {prepare_sql.stay_open(database)}"
        )
    if recovery != "SIMPLE":
        log.info(
            f"prepare-sink: database {database} has the recovery model {recovery}: its log grows until it is backed up."
            f" Where nothing backs it up: {prepare_sql.keep_short_log(database)}"
        )


def _prepare_database(sink: Sink, pipelines: Sequence[Pipeline]) -> Iterator[str]:
    """Schemas, tables, and what the loader may do with them; yields what it did."""
    owners = {ledger.SCHEMA: prepare_sql.OWNER, sink_sql.STAGING: prepare_sql.ROLE}
    for schema in [*owners, *(pipeline.sink.schema_name for pipeline in pipelines)]:
        yield from _prepare_schema(sink, schema, owners.get(schema, prepare_sql.OWNER))
    for table in [*ledger.tables(), *map(sink_sql.sink_table, pipelines)]:
        if not sink.exists(table.name):
            sink.create(table)
            yield f"created table {table.name}"
        yield from _prepare_index(sink, table)
    for statement in prepare_sql.grants(pipelines):
        sink.execute(statement)


def _prepare_index(sink: Sink, table: sink_sql.Table) -> Iterator[str]:
    """The index of a table that was made without; of a sink table with rows it is told, for loads wait meanwhile."""
    advice = sink_checks.index_advice(table, sink.indexes(table.name))
    if not advice:
        return
    if table.name.schema_name == ledger.SCHEMA or not sink.rows(sink_sql.any_row(table.name)):
        sink.execute(sink_sql.create_index(table))
        yield f"created the index on {', '.join(table.indexed)} of {table.name}"
    else:
        structlog.get_logger().warning(f"prepare-sink: {advice}")


def _prepare_principals(sink: Sink, login: SinkLogin, sid: bytes) -> Iterator[str]:
    """The user, tied to the login of a SID, and its role; yields what it did."""
    user = sink.rows(prepare_sql.FIND_SID_OF_USER, login.user)
    if not user:
        sink.execute(prepare_sql.create_user(login))
        yield f"created user {login.user}"
    elif user[0][0] != sid:
        sink.execute(prepare_sql.change_login(login))
        yield f"tied user {login.user} to its login"
    if not sink.rows(prepare_sql.FIND_ROLE, login.role):
        sink.execute(prepare_sql.create_role(login.role))
        yield f"created role {login.role}"
    if sink.value(prepare_sql.IS_MEMBER, login.role, login.user) != 1:
        sink.execute(prepare_sql.add_member(login))
        yield f"added {login.user} to role {login.role}"


def _prepare_schema(sink: Sink, schema: str, owner: str) -> Iterator[str]:
    """A schema. Only that of the staging tables has to be its owner's; another may stay whose it is."""
    found = sink.rows(prepare_sql.FIND_OWNER, schema)
    if not found:
        sink.execute(prepare_sql.create_schema(schema, owner))
        yield f"created schema {schema}"
    elif schema == sink_sql.STAGING and found[0][0] != owner:
        sink.execute(prepare_sql.change_owner(schema, owner))
        yield f"gave schema {schema} to {owner}"
