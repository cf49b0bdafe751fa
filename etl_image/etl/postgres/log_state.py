"""State of a source for a pipeline that reads its write-ahead log: server, role, tables, publication and slot."""

import json
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from etl.model.pipeline import Pipeline
from etl.model.table_name import TableName
from etl.postgres import log_state_sql as sql
from etl.postgres.checks import Cursor

Identity = Literal["d", "f", "i", "n"]
"""Replica identities, as pg_class.relreplident has them: default, full, index, nothing."""
_PARTITIONED = "p"


@dataclass(frozen=True)
class Server:
    """The server, and a role of its managed service ('': there is none); `keeps` in MB, -1 without a limit."""

    version: int
    wal_level: str
    is_standby: bool
    database: str
    free_slots: int
    keeps: int
    idle_timeout: int
    managed: str

    @property
    def major(self) -> int:
        """The major version, such as 17."""
        return self.version // 10_000


@dataclass(frozen=True)
class Role:
    """The role that reads: whether it may read the log, use the table's schema, and read any of the table's columns."""

    name: str
    reads_log: bool
    uses_schema: bool
    reads_table: bool


@dataclass(frozen=True)
class Table:
    """The table, or a partition of it, with its replica identity, and the index that this names.

    `apart`: columns of which values may be stored out of line; an update that leaves them does not log these.
    """

    name: TableName
    kind: str
    persistence: str
    identity: Identity
    identity_index: str
    identity_columns: frozenset[str]
    apart: frozenset[str]
    generated: frozenset[str]

    @property
    def logs_rows(self) -> bool:
        """Whether rows are in it, and not in its partitions alone."""
        return self.kind != _PARTITIONED


@dataclass(frozen=True)
class Publication:
    """A publication: what it publishes, and of the pipeline's table; `columns`: None for all."""

    has_all_tables: bool
    publishes_changes: bool
    publishes_deletes: bool
    by_root: bool
    comment: str
    tables: int
    has_table: bool
    columns: frozenset[str] | None
    row_filter: str


@dataclass(frozen=True)
class Slot:
    """A replication slot; `user`: the process that reads from it, `left`: the bytes that it may still keep."""

    plugin: str
    database: str
    is_two_phase: bool
    user: int | None
    application: str
    wal_status: str
    reason: str
    retained: int
    left: int | None
    confirmed: str

    @property
    def is_lost(self) -> bool:
        """Whether the server has removed log that the slot needs."""
        return self.wal_status == "lost" or bool(self.reason)


@dataclass(frozen=True)
class LogState:
    """All of it; no tables where there is no such table, None for what is missing.

    `others`: the other publications of the table, and whether each lists columns.
    """

    server: Server
    role: Role | None
    tables: tuple[Table, ...]
    publication: Publication | None
    others: tuple[tuple[str, bool], ...]
    slot: Slot | None

    @property
    def is_partitioned(self) -> bool:
        """Whether the table has partitions."""
        return bool(self.tables) and not self.tables[0].logs_rows

    @cached_property
    def with_rows(self) -> tuple[Table, ...]:
        """The tables that have rows: the table, or its partitions."""
        return tuple(each for each in self.tables if each.logs_rows)


def read_log_state(pipeline: Pipeline, cursor: Cursor, role: str | None = None) -> LogState:
    """Read the state for a role, by default the session's own. It needs no rights beyond those of any login."""
    source, publication = pipeline.source, pipeline.publication_name
    server, slot = read_slot(pipeline, cursor)
    return LogState(
        server,
        next((Role(*each) for each in rows(cursor, sql.role(role, source))), None),
        tuple(_table(*each) for each in rows(cursor, sql.tables(source))),
        next((_publication(*each) for each in rows(cursor, sql.publication(publication, source))), None),
        tuple((name, lists) for name, lists in rows(cursor, sql.other_publications(publication, source))),
        slot,
    )


def read_slot(pipeline: Pipeline, cursor: Cursor) -> tuple[Server, Slot | None]:
    """The server, and the pipeline's slot; None if it is missing."""
    (server,) = rows(cursor, sql.SERVER)
    return Server(*server), next((Slot(*each) for each in rows(cursor, sql.slot(pipeline.slot_name))), None)


def rows(cursor: Cursor, statement: str) -> list[Any]:
    """The rows of a query, by a cursor of any driver."""
    cursor.execute(statement)
    return cursor.fetchall()


def _table(schema: str, name: str, *fields: Any) -> Table:
    *others, identity, apart, generated = fields
    columns = (frozenset(names or ()) for names in (identity, apart, generated))
    return Table(TableName(schema_name=schema, table=name), *others, *columns)


def _publication(*fields: Any) -> Publication:
    found = Publication(*fields)
    columns = None if found.columns is None else frozenset(json.loads(str(found.columns)))
    return replace(found, columns=columns, row_filter=found.row_filter or "")
