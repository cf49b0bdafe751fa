"""Checks of a source from which a pipeline reads the write-ahead log: a sentence for each problem, with what to do."""

from collections.abc import Iterator

from etl.errors import printable
from etl.model.pipeline import Pipeline
from etl.postgres.log_state import LogState, Publication, Slot, Table
from etl.postgres.prepare_sql import drop_slot, grant_replication
from etl.postgres.quoting import quote_name, quote_table

OLDEST = 15
"""The oldest major version of Postgres whose log is read."""
PLUGIN = "pgoutput"
_TABLE, _PARTITIONED, _PERMANENT = "r", "p", "p"
_FULL = "f"
_PREPARE = "`etl prepare-source` does it"
BY_SUPERUSER = "as a superuser: ALTER SYSTEM SET wal_level = 'logical'; then restart Postgres"
LOGICAL = {
    "rds_replication": "set rds.logical_replication to 1 in its parameter group, and reboot it",
    "cloudsqlsuperuser": "set the flag cloudsql.logical_decoding to on, which restarts it",
    "azure_pg_admin": "set the server parameter wal_level to LOGICAL, and restart it",
}
"""How to set wal_level at a managed service, by a role that it has."""


def log_problems(pipeline: Pipeline, state: LogState, *, needs_slot: bool = True) -> list[str]:
    """Why a run cannot read the log now; none if it can. `needs_slot`: false before the slot is made.

    From the outside in: what is missing further inside follows from the first sentence in many cases.
    """
    if problem := table_problem(pipeline, state):
        return [problem]
    found = [*_server(state), *_role(pipeline, state), *_identity(pipeline, state), *_publication(pipeline, state)]
    if needs_slot:
        found += _slot(pipeline, state)
    return [f"{pipeline.name}: {problem}" for problem in found]


def table_problem(pipeline: Pipeline, state: LogState) -> str:
    """Why the log has no changes of the source at all, as a sentence; empty if it has."""
    if not state.tables:
        return f"{pipeline.name}: there is no table {pipeline.source} at the source."
    if state.tables[0].kind not in (_TABLE, _PARTITIONED):
        return (
            f"{pipeline.name}: {pipeline.source} is no table but a view or the like, of which no changes are logged;"
            ' name the table below it, or leave capture="log" out of the pipeline.'
        )
    for table in state.tables:
        if table.persistence != _PERMANENT:
            return (
                f"{pipeline.name}: {table.name} is unlogged, so the log has none of its changes; at the source: ALTER"
                f" TABLE {quote_table(table.name)} SET LOGGED;"
            )
    return ""


def broken_writes(state: LogState) -> list[Table]:
    """The tables whose UPDATE and DELETE fail in the application as long as they are published."""
    return [table for table in state.with_rows if not table.identity_columns]


def unsent(pipeline: Pipeline, table: Table) -> list[str]:
    """The pipeline's columns whose values a change of the table may lack, because the identity does not have them."""
    read = set().union(*pipeline.reads.values())
    return sorted((table.apart & read) - table.identity_columns)


def lacks_key(pipeline: Pipeline, table: Table) -> list[str]:
    """The columns of the key that a delete would lack, where deletes matter."""
    if pipeline.deletes == "keep":
        return []
    read: set[str] = set().union(*(pipeline.reads.get(name, set()) for name in pipeline.key))
    return sorted(read - table.identity_columns)


def needs_full(pipeline: Pipeline, table: Table) -> bool:
    """Whether rows of the table have to be logged whole: REPLICA IDENTITY FULL."""
    if table.identity == _FULL or not table.logs_rows:
        return False
    return bool(unsent(pipeline, table) or lacks_key(pipeline, table) or not table.identity_columns)


def unpublished(pipeline: Pipeline, state: LogState) -> list[str]:
    """The pipeline's columns that the publication does not send."""
    if not state.publication or not state.publication.has_table:
        return []
    read: set[str] = set().union(*pipeline.reads.values())
    columns = state.publication.columns
    return sorted(read & state.tables[0].generated if columns is None else read - columns)


def _server(state: LogState) -> Iterator[str]:
    server = state.server
    if server.major < OLDEST:
        yield f"the source is Postgres {server.major}, and the log is read from {OLDEST} on."
    if server.is_standby:
        yield (
            "the source is a standby, where slots do not follow a failover as this needs; let SOURCE_URL name the"
            " primary."
        )
    elif server.wal_level != "logical":
        yield (
            f"wal_level of the source is {server.wal_level}, so its log has no rows; "
            f"{LOGICAL.get(server.managed, BY_SUPERUSER)}."
        )


def _role(pipeline: Pipeline, state: LogState) -> Iterator[str]:
    role = state.role
    if role is None:
        yield "the role of SOURCE_URL is not there at the source; create it."
        return
    if not role.reads_log:
        statement = grant_replication(role.name, state.server.managed)
        yield f"the role {printable(role.name)} may not read the log; {statement}; {_PREPARE}."
    if not (role.uses_schema and role.reads_table):
        schema, table = quote_name(pipeline.source.schema_name), quote_table(pipeline.source)
        yield (
            f"the role {printable(role.name)} may not read {pipeline.source}, which the first load does; GRANT USAGE ON"
            f" SCHEMA {schema} and GRANT SELECT ON {table} TO {quote_name(role.name)}."
        )


