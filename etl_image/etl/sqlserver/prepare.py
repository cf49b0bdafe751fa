"""`etl prepare-sink`: create what loads need in SQL Server, as its administrator.

It may be repeated at any time and changes only what is missing or wrong; a new password becomes the login's. The
exporter and backups have separate logins if passwords for them are set.
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
from etl.sqlserver import evolve, ledger, prepare_sql
from etl.sqlserver import sql as sink_sql
from etl.sqlserver.connection import connect_to_prepare
from etl.sqlserver.sink import Sink

_PAUSE_SECONDS = 2


def prepare_sink(settings: Settings, pipelines: Sequence[Pipeline] = (), wait_seconds: float = 0) -> list[str]:
    """Create database, logins, users, roles, schemas, ledger and grants; returns what was done.

    If `pipelines` are named their tables are created too, and the loader may then create no others.
    Raises ConfigurationError or TryAgainError.
    """
    log = structlog.get_logger()
    _refuse_shared_tables(pipelines)
    loader, *others = settings.sink_logins()
    _wait_for_server(settings, wait_seconds)
    with _prepared(settings, [loader, *others]) as (sink, done):
        done += _prepare_database(sink, pipelines)
    fields = {"others": [login.user for login in others]} if others else {}
    log.info("prepare-sink: the login can connect, and may do what loads need", login=loader.user, **fields, done=done)
    return done


def prepare_logins(settings: Settings) -> list[str]:
    """Create the logins, and map the users of a restored database to them; returns what was done.

    The loader's grants are in the database. Raises ConfigurationError or TryAgainError.
    """
    with _prepared(settings, settings.sink_logins()) as (_, done):
        return done


def _refuse_shared_tables(pipelines: Sequence[Pipeline]) -> None:
    """Raise ConfigurationError for two pipelines of one table, of which one deletes or marks: the other's rows, too."""
    known: dict[str, Pipeline] = {}
    for pipeline in pipelines:
        other = known.setdefault(pipeline.sink_identity, pipeline)
        if other is not pipeline and (other.deletes, pipeline.deletes) != ("keep", "keep"):
            raise ConfigurationError(
                f"Pipelines {other.name} and {pipeline.name} load the same table, {pipeline.sink}, and rows that the"
                ' source of one does not have are those of the other. Give each a table of its own, or deletes="keep".'
            )


@contextmanager
def _prepared(settings: Settings, logins: Sequence[SinkLogin]) -> Iterator[tuple[Sink, list[str]]]:
    """Create the database and the logins; yields a connection to the database, and what was done.

    After the block, grants the other logins their rights, and checks that all can connect.
    """
    # One connection a database: Azure SQL Database has no USE, and has logins in master only.
    with connect_to_prepare(settings) as server:
        is_azure = server.value(prepare_sql.EDITION) == prepare_sql.AZURE_SQL_DATABASE
        if is_azure and any(login.role == BACKUP for login in logins):
            raise ConfigurationError(
                "SINK_BACKUP_PASSWORD is set, and an Azure SQL Database keeps backups itself: unset it."
            )
        done = [*_prepare_server(server, logins[0])]
        with connect_to_prepare(settings, database=logins[0].database) as sink:
            for login in logins:
                sid = None
                if not login.is_external:
                    done += _prepare_login(server, sink, login)
                    sid = server.value(prepare_sql.FIND_SID_OF_LOGIN, login.user)
                done += _prepare_principals(sink, login, sid)
            yield sink, done
            _grant_others(server, sink, logins, settings.sink_exporter_counters)
    for login in logins:  # a login could be disabled, or locked out
        with connect_to_prepare(settings, settings.sink_as(login)):
            pass


def _wait_for_server(settings: Settings, seconds: float) -> None:
    """Wait until the administrator can log in. Raises the server's last error when the time is up."""
    settings.sink_admin()  # raises at once for wrong settings
    deadline = time.monotonic() + seconds
    logged = ""
    while True:
        try:
            with connect_to_prepare(settings):
                return
        except EtlError as error:
            # Also for a refused login: a starting server does not know its administrator's password yet.
            if time.monotonic() >= deadline:
                raise
            if str(error) != logged:
                logged = str(error)
                structlog.get_logger().info(f"{logged} Trying again for up to {seconds:g} s.")
        time.sleep(_PAUSE_SECONDS)


def _prepare_server(sink: Sink, login: SinkLogin) -> Iterator[str]:
    """Create the database; yields what was done."""
    found = sink.rows(prepare_sql.FIND_DATABASE, login.database)
    is_managed = sink.value(prepare_sql.EDITION) in prepare_sql.MANAGED
    if not found:
        for statement in prepare_sql.create_database(login.database, is_managed=is_managed):
            sink.execute(statement)
        yield f"created database {login.database}"
    else:
        reads_snapshots, closes, recovery = found[0]
        _log_options(login.database, reads_snapshots, closes and not is_managed, "SIMPLE" if is_managed else recovery)


