"""The pipeline: source table, columns, filter, sink table. Checked when the DAG is parsed and when a step starts."""

import re
import sys
from collections.abc import Callable
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationInfo,
    field_validator,
    model_validator,
)

from etl.errors import printable
from etl.model import version_kind as kinds
from etl.model.beyond import BeyondSettings
from etl.model.column_types import ColumnType, parse_column_type
from etl.model.limits import check_limits
from etl.model.modes import DeleteSettings, Mode, check_mode
from etl.model.names import Identifier, PipelineName, as_sql_server_sees, check_identifier
from etl.model.new_columns import NewColumnSettings
from etl.model.predicate import parse_predicate, predicate_columns
from etl.model.predicate_values import Term
from etl.model.table_name import split_sink, split_source, written

OWN_SCHEMAS = ("etl", "etl_staging")
"""The loader's schemas in the sink: of the ledger, and of the staging tables."""
_SYSTEM_SCHEMAS = ("sys", "information_schema", "guest")
_MOST_COLUMNS = 1024
_LONGEST_SINK_NAME = 128  # in UTF-16 code units, as SQL Server's type sysname
# An environment variable has 128 KiB at most in Linux.
_MOST_BYTES = 100_000


class TableName(BaseModel):
    """A table and its schema, without quotes; printed so that both databases' quoting rules read it back as this."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_name: str
    table: str

    def __str__(self) -> str:
        return written(self.schema_name, self.table)


def _split(split: Callable[[str], tuple[str, str]]) -> BeforeValidator:
    return BeforeValidator(
        lambda given: (
            dict(zip(("schema_name", "table"), split(given), strict=True)) if isinstance(given, str) else given
        )
    )


def _check_source(table: TableName) -> TableName:
    check_identifier(table.schema_name)
    check_identifier(table.table)
    return table


def _check_sink(table: TableName) -> TableName:
    for name in (table.schema_name, table.table):
        units = len(name.encode("utf-16-le", "surrogatepass")) // 2
        if not 1 <= units <= _LONGEST_SINK_NAME or not name.isprintable():
            allowed = f"1 to {_LONGEST_SINK_NAME} characters, printable"
            raise ValueError(f"'{printable(name)}' is not a name that SQL Server can have ({allowed})")
    schema = as_sql_server_sees(table.schema_name)
    if schema in OWN_SCHEMAS:
        raise ValueError(f"the schema {table.schema_name} is the loader's own; load into another")
    if schema in _SYSTEM_SCHEMAS:
        raise ValueError(f"the schema {table.schema_name} is SQL Server's own; load into another")
    if table.table.startswith("#"):
        raise ValueError(f"{table} would be a temporary table, which ends with the connection; leave the # away")
    return table


SourceTable = Annotated[TableName, _split(split_source), AfterValidator(_check_source)]
"""A table of Postgres, also given as a text such as `public.orders` or `"public"."orders"`."""
SinkTable = Annotated[TableName, _split(split_sink), AfterValidator(_check_sink)]
"""A table of SQL Server, also given as a text such as `dbo.orders` or `[dbo].[orders]`."""


class Pipeline(DeleteSettings, BeyondSettings, NewColumnSettings):
    """How the rows of one table get from Postgres to SQL Server.

    Raises pydantic.ValidationError naming the field for anything unknown or contradictory.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: PipelineName
    source: SourceTable
    sink: SinkTable
    columns: dict[Identifier, str] = Field(min_length=1, description="name to type, as in Postgres DDL")
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
    sensitive: list[str] = Field(
        default=[], description="columns of personal data: messages, rejects and labels show masks of their values"
    )
    pushdown: bool = Field(
        default=False, description="the filter runs at the source too: less traffic, the dropped rows are only counted"
    )

    @field_validator("columns")
    @classmethod
    def _columns(cls, columns: dict[str, str]) -> dict[str, str]:
        if len(columns) > _MOST_COLUMNS:
            raise ValueError(f"{len(columns)} columns; a table of SQL Server has {_MOST_COLUMNS} at most")
        for name, declaration in columns.items():
            try:
                parse_column_type(declaration)
            except ValueError as error:
                raise ValueError(f"column {name}: {error}") from error
        seen = [as_sql_server_sees(name) for name in columns]
        twice = [name for name, alike in zip(columns, seen, strict=True) if seen.count(alike) > 1]
        if twice:
            raise ValueError(
                f"{', '.join(map(repr, sorted(twice)))} differ in case only, or in other forms of the same letters or"
                " spaces at the end, which SQL Server does not tell apart"
            )
        return columns

    @field_validator("look_back", mode="before")
    @classmethod
    def _look_back(cls, given: Any, info: ValidationInfo) -> kinds.Reach:
        declaration = info.data.get("columns", {}).get(info.data.get("version"), "timestamptz")
        return kinds.read_look_back(kinds.VERSION_TYPES.get(parse_column_type(declaration).name, "time"), given)

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
        check_mode(self.mode, self.key, self.version)
        self.check_deletes(self.mode, self.key, types)
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
        check_limits(types, self.key)
        self._check_sensitive()
        if self.version is None:
            if self.version_zone is not None:
                raise ValueError("version_zone: there is no version")
        else:
            kinds.check_version(self.version, types[self.version], self.version_zone)
        try:
            filtered = predicate_columns(parse_predicate(self.filter, types))
        except ValueError as error:
            raise ValueError(f"filter: {error}") from error
        self.check_beyond(types, {*self.key, self.version}, filtered)
        return self

    def _check_sensitive(self) -> None:
        if len(set(self.sensitive)) != len(self.sensitive):
            raise ValueError("sensitive: a column is named twice")
        for name in self.sensitive:
            if name not in self.types:
                raise ValueError(f"sensitive: '{printable(name)}' is not among the columns")
        if self.version and self.version in self.sensitive:
            raise ValueError(
                f"sensitive: '{self.version}' is the version, which windows, the watermark and the audit show"
            )

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

    @cached_property
    def types(self) -> dict[str, ColumnType]:
        """The parsed type of each column, in the order declared."""
        return {name: parse_column_type(declaration) for name, declaration in self.columns.items()}

    @property
    def sink_identity(self) -> str:
        """The sink table's name, folded: collations that ignore case accept it in several spellings."""
        return f"{as_sql_server_sees(self.sink.schema_name)}.{as_sql_server_sees(self.sink.table)}"

    @cached_property
    def predicate(self) -> Term:
        """The parsed filter."""
        return parse_predicate(self.filter, self.types)
