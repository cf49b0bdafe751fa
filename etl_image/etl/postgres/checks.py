"""Checks of the source table before its rows are counted (plan) or read (extract)."""

import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from etl.errors import ConfigurationError, printable
from etl.model.column_types import ColumnType, plain_name
from etl.model.pipeline import Pipeline
from etl.model.predicate import compared_columns
from etl.model.source_type import SourceType
from etl.postgres import catalogue as source_catalogue
from etl.postgres.expression import render
from etl.postgres.quoting import quote_name, quote_table

_WITHOUT_KEY = ("v", "m", "f")
"""Views, materialized views and foreign tables, for which Postgres ensures neither a key nor NOT NULL."""
_NAMED = 3
"""How many columns are named as possible new names of one that is gone."""


@dataclass(frozen=True)
class Source:
    """The source of a pipeline: the types of its columns, and whether the key is unique, or checked by the load.

    `others`: its columns that the pipeline does not list, `hidden` of them those that the user may not read.
    """

    types: dict[str, SourceType]
    is_key_unique: bool
    others: dict[str, SourceType]
    hidden: frozenset[str]

    def unlisted(self, omitted: Collection[str]) -> dict[str, SourceType]:
        """The columns that the pipeline does not list and could read, without those omitted."""
        return {name: each for name, each in self.others.items() if name not in omitted and name not in self.hidden}

    def is_ordered(self, key: Sequence[str]) -> bool:
        """Whether partitions can be ranges of the key: each row is in one of them."""
        return all(self.types[name].is_ordered for name in key)


class Cursor(Protocol):
    """A cursor of DB-API 2.0, of any driver."""

    def execute(self, operation: Any, /) -> Any:
        """Run a statement."""

    def fetchall(self) -> list[Any]:
        """Return the rows of the last statement."""


def check_source(pipeline: Pipeline, cursor: Cursor) -> Source:
    """Compare the source table with the pipeline, in a session with the settings of `source_sql.SESSION`.

    Raises ConfigurationError for the first difference by which rows would be missed, read twice or read differently.
    """
    (kind,) = next(iter(_rows(cursor, source_catalogue.relation_kind(pipeline.source))), ("",))
    described = _rows(cursor, source_catalogue.describe_columns(pipeline.source))
    found = {name: SourceType(*rest) for _, name, _, _, *rest in described}
    types = _types(pipeline, found, cursor)
    # Mode replace reads all rows in one partition, and its load counts the keys that came twice.
    is_replaced = pipeline.mode == "replace"
    _check_columns(pipeline, types, may_be_null=is_replaced or kind in _WITHOUT_KEY)
    is_key_unique = is_replaced or _check_key(pipeline, cursor, kind)
    _check_row_security(pipeline, cursor)
    if pipeline.version and pipeline.types[pipeline.version].name == "timestamp" and pipeline.version_zone is None:
        _check_zone(pipeline, _rows(cursor, source_catalogue.DEFAULT_ZONE))
    taken = set(pipeline.columns).union(*pipeline.reads.values())
    others = {name: each for name, each in found.items() if name not in taken}
    hidden = frozenset(name for _, name, _, is_readable, *_ in described if name in others and not is_readable)
    return Source(types, is_key_unique, others, hidden)


def _types(pipeline: Pipeline, found: Mapping[str, SourceType], cursor: Cursor) -> dict[str, SourceType]:
    """The type at the source of each column of the pipeline. Raises ConfigurationError for one that is not there."""
    if not found:
        raise ConfigurationError(f"{pipeline.name}: there is no table {pipeline.source} at the source.")
    for name, source in pipeline.sources.items():
        if source not in found:
            gone = _gone(name, pipeline, found)
            raise ConfigurationError(f"{pipeline.name}: {pipeline.source} has no column {source}. {gone}")
    for name in pipeline.expressions:
        for read in sorted(pipeline.reads[name] - found.keys()):
            raise ConfigurationError(
                f"{pipeline.name}: {pipeline.source} has no column {printable(read)}, which the expression of {name}"
                " reads."
            )
    types = {name: found[source] for name, source in pipeline.sources.items()}
    for name in pipeline.constants:
        declared = pipeline.types[name]
        types[name] = SourceType(declared.name, written=f"{declared}, constant", is_required=True)
    for place, type_name, kind in _expression_types(pipeline, cursor):
        types[list(pipeline.expressions)[place]] = SourceType(type_name, kind, f"{type_name}, computed")
    return {name: types[name] for name in pipeline.columns}


def _expression_types(pipeline: Pipeline, cursor: Cursor) -> list[Any]:
    if not pipeline.expressions:
        return []
    _check_row_security(pipeline, cursor)  # else Postgres refuses the query
    expressions = [render(term) for term in pipeline.expressions.values()]
    return _rows(cursor, source_catalogue.expression_types(pipeline.source, expressions))


def _check_columns(pipeline: Pipeline, types: Mapping[str, SourceType], *, may_be_null: bool) -> None:
    compared = compared_columns(pipeline.predicate)
    for name, type_ in types.items():
        where = f"column {pipeline.sources.get(name, name)} of {pipeline.source}"
        problem = _problem(type_, pipeline.types[name], name in pipeline.key, name in compared)
        if problem:
            raise ConfigurationError(f"{pipeline.name}: {where} {problem}.")
        is_needed = name in (*pipeline.key, pipeline.version) and name not in pipeline.expressions
        if is_needed and not (may_be_null or type_.is_required):
            raise ConfigurationError(
                f"{pipeline.name}: {where} may be null, so rows could be missed; make it NOT NULL at the source."
            )


