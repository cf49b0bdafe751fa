"""The pipeline: source table, columns, filter, sink table. Checked when the DAG is parsed and when a step starts."""

import re
import sys
from functools import cached_property
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationInfo, field_validator, model_validator

from etl.model import version_kind as kinds
from etl.model.beyond import BeyondSettings
from etl.model.capture import IMAGE, CaptureSettings
from etl.model.column import (
    Column,
    check_columns,
    check_sensitive,
    constant,
    declared_type,
    expression,
    source_name,
)
from etl.model.column_types import ColumnType, parse_column_type
from etl.model.limits import check_limits
from etl.model.modes import DeleteSettings, Mode, check_mode
from etl.model.names import Identifier, PipelineName, as_sql_server_sees
from etl.model.new_columns import NewColumnSettings
from etl.model.predicate import parse_predicate, predicate_columns
from etl.model.predicate_values import Term
from etl.model.table_name import SinkTable, SourceTable

# An environment variable has 128 KiB at most in Linux.
_MOST_BYTES = 100_000


class Pipeline(DeleteSettings, BeyondSettings, NewColumnSettings, CaptureSettings):
    """How the rows of one table get from Postgres to SQL Server.

    Raises pydantic.ValidationError naming the field for anything unknown or contradictory.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: PipelineName
    source: SourceTable
    sink: SinkTable
    columns: dict[Identifier, str | Column] = Field(
        min_length=1, description="name in the sink to type, as in Postgres DDL, or to a `Column`"
    )
    key: list[str] = Field(description="the columns that identify a row; may be empty where `mode` is replace")
    version: str | None = Field(
        default=None,
        description="the watermark column: grows whenever the row changes; of a type of `VERSION_TYPES`",
    )
    mode: Mode = Field(
        default="incremental",
        description="incremental: what changed after the watermark; append: the same, of rows that never change;"
        " replace: the whole table, where there is no version",
    )
    version_zone: str | None = Field(
        default=None, description="of a `timestamp` or `date`: the zone it is written in, as Asia/Tokyo; none: UTC"
    )
    unreachable_versions: Literal["warn", "refuse"] = Field(
        default="warn", description="what becomes of a run that finds versions in the future or at infinity"
    )
    filter: str = Field(description="a SQL boolean expression; the rows it is true for are kept")
    look_back: kinds.Reach = Field(
        default=kinds.DEFAULT_LOOK_BACK,
        validate_default=True,
        description="how far behind the watermark a run reads again, for late commits; of numbers 1000 by default",
    )
    partition_size: PositiveInt = Field(default=500_000, description="rows of the source in one partition, at most")
    tolerated_rejects: NonNegativeInt = Field(default=0, description="rows of one run that may break the type rules")
    steps: Literal["separate", "fused"] = Field(
        default="separate", description="fused: extract, filter and load in one pod, `etl run`"
    )
    loaded_at: Identifier | None = Field(
        default=None, description="the sink's column for the time at which a load wrote the row last; none: no column"
    )
    sensitive: list[str] = Field(
        default=[], description="columns of personal data: messages, rejects and labels show masks of their values"
    )
    pushdown: bool = Field(
        default=False, description="the filter runs at the source too: less traffic, the dropped rows are only counted"
    )

    @field_validator("columns")
    @classmethod
    def _columns(cls, columns: dict[str, str | Column]) -> dict[str, str | Column]:
        check_columns(columns)
        return columns

    @field_validator("look_back", mode="before")
    @classmethod
    def _look_back(cls, given: Any, info: ValidationInfo) -> kinds.Reach:
        column = info.data.get("columns", {}).get(info.data.get("version"), "timestamptz")
        type_ = parse_column_type(declared_type(column))
        return kinds.read_look_back(kinds.VERSION_TYPES.get(type_.name, "time"), given)

    @model_validator(mode="after")
    def _fits_in_a_pod(self) -> Self:
        text = self.model_dump_json()
        if len(text.encode()) > _MOST_BYTES:
            raise ValueError(f"the whole is {len(text.encode())} bytes as JSON; {_MOST_BYTES} can be handed to a step")
        if re.search(r"\{[{%#]", text):
            raise ValueError("{{, {% and {# may not stand in a pipeline: Airflow would take them for a template")
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        types = self.types
        if len(set(self.key)) != len(self.key):
            raise ValueError("key: a column is named twice")
        check_mode(self.mode, self.key, self.version, needs_version=not self.is_log)
        self.check_capture(self.mode, self.deletes, self.columns, self.expressions)
        self.check_deletes(self.mode, self.key, types)
        self._check_loaded_at()
        self.check_new_columns(self.mode, types)
        for name in [*self.key, *filter(None, [self.version])]:
            role = "version" if name == self.version else "key"
            if name not in types:
                raise ValueError(f"{role}: '{name}' is not among the columns")
            if types[name].nullable:
                raise ValueError(f"{role}: '{name}' may not be null")
        for name in self.key:
            if not types[name].row.can_be_key:
                raise ValueError(f"key: '{name}' is {types[name]}, which SQL Server cannot index; a varchar(450) can")
            if name in self.constants and not (types[name].is_text or types[name].is_integer):
                raise ValueError(f"key: '{name}' is a constant {types[name]}; in the key it is a text or an integer")
        if self.key and len(self.own_key) == len(self.key):
            raise ValueError("key: its columns are constants, so that all rows would be one")
        check_limits(types, self.key)
        check_sensitive(self.sensitive, self.columns, self.reads, self.version)
        if self.version is None:
            if self.version_zone is not None:
                raise ValueError("version_zone: there is no version")
        else:
            if self.version in self.constants:
                raise ValueError(f"version: '{self.version}' is a constant, which does not grow")
            kinds.check_version(self.version, types[self.version], self.version_zone)
        try:
            filtered = predicate_columns(parse_predicate(self.filter, types))
        except ValueError as error:
            raise ValueError(f"filter: {error}") from error
        self.check_beyond(types, {*self.key, self.version}, filtered)
        return self

    def _check_loaded_at(self) -> None:
        if self.loaded_at is None:
            return
        others = [*self.columns, *([self.mark_column] if self.deletes == "mark" else [])]
        if as_sql_server_sees(self.loaded_at) in map(as_sql_server_sees, others):
            raise ValueError(f"loaded_at: '{self.loaded_at}' is the name of another column; give the time its own")

    @property
    def version_column(self) -> str:
        """The version's name. Raises ValueError where there is none, which only mode replace allows."""
        if self.version is None:
            raise ValueError(f"{self.name}: a pipeline of mode {self.mode} has no version.")
        return self.version

    @property
    def version_kind(self) -> kinds.Kind:
        """Whether versions are times, days or numbers; without one a run has the time of its snapshot."""
        return kinds.VERSION_TYPES[self.types[self.version].name] if self.version else "time"

    @property
    def reach(self) -> kinds.Reach:
        """The distance from the watermark back to the version after which a window begins."""
        return kinds.reach(self.version_kind, self.look_back)

    @property
    def has_sensitive_key(self) -> bool:
        """Whether the key has a sensitive column: then partitions are not cut by key values."""
        return not set(self.key).isdisjoint(self.sensitive)

    def with_sensitive_key(self) -> Self:
        """The same pipeline with the columns of its key among the sensitive ones."""
        added = [name for name in self.key if name not in self.sensitive]
        return self.model_copy(update={"sensitive": [*self.sensitive, *added]})

    def of_keys(self) -> "Pipeline":
        """A pipeline of the columns by which keys are compared: key, version, and those of the filter.

        It reads all rows, whatever their version, and tolerates rejects: a row whose values cannot be carried is there.
        """
        names = {*self.key, self.version, *predicate_columns(self.predicate)}
        return Pipeline.model_validate(
            {
                **self.model_dump(include={"name", "source", "sink", "key", "filter", "pushdown"}),
                "columns": {name: declared for name, declared in self.columns.items() if name in names},
                "mode": "replace",
                "tolerated_rejects": sys.maxsize,
                "sensitive": [name for name in self.sensitive if name in names],
            }
        )

    def of_images(self) -> "Pipeline":
        """The pipeline of a window of the log: its rows are images, with their place in the order of commits."""
        taken = self.model_dump(include={"name", "source", "sink", "key", "filter", "tolerated_rejects", "sensitive"})
        return Pipeline.model_validate({**taken, "columns": {**self.columns, IMAGE: "bigint"}, "mode": "replace"})

    @cached_property
    def types(self) -> dict[str, ColumnType]:
        """The parsed type of each column, in the order declared."""
        return {name: parse_column_type(declared_type(column)) for name, column in self.columns.items()}

    @cached_property
    def sources(self) -> dict[str, str]:
        """The name at the source of each column that is one there."""
        found = {name: source_name(name, column) for name, column in self.columns.items()}
        return {name: source for name, source in found.items() if source is not None}

    @cached_property
    def constants(self) -> dict[str, str]:
        """The values of the columns that have one in all rows."""
        found = {name: constant(column) for name, column in self.columns.items()}
        return {name: value for name, value in found.items() if value is not None}

    @cached_property
    def expressions(self) -> dict[str, Term]:
        """The parsed expressions of the columns that the source computes; their columns are those of the source."""
        found = {name: expression(column) for name, column in self.columns.items()}
        return {name: term for name, term in found.items() if term is not None}

    @cached_property
    def reads(self) -> dict[str, set[str]]:
        """The columns of the source from which each column that is no constant has its values."""
        computed = {name: predicate_columns(term) for name, term in self.expressions.items()}
        return {name: {source} for name, source in self.sources.items()} | computed

    @property
    def own_key(self) -> dict[str, str]:
        """The constants of its key. Of several pipelines with one sink table they say whose a row is."""
        return {name: self.constants[name] for name in self.key if name in self.constants}

    def is_apart_from(self, other: "Pipeline") -> bool:
        """Whether no row of a sink table can be of both pipelines."""
        return any(other.own_key.get(name, value) != value for name, value in self.own_key.items())

    @property
    def sink_identity(self) -> str:
        """The sink table's name, folded: collations that ignore case accept it in several spellings."""
        return f"{as_sql_server_sees(self.sink.schema_name)}.{as_sql_server_sees(self.sink.table)}"

    @cached_property
    def predicate(self) -> Term:
        """The parsed filter."""
        return parse_predicate(self.filter, self.types)
