"""Statements that let a pipeline read the write-ahead log of a source, as far as they are missing; and the way back.

In an order in which no step breaks the application's writes: identity, publication, slot; back: slot, publication,
identity.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import TypeAdapter

from etl.errors import ConfigurationError, printable
from etl.model.pipeline import Pipeline
from etl.postgres import log_problems as checks
from etl.postgres import prepare_sql as sql
from etl.postgres.log_state import Identity, LogState, Publication, Table

_NOTE = "Made by `etl prepare-source`; replica identities before: "
"""Before a JSON object in the publication's comment: tables to identity and index."""
_FULL = "f"
_Before = dict[str, tuple[Identity, str]]


@dataclass(frozen=True)
class Step:
    """A statement, and why it is needed; `waits` says what for, if that can be long."""

    statement: str
    why: str
    waits: str = ""


_FOR_TABLE = "for transactions that use the table, while others wait behind it"
_FOR_SLOT = "for every transaction that is open and has written"


def steps_to_prepare(pipeline: Pipeline, state: LogState) -> list[Step]:
    """The missing steps, in order; none if all is there.

    Raises ConfigurationError for what statements cannot change.
    """
    _check(pipeline, state)
    return [
        *_rights(pipeline, state),
        *_identity(pipeline, state),
        *_publication(pipeline, state),
        *_slot(pipeline, state),
    ]


def steps_to_undo(pipeline: Pipeline, state: LogState) -> list[Step]:
    """The steps that remove slot and publication, and restore the identity that the table had; none if all is gone.

    Raises ConfigurationError for a slot or a publication that cannot be this pipeline's.
    """
    return [*_drop_slot(pipeline, state), *_drop_publication(pipeline, state), *_restore(state)]


def _check(pipeline: Pipeline, state: LogState) -> None:
    """Raise ConfigurationError for what no statement here changes."""
    if problem := checks.table_problem(pipeline, state):
        raise ConfigurationError(problem)
    about, server = pipeline.name, state.server
    if server.is_standby:
        raise ConfigurationError(f"{about}: the source is a standby; let SOURCE_URL name the primary.")
    if state.role is None:
        raise ConfigurationError(f"{about}: the role of SOURCE_URL is not there at the source; create it.")
    if state.slot is None and server.free_slots < 1:
        raise ConfigurationError(
            f"{about}: all replication slots of the source are in use; raise max_replication_slots and restart it, or"
            " drop those without a reader (SELECT slot_name, active FROM pg_replication_slots)."
        )
    listing = [name for name, lists in state.others if lists]
    if listing and any(checks.needs_full(pipeline, table) for table in state.with_rows):
        raise ConfigurationError(
            f"{about}: {pipeline.source} needs REPLICA IDENTITY FULL, and with it the application's UPDATE and DELETE"
            f" would fail, because the publication {printable(listing[0])} lists columns of that table. Give that"
            " publication all columns first, or leave out of the pipeline the columns that can be long."
        )
    slot = state.slot
    if slot and (slot.plugin != checks.PLUGIN or slot.database != server.database):
        raise ConfigurationError(
            f"{about}: {checks.foreign_slot(pipeline.slot_name, slot)}; give the pipeline another (slot=…)."
        )
    if slot and (slot.is_two_phase or slot.is_lost) and slot.user is not None:
        raise ConfigurationError(
            f"{about}: the slot {pipeline.slot_name} is used by process {slot.user}; end it first."
        )


def _rights(pipeline: Pipeline, state: LogState) -> Iterator[Step]:
    role = state.role
    if role and not role.reads_log:
        yield Step(
            sql.grant_replication(role.name, state.server.managed),
            "The role may use replication slots. It can then read the log of every published table of the database,"
            " whatever else it is granted.",
        )
    if role and not role.uses_schema:
        yield Step(sql.grant_schema(role.name, pipeline.source), "The first load reads the table itself.")
    if role and not role.reads_table:
        yield Step(sql.grant_table(role.name, pipeline.source), "The first load reads the table itself.")


def _identity(pipeline: Pipeline, state: LogState) -> Iterator[Step]:
    for table in state.with_rows:
        if not checks.needs_full(pipeline, table):
            continue
        why = f"{table.name}: a delete would be logged without the key"
        if not table.identity_columns:
            why = f"{table.name}: there is no replica identity, and UPDATE and DELETE fail there once it is published"
        elif columns := checks.unsent(pipeline, table):
            names = ", ".join(map(printable, columns))
            why = f"{table.name}: an update would lack {names} where it leaves them as they are"
        yield Step(
            sql.set_identity(table.name, _FULL),
            f"{why}. Each UPDATE and DELETE now logs the whole old row: 45 % more log in a measurement.",
            _FOR_TABLE,
        )