def _gone(name: str, pipeline: Pipeline, found: Mapping[str, SourceType]) -> str:
    """Advice on a column that the source does not have, as sentences."""
    declared = pipeline.types[name]
    taken = pipeline.sources.values()
    alike = [other for other, each in found.items() if other not in taken and each.is_carried_by(declared)]
    drop = "If it was dropped, take it out of the pipeline; the sink keeps its values, if it is nullable there."
    if not alike:
        return drop
    line = f"{_literal(name)}: Column({_literal(str(declared))}, source={_literal(alike[0])})"
    names = " or ".join([*alike[:_NAMED], *(["another column"] if len(alike) > _NAMED else [])])
    return (
        f"Was it renamed to {printable(names)}, which the pipeline does not list? Then write"
        f" {printable(line)} in its columns, and the sink keeps its name. {drop}"
    )


def _literal(text: str) -> str:
    """A text as a pipeline's file has it."""
    return json.dumps(text, ensure_ascii=False)


def _problem(source: SourceType, declared: ColumnType, is_key: bool, is_compared: bool) -> str:
    """Why a column cannot be carried as it is declared, as the rest of a sentence; empty if it can."""
    if source.refusal:
        return f"is {source.refusal}"
    if not source.is_carried_by(declared):
        return f"is {source.name}, the pipeline says {declared}{_advice(source)}"
    if is_key and not source.can_be_key(declared):
        return (
            f"is {source.name}, of which values that are equal in Postgres have several texts, so it does not identify"
            " a row of the sink; choose another key"
        )
    if not is_compared:
        return ""
    # It is read with the spaces that pad it, which Postgres does not compare.
    if plain_name(source.name) == "char" and declared.name != "char":
        return (
            f"is {source.name}, the pipeline says {declared}, and the filter would compare the spaces that pad it;"
            " declare it as it is, for example char(12)"
        )
    if not source.is_compared(declared):
        return (
            f"is {source.name}, which Postgres compares otherwise than what arrives of it; let the filter ask only"
            " whether it is null"
        )
    return ""


def _advice(source: SourceType) -> str:
    """The declaration that is right, as the end of a sentence."""
    if source.row is not None and source.name != "numeric":
        return ""
    with suppress(ValueError):
        return f"; declare it {source.declaration()}"
    return ""


def _check_children(pipeline: Pipeline, children: list[Any]) -> None:
    if children:
        names = ", ".join(printable(name) for (name,) in children)
        raise ConfigurationError(
            f"{pipeline.name}: {names} inherits from {pipeline.source}, so its rows are read too, and no unique index"
            f" covers both: a key could be there twice. Partition the table instead (PARTITION BY), or take the other"
            f" off at the source: ALTER TABLE {names.partition(',')[0]} NO INHERIT {pipeline.source}."
        )


def _check_key(pipeline: Pipeline, cursor: Cursor, kind: str) -> bool:
    """Whether the source ensures that the key is unique, which only a table does. Raises ConfigurationError."""
    _check_children(pipeline, _rows(cursor, source_catalogue.inheriting_tables(pipeline.source)))
    indexes = _rows(cursor, source_catalogue.unique_indexes(pipeline.source))
    key = [pipeline.sources[name] for name in pipeline.key if name in pipeline.sources]
    is_unique = any(set(names) <= set(key) for (names,) in indexes)
    is_computed = not pipeline.expressions.keys().isdisjoint(pipeline.key)
    if not is_unique and not is_computed and kind not in _WITHOUT_KEY:
        raise ConfigurationError(
            f"{pipeline.name}: no unique index of {pipeline.source} covers {', '.join(key)},"
            ' so it does not identify a row; correct the key, add the index, or load it with mode="replace".'
        )
    return is_unique


def _check_row_security(pipeline: Pipeline, cursor: Cursor) -> None:
    ((user, is_active, shows_all),) = _rows(cursor, source_catalogue.row_security(pipeline.source))
    if not is_active:
        return
    if not shows_all:
        raise ConfigurationError(
            f"{pipeline.name}: row-level security of {pipeline.source} decides which rows the user {printable(user)}"
            f" sees, and the others would be missing without an error. At the source, let it see all: ALTER ROLE"
            f" {quote_name(user)} BYPASSRLS; or, as the table's owner, CREATE POLICY etl ON"
            f" {quote_table(pipeline.source)} FOR SELECT TO {quote_name(user)} USING (true),"
            " where no restrictive policy hides rows from it."
        )
    # The session refuses to read under policies; these have been checked.
    cursor.execute("SET LOCAL row_security = on")


def _check_zone(pipeline: Pipeline, rows: list[Any]) -> None:
    for zone, is_utc in rows:
        if not is_utc:
            raise ConfigurationError(
                f"{pipeline.name}: the version {pipeline.version} of {pipeline.source} is a timestamp, which has no"
                f" time zone, and sessions of the source write the time of {printable(zone)}: hours off, changes would"
                f' be missed. Make the column a timestamptz; or say what it holds, version_zone="UTC" in the pipeline,'
                " or the zone, where its clock is never put back."
            )


def _rows(cursor: Cursor, statement: str) -> list[Any]:
    cursor.execute(statement)
    return cursor.fetchall()
