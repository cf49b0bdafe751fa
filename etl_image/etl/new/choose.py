"""The choice of a pipeline for a table: key, version and types, each with the reason that becomes a comment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import ValidationError

from etl.errors import ConfigurationError, printable
from etl.model.column_types import parse_column_type
from etl.model.pipeline import Pipeline, TableName
from etl.model.version_kind import VERSION_TYPES
from etl.new.catalogue import Index, SourceColumn, SourceTable
from etl.new.triggers import Evidence, maintained

_WIDEST_KEY_TEXT = 450
_SHORTEST_KEY_TEXT = 16
_DIGITS = 38
_SPARE_WHOLE, _SPARE_SCALE = 3, 2
"""Digits that values measured today may grow by."""
_FUSED_BELOW = 1_000_000
"""Rows below which one pod is quicker than three."""


class Measures(Protocol):
    """Answers about the rows of a table; None if there is none in time (etl.new.measure)."""

    def rows(self, table: SourceTable) -> int | None:
        """How many rows it has."""

    def longest(self, table: SourceTable, column: str) -> int | None:
        """The characters of the longest text of a column."""

    def digits(self, table: SourceTable, column: str) -> tuple[int, int] | None:
        """Digits before and after the point that the values of a column need."""


@dataclass(frozen=True)
class Wishes:
    """A person's choices: the key, and the version of every table that has such a column."""

    key: Sequence[str] = ()
    version: str | None = None


@dataclass(frozen=True)
class Choice:
    """A pipeline, and comments: on its settings, and on its columns, by name."""

    pipeline: Pipeline
    reasons: Mapping[str, str] = field(default_factory=dict)
    remarks: Mapping[str, str] = field(default_factory=dict)


def choose(table: SourceTable, measures: Measures, names: tuple[str, TableName], wishes: Wishes) -> Choice:
    """The pipeline of a table; `names` are its own and its sink table's. Raises ConfigurationError if there is none."""
    readable = [column for column in table.columns if column.readable]
    if not readable:
        raise ConfigurationError(f"It may not be read: GRANT SELECT ON {table.name} TO the user of SOURCE_URL.")
    key, why_key = _key(table, wishes)
    version, why_version, zone = _version(table, wishes)
    columns, remarks = {}, {}
    for column in readable:
        columns[column.name], remark = _declaration(table, column, column.name in key, measures)
        if remark:
            remarks[column.name] = remark
    settings: dict[str, Any] = {
        "name": names[0],
        "source": table.name,
        "sink": names[1],
        "columns": columns,
        "key": key,
        "version": version,
        "filter": "true",
    }
    if zone:
        settings["version_zone"] = zone
    rows = measures.rows(table) if table.rows is None else table.rows
    if rows is not None and rows < _FUSED_BELOW:
        settings["steps"] = "fused"
    reasons = {"key": why_key, "version": why_version}
    hidden = [column.name for column in table.columns if not column.readable]
    if hidden:
        reasons["columns"] = f"Left out, as the source's user may not read them: {', '.join(map(printable, hidden))}."
    return Choice(_pipeline(settings), reasons, remarks)


def _pipeline(settings: dict[str, Any]) -> Pipeline:
    try:
        return Pipeline.model_validate(settings)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        problem = first["msg"].removeprefix("Value error, ")
        raise ConfigurationError(
            f"{'.'.join([*map(str, first['loc']), problem][-2:])}." if first["loc"] else f"{problem}."
        ) from None


def _key(table: SourceTable, wishes: Wishes) -> tuple[list[str], str]:
    if wishes.key:
        return list(wishes.key), "As asked for."
    found = [index for index in table.indexes if index.unique]
    required = {column.name for column in table.columns if column.required}
    primary = [index for index in found if index.primary]
    candidates = primary or [index for index in found if required.issuperset(index.columns)]
    if not candidates:
        raise ConfigurationError(
            "It has no unique index on columns that are NOT NULL, so nothing identifies a row: add one at the source."
        )
    chosen = min(candidates, key=lambda index: (_size(table, index), index.columns))
    return list(chosen.columns), "" if chosen.primary else "A unique index; there is no primary key."


def _size(table: SourceTable, index: Index) -> tuple[int, int]:
    """Columns of an index, texts last."""
    texts = {column.name for column in table.columns if column.base.startswith(("character", "text", "name"))}
    return len(texts.intersection(index.columns)), len(index.columns)