def _identity(pipeline: Pipeline, state: LogState) -> Iterator[str]:
    for table in state.with_rows:
        if not needs_full(pipeline, table):
            continue
        why = f"a delete of {table.name} is logged without the key ({', '.join(lacks_key(pipeline, table))})"
        if not table.identity_columns:
            why = f"{table.name} has no replica identity, so UPDATE and DELETE fail there while it is published"
        elif columns := unsent(pipeline, table):
            why = (
                f"a change of {table.name} is logged without the values of {', '.join(map(printable, columns))} that it"
                " leaves as they are, if they are long"
            )
        yield f"{why}; ALTER TABLE {quote_table(table.name)} REPLICA IDENTITY FULL; {_PREPARE}."


def has_wrong_options(pipeline: Pipeline, state: LogState) -> bool:
    """Whether the publication is there and leaves out a kind of change, or names partitions instead of the table."""
    found = state.publication
    if found is None:
        return False
    lacks_deletes = pipeline.deletes != "keep" and not found.publishes_deletes
    return not found.publishes_changes or lacks_deletes or (state.is_partitioned and not found.by_root)


def _publication(pipeline: Pipeline, state: LogState) -> Iterator[str]:
    found, name = state.publication, printable(pipeline.publication_name)
    if found is None:
        yield f"the source has no publication {name}; {_PREPARE}."
    elif not found.has_table:
        yield (
            f"the publication {name} does not have {pipeline.source}"
            f"{' under this name' if state.is_partitioned and not found.by_root else ''}, so its changes do not come;"
            f" {_PREPARE}. Changes made meanwhile are not in it: run with full_refresh afterwards."
        )
    else:
        yield from (f"the publication {name} {problem}; {_PREPARE}." for problem in _options(pipeline, state, found))


def _options(pipeline: Pipeline, state: LogState, found: Publication) -> Iterator[str]:
    if not found.publishes_changes:
        yield "does not publish both inserts and updates"
    elif not found.publishes_deletes and pipeline.deletes != "keep":
        yield "does not publish both deletes and truncates"
    if state.is_partitioned and not found.by_root:
        yield f"names partitions instead of {pipeline.source} (publish_via_partition_root)"
    if found.row_filter:
        yield (
            f"has the row filter {printable(found.row_filter)}, by which a row that ceases to match comes as a delete;"
            " the pipeline judges rows itself"
        )
    if missing := unpublished(pipeline, state):
        yield f"does not send {', '.join(map(printable, missing))}, a generated column or not in its list of columns"


def _slot(pipeline: Pipeline, state: LogState) -> Iterator[str]:
    slot, name = state.slot, pipeline.slot_name
    if slot is None:
        yield f"the source has no replication slot {name}; {_PREPARE}, and a run with full_refresh reads all rows once."
        return
    if slot.plugin != PLUGIN or slot.database != state.server.database:
        yield f"{foreign_slot(name, slot)}; give the pipeline a slot of its own."
    elif slot.is_two_phase:
        yield (
            f"the replication slot {name} decodes prepared transactions (two_phase), which come before they are"
            f" certain; at the source: {drop_slot(name)}; then `etl prepare-source`, and a run with full_refresh."
        )
    if slot.is_lost:
        yield (
            f"the replication slot {name} is lost: the server removed log that was not read yet"
            f"{f' ({printable(slot.reason)})' if slot.reason else ''}. Changes are missing; `etl prepare-source` makes"
            " it anew, and a run with full_refresh reads all rows. Raise max_slot_wal_keep_size, or run more often."
        )
    elif slot.user is not None:
        by = f", {printable(slot.application)}" if slot.application else ""
        yield (
            f"the replication slot {name} is in use by process {slot.user} of the source{by}; one reader at a time. If"
            f" it is no run of this pipeline: SELECT pg_terminate_backend({slot.user});"
        )


def foreign_slot(name: str, slot: Slot) -> str:
    """The words for a slot that cannot be the pipeline's."""
    if not slot.plugin:
        return f"the replication slot {name} is one for a standby"
    return f"the replication slot {name} is of the database {printable(slot.database)} and the plugin {slot.plugin}"


def log_warnings(pipeline: Pipeline, state: LogState) -> list[str]:
    """Warnings about what a run survives, as sentences."""
    slot, found = state.slot, []
    if state.server.keeps < 0:
        found.append(
            "max_slot_wal_keep_size of the source is -1: while no run reads, its log grows until the disk is full. Set"
            " it to less than the disk's free space; the slot is lost then instead."
        )
    if state.server.idle_timeout:
        found.append(
            f"idle_replication_slot_timeout of the source is {state.server.idle_timeout} s: a pipeline that pauses for"
            " longer loses its slot."
        )
    if slot and not slot.is_lost and slot.wal_status == "unreserved":
        found.append(
            f"the replication slot {pipeline.slot_name} keeps more log than max_slot_wal_keep_size, and is lost at the"
            " next checkpoint: run the pipeline now."
        )
    return [f"{pipeline.name}: {each}" for each in found]