def _prepare_login(server: Sink, sink: Sink, login: SinkLogin) -> Iterator[str]:
    """Create the login, or change its password; yields what was done."""
    matches = server.rows(prepare_sql.MATCH_LOGIN, login.password.get_secret_value(), login.user)
    if not matches:
        user = sink.rows(prepare_sql.FIND_SID_OF_USER, login.user)
        # With the user's SID the login matches the user on every server to which the database moves, as in a failover.
        is_free = user and user[0][0] and not server.rows(prepare_sql.find_login_of_sid(user[0][0]))
        is_azure = server.value(prepare_sql.EDITION) == prepare_sql.AZURE_SQL_DATABASE
        server.execute(prepare_sql.create_login(login, user[0][0] if is_free else b"", is_azure=is_azure))
        yield f"created login {login.user}"
    elif matches[0][0] != 1:
        server.execute(prepare_sql.change_password(login))
        yield f"changed the password of login {login.user}"


def _grant_others(server: Sink, sink: Sink, logins: Sequence[SinkLogin], shows_counters: bool) -> None:
    """Grant the other logins their rights; a restored database may be older than these."""
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


def _log_options(database: str, reads_snapshots: bool, closes: bool, recovery: str) -> None:
    """Log the options of an existing database that differ from those of `create_database`."""
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
    """Create schemas and tables, and grant the loader's rights; yields what was done."""
    owners = {ledger.SCHEMA: prepare_sql.OWNER, sink_sql.STAGING: prepare_sql.ROLE}
    for schema in [*owners, *(pipeline.sink.schema_name for pipeline in pipelines)]:
        yield from _prepare_schema(sink, schema, owners.get(schema, prepare_sql.OWNER))
    yield from sink.migrate_ledger()
    for table in [*ledger.tables(), *map(sink_sql.sink_table, pipelines)]:
        if not sink.exists(table.name):
            sink.create(table)
            yield f"created table {table.name}"
        yield from _prepare_index(sink, table)
    for pipeline in pipelines:
        if added := evolve.prepare_columns(sink, pipeline):
            are_filled = any(name in pipeline.columns for name in added)
            yield f"added {', '.join(added)} to {pipeline.sink}{', which the next run fills' if are_filled else ''}"
    for statement in prepare_sql.grants(pipelines):
        sink.execute(statement)


def _prepare_index(sink: Sink, table: sink_sql.Table) -> Iterator[str]:
    """Create a table's missing index; for a sink table with rows only warn, since loads would wait meanwhile."""
    advice = sink_checks.index_advice(table, sink.indexes(table.name))
    if not advice:
        return
    if table.name.schema_name == ledger.SCHEMA or not sink.rows(sink_sql.any_row(table.name)):
        sink.execute(sink_sql.create_index(table))
        yield f"created the index on {', '.join(table.indexed)} of {table.name}"
    else:
        structlog.get_logger().warning(f"prepare-sink: {advice}")


def _prepare_principals(sink: Sink, login: SinkLogin, sid: bytes | None) -> Iterator[str]:
    """Create the user, map it to the login of a SID if it has one, and add it to its role; yields what was done."""
    user = sink.rows(prepare_sql.FIND_SID_OF_USER, login.user)
    if not user:
        sink.execute(prepare_sql.create_user(login))
        yield f"created user {login.user}"
    elif sid and user[0][0] != sid:
        sink.execute(prepare_sql.change_login(login))
        yield f"tied user {login.user} to its login"
    if not sink.rows(prepare_sql.FIND_ROLE, login.role):
        sink.execute(prepare_sql.create_role(login.role))
        yield f"created role {login.role}"
    if sink.value(prepare_sql.IS_MEMBER, login.role, login.user) != 1:
        sink.execute(prepare_sql.add_member(login))
        yield f"added {login.user} to role {login.role}"


def _prepare_schema(sink: Sink, schema: str, owner: str) -> Iterator[str]:
    """Create a schema. Only the schema of the staging tables has its owner corrected."""
    found = sink.rows(prepare_sql.FIND_OWNER, schema)
    if not found:
        sink.execute(prepare_sql.create_schema(schema, owner))
        yield f"created schema {schema}"
    elif schema == sink_sql.STAGING and found[0][0] != owner:
        sink.execute(prepare_sql.change_owner(schema, owner))
        yield f"gave schema {schema} to {owner}"