def _version(table: SourceTable, wishes: Wishes) -> tuple[str, str, str | None]:
    """The version, the reason, and its zone if it needs one."""
    columns = {column.name: column for column in table.columns}
    if wishes.version in columns:
        return wishes.version, "As asked for: each INSERT and UPDATE has to let it grow.", None
    found = [(columns[name], evidence) for name, evidence in maintained(table.triggers).items() if name in columns]
    usable = [(column, evidence) for column, evidence in found if _why_no_version(table, column, evidence) is None]
    if usable:
        column, evidence = usable[0]
        zone = "UTC" if evidence.in_utc else None
        return column.name, f"The trigger {printable(evidence.trigger)} sets it at each UPDATE.", zone
    raise ConfigurationError(_without_version(table, found))


def _why_no_version(table: SourceTable, column: SourceColumn, evidence: Evidence) -> str | None:
    """The reason for which a column that a trigger sets is no version; None if it can be one."""
    kind = _type_name(column)
    if kind not in VERSION_TYPES or (evidence.in_utc and kind != "timestamp"):
        return f"is {column.declared}"
    if not column.required:
        return "may be null"
    if kind == "timestamp" and not evidence.in_utc and not table.zone_is_utc:
        return "is a timestamp, which has no time zone, and sessions of the source do not write UTC"
    if any(column.name in index.columns for index in table.indexes if index.primary):
        return "is part of the key"
    return None


def _without_version(table: SourceTable, found: list[tuple[SourceColumn, Evidence]]) -> str:
    for column, evidence in found:
        return (
            f"It has a trigger that sets {column.name} at each UPDATE, but that column"
            f" {_why_no_version(table, column, evidence)}."
        )
    alike = [column.name for column in table.columns if _type_name(column) in VERSION_TYPES and column.required]
    if alike:
        return (
            f"It has no trigger that surely sets {' or '.join(alike)} at each UPDATE, so changes could be missed: add"
            f" one at the source, or, if your application sets it at each change, say --version {alike[-1]}."
        )
    return (
        "It has no column that grows with each change of a row: add one with a trigger, as external-db/init.sql does."
    )


def _type_name(column: SourceColumn) -> str | None:
    try:
        return parse_column_type(column.written).name
    except ValueError:
        return None


def _declaration(table: SourceTable, column: SourceColumn, in_key: bool, measures: Measures) -> tuple[str, str]:
    """The type that a pipeline declares for a column, and a remark on it."""
    remarks = [f"domain {printable(column.declared)}"] if column.is_domain else []
    declared = ""
    if column.written == "numeric":
        declared, remark = _numeric(measures.digits(table, column.name))
        remarks.append(remark)
    else:
        try:
            declared = str(parse_column_type(column.written))
        except ValueError:
            # What has no type of its own in SQL Server is carried as its text.
            declared = "text"
            if column.base not in ("character varying", "character", "bpchar"):
                remarks.append(f"{_KINDS.get(column.kind, '')}{printable(column.base)}, as its text")
    if in_key and declared == "text":
        declared, remark = _key_text(measures.longest(table, column.name))
        remarks.append(remark)
    null = "" if column.required or in_key else " null"
    return declared + null, "; ".join(remarks)


_KINDS = {"e": "enum ", "c": "composite ", "r": "range ", "m": "multirange "}


def _numeric(digits: tuple[int, int] | None) -> tuple[str, str]:
    """A numeric without precision: as many digits as its values need today, and some more."""
    if digits is None:
        raise ConfigurationError(
            "It has a numeric without precision, and to measure its values takes too long: write the file by hand."
        )
    whole, scale = digits
    if whole + scale > _DIGITS:
        return "text", f"numeric with {whole} + {scale} digits, more than SQL Server's decimal has: as its text"
    roomier = min(scale + _SPARE_SCALE, _DIGITS - whole - _SPARE_WHOLE)
    return (
        f"numeric({_DIGITS},{max(scale, roomier)})",
        f"numeric without precision; today's values have at most {whole} digits before the point and {scale} after it",
    )


def _key_text(longest: int | None) -> tuple[str, str]:
    """A text without a length in the key, which SQL Server can only index if it has one."""
    if longest is None:
        return f"varchar({_WIDEST_KEY_TEXT})", "text; a longer one is refused"
    length = min(max(2 * longest, _SHORTEST_KEY_TEXT), _WIDEST_KEY_TEXT)
    return (
        f"varchar({length})",
        f"text; the longest of today has {longest} characters, and one beyond {length} is refused",
    )
