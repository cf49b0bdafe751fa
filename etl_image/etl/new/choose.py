"""The choice of a pipeline for a table: key, mode, version and types, each with the reason that becomes a comment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError

from etl.errors import ConfigurationError, printable
from etl.model.column import Column
from etl.model.column_types import parse_column_type, plain_name
from etl.model.pipeline import Pipeline
from etl.model.table_name import TableName
from etl.model.version_kind import TIME_TYPES
from etl.new.catalogue import Index, SourceColumn, SourceTable
from etl.new.names import column_names
from etl.new.triggers import Evidence, maintained
from etl.new.types import Measures, declaration
from etl.postgres.quoting import quote_name, quote_table

_FUSED_BELOW = 1_000_000
"""Rows below which one pod is quicker than three."""
_REPLACED_BELOW = 20_000_000
"""Rows above which a whole table is not read in each run unless a person says so."""
_KEYS_EVERY = timedelta(days=1)
"""How often the keys of an incremental pipeline are compared, for which all rows are read: not in each run."""


@dataclass(frozen=True)
class Wishes:
    """A person's choices: the key, the version of every table that has such a column, deleted rows, large tables."""

    key: Sequence[str] = ()
    version: str | None = None
    deletes: Literal["keep", "mark", "delete"] = "delete"
    big: bool = False


@dataclass(frozen=True)
class Choice:
    """A pipeline, and comments: on its settings, and on its columns, by name."""

    pipeline: Pipeline
    reasons: Mapping[str, str] = field(default_factory=dict)
    remarks: Mapping[str, str] = field(default_factory=dict)


class _Version(NamedTuple):
    """The version, if there is one, its zone if it needs one, and the reason."""

    column: str | None
    reason: str
    zone: str | None = None


def choose(table: SourceTable, measures: Measures, names: tuple[str, TableName], wishes: Wishes) -> Choice:
    """The pipeline of a table; `names` are its own and its sink table's. Raises ConfigurationError if there is none."""
    columns = [column for column in table.columns if column.readable and not column.type.refusal]
    if not any(column.readable for column in table.columns):
        raise ConfigurationError(
            f"The user {printable(table.reader)} may not read it. Its owner runs: GRANT SELECT ON"
            f" {quote_table(table.name)} TO {quote_name(table.reader)}."
        )
    version = _version(table, wishes)
    rows = table.rows if table.rows is not None and table.kind != "view" else measures.rows(table)
    if not version.column and not wishes.big and (rows or 0) > _REPLACED_BELOW:
        raise ConfigurationError(
            f"It has about {rows} rows and no version, so each run would read them all. {version.reason} Or say --big."
        )
    reasons = {"columns": _left_out(table), "version" if version.column else "mode": version.reason}
    renamed, problems = column_names([column.name for column in columns]), []
    for key, reason in _keys(table, wishes, needs_one=bool(version.column)):
        declared = {column.name: declaration(table, column, column.name in key, measures) for column in columns}
        if unfit := [column for column in columns if column.name in key and not _can_be_key(column, declared)]:
            problems.append(
                f"key: {printable(unfit[0].name)} is {unfit[0].declared}, which identifies no row of the sink."
            )
            continue
        settings = {
            "name": names[0], "source": table.name, "sink": names[1], "key": [renamed[name] for name in key],
            "columns": {
                renamed[name]: type_ if renamed[name] == name else Column(type_, source=name)
                for name, (type_, _) in declared.items()
            },
            "filter": "true",
            **_mode(version, wishes, key),
            **({"version": renamed[version.column]} if version.column else {}),
            **({"steps": "fused"} if rows is not None and rows < _FUSED_BELOW else {}),
        }  # fmt: skip
        try:
            pipeline = Pipeline.model_validate(settings)
        except ValidationError as error:
            problems.append(_sentence(error))
            continue
        remarks = {renamed[name]: remark for name, (_, remark) in declared.items()}
        return Choice(pipeline, {**reasons, "key": reason}, remarks)
    raise ConfigurationError(problems[0] if version.column else f"{version.reason} {problems[0]}")


def _can_be_key(column: SourceColumn, declared: Mapping[str, tuple[str, str]]) -> bool:
    return column.type.can_be_key(parse_column_type(declared[column.name][0]))