def _publication(pipeline: Pipeline, state: LogState) -> Iterator[Step]:
    name, source, found, by_root = pipeline.publication_name, pipeline.source, state.publication, state.is_partitioned
    before = {str(table.name): (table.identity, table.identity_index)
              for table in state.with_rows if checks.needs_full(pipeline, table)}  # fmt: skip
    if found is None:
        yield Step(sql.create_publication(name, source, by_root=by_root), "What is published is decoded.")
        yield Step(sql.comment_publication(name, _note(before)), "For --undo.")
        return
    if is_wrong := checks.has_wrong_options(pipeline, state):
        yield Step(sql.set_options(name, by_root=by_root or found.by_root), "All changes are published.")
    has_table = found.has_table or (is_wrong and by_root and not found.by_root)
    if not has_table:
        yield Step(
            sql.add_table(name, source),
            "Changes that were made before are not in the log's publication: run the pipeline with full_refresh.",
        )
    elif found.row_filter or (checks.unpublished(pipeline, state) and not found.has_all_tables):
        if found.tables != 1:
            raise ConfigurationError(
                f"{pipeline.name}: the publication {printable(name)} leaves out rows or columns of {source}, and has"
                " other tables, too; give the pipeline a publication of its own (publication=…)."
            )
        yield Step(
            sql.set_table(name, source),
            "All rows and columns are published. Changes that were left out before are found by full_refresh.",
        )
    if before and (not found.comment or found.comment.startswith(_NOTE)):
        yield Step(sql.comment_publication(name, _note(before | _noted(found.comment))), "For --undo.")


def _slot(pipeline: Pipeline, state: LogState) -> Iterator[Step]:
    slot, name = state.slot, pipeline.slot_name
    if slot and not (slot.is_two_phase or slot.is_lost):
        return
    if slot:
        why = "It is lost" if slot.is_lost else "It decodes prepared transactions"
        yield Step(sql.drop_slot(name), f"{why}, and is made anew.")
    yield Step(
        sql.create_slot(name, checks.PLUGIN, state.server.major),
        "From here on the server keeps its log until a run has read it. Before its next run, run the pipeline with"
        " full_refresh if it has run before.",
        _FOR_SLOT,
    )


def _drop_slot(pipeline: Pipeline, state: LogState) -> Iterator[Step]:
    slot, name = state.slot, pipeline.slot_name
    if slot is None:
        return
    if slot.plugin != checks.PLUGIN or slot.database != state.server.database:
        raise ConfigurationError(f"{pipeline.name}: {checks.foreign_slot(name, slot)}, and stays.")
    if slot.user is not None:
        raise ConfigurationError(
            f"{pipeline.name}: the slot {name} is used by process {slot.user} of the source; pause the DAG and wait for"
            " its run to end, then try again."
        )
    yield Step(sql.drop_slot(name), "The server keeps no log for it any more. The pipeline cannot go on from here.")


def _drop_publication(pipeline: Pipeline, state: LogState) -> Iterator[Step]:
    found, name = state.publication, pipeline.publication_name
    if found is None or not is_own(found):
        return
    if found.tables > 1:
        if found.has_table:
            yield Step(sql.drop_table(name, pipeline.source), "The publication stays, for its other tables.")
        return
    yield Step(sql.drop_publication(name), "No changes of the table are published by it any more.")


def _restore(state: LogState) -> Iterator[Step]:
    """Restore identities that were noted, unless another publication may need them."""
    if state.publication is None or state.others:
        return
    tables = {str(table.name): table for table in state.with_rows}
    for name, (identity, index) in _noted(state.publication.comment).items():
        table = tables.get(name)
        if table and table.identity == _FULL:
            yield Step(sql.set_identity(table.name, identity, index), "As it was before.", _FOR_TABLE)


def is_own(publication: Publication) -> bool:
    """Whether `etl prepare-source` made a publication."""
    return publication.comment.startswith(_NOTE)


def kept_identities(state: LogState) -> list[Table]:
    """The tables with REPLICA IDENTITY FULL that an undo leaves so: in another publication, or without a note."""
    noted = {} if state.publication is None or state.others else _noted(state.publication.comment)
    return [table for table in state.with_rows if table.identity == _FULL and str(table.name) not in noted]


def _note(before: _Before) -> str:
    return _NOTE + json.dumps(before, ensure_ascii=False, sort_keys=True)


def _noted(comment: str) -> _Before:
    """The identities that a comment notes; none for a comment of anybody else's."""
    if not comment.startswith(_NOTE):
        return {}
    try:
        return TypeAdapter(_Before).validate_json(comment.removeprefix(_NOTE))
    except ValueError:
        return {}