def _mode(version: _Version, wishes: Wishes, key: Sequence[str]) -> dict[str, Any]:
    """The settings of mode, version and deleted rows, which can only go where a table without a key is replaced."""
    if not version.column:
        return {"mode": "replace", "deletes": wishes.deletes if key else "delete"}
    every = {} if wishes.deletes == "keep" else {"deletes_every": _KEYS_EVERY}
    return {"version": version.column, "version_zone": version.zone, "deletes": wishes.deletes, **every}


def _left_out(table: SourceTable) -> str:
    hidden = [printable(column.name) for column in table.columns if not column.readable]
    refused = [
        f"{printable(column.name)} ({printable(column.type.name)})" for column in table.columns if column.type.refusal
    ]
    words = [
        f"Left out, as the source's user may not read them: {', '.join(hidden)}." if hidden else "",
        f"Left out, as they are internal to Postgres: {', '.join(refused)}." if refused else "",
    ]
    return " ".join(filter(None, words))


def _sentence(error: ValidationError) -> str:
    """The first problem of a pipeline that is not valid."""
    first = error.errors(include_url=False)[0]
    where = f"{first['loc'][0]}: " if first["loc"] else ""
    return f"{where}{first['msg'].removeprefix('Value error, ')}."


def _keys(table: SourceTable, wishes: Wishes, needs_one: bool) -> list[tuple[list[str], str]]:
    """Keys in the order in which they are tried, each with the reason."""
    if wishes.key:
        return [(list(wishes.key), "As asked for.")]
    usable = {column.name for column in table.columns if column.readable and column.type.is_required}
    unique = [index for index in table.indexes if index.unique and usable.issuperset(index.columns)]
    found = [
        (list(index.columns), "" if index.primary else "A unique index, since there is no primary key.")
        for index in sorted(unique, key=lambda index: _preference(table, index))
    ]
    if not needs_one:
        found.append(([], "Nothing at the source ensures a key: where rows have changed, all are replaced."))
    if not found:
        raise ConfigurationError(
            "It has no unique index on columns that are NOT NULL, so nothing identifies a row: add one at the source;"
            " say which columns do with --key, if it is a view; or leave --version away, and all rows are replaced."
        )
    return found


def _preference(table: SourceTable, index: Index) -> tuple[bool, int, int, tuple[str, ...]]:
    """The primary key first; else few texts, then few columns."""
    texts = {column.name for column in table.columns if column.type.row is None or column.type.row.family == "text"}
    return not index.primary, len(texts.intersection(index.columns)), len(index.columns), index.columns


def _version(table: SourceTable, wishes: Wishes) -> _Version:
    columns = {column.name: column for column in table.columns if column.readable}
    if wishes.version in columns:
        return _Version(wishes.version, "As asked for: each INSERT and UPDATE has to let it grow.")
    found = [(columns[name], evidence) for name, evidence in maintained(table.triggers).items() if name in columns]
    problems = {column.name: _problem(table, column, evidence) for column, evidence in found}
    for column, evidence in found:
        if not problems[column.name]:
            sets = f"The trigger {printable(evidence.trigger)} sets it at each UPDATE."
            return _Version(column.name, sets, "UTC" if evidence.in_utc else None)
    if found:
        column, evidence = found[0]
        return _Version(None, f"{printable(column.name)} cannot be the version: it {problems[column.name]}.")
    alike = [column.name for column in columns.values() if _is_time(column) and column.type.is_required]
    if not alike:
        return _Version(None, "No column grows with each change of a row.")
    likely = next((name for name in alike if any(sign in name for sign in ("upd", "mod", "chang"))), alike[-1])
    return _Version(
        None,
        f"No trigger surely sets {printable(likely)} at each UPDATE. If your application does, say --version {likely}:"
        " a run then reads only what changed.",
    )


def _problem(table: SourceTable, column: SourceColumn, evidence: Evidence) -> str:
    """The reason for which a column that a trigger sets is no version; empty if it can be one."""
    if not _is_time(column) or (evidence.in_utc and column.type.name != "timestamp without time zone"):
        return f"is {column.declared}"
    if not column.type.is_required:
        return "may be null"
    if column.type.name == "timestamp without time zone" and not evidence.in_utc and not table.zone_is_utc:
        return "has no time zone, and sessions of the source do not write UTC"
    if any(column.name in index.columns for index in table.indexes if index.primary):
        return "is part of the key"
    return ""


def _is_time(column: SourceColumn) -> bool:
    return column.type.row is not None and plain_name(column.type.name) in TIME_TYPES
