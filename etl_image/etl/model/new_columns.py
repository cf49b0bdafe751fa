"""Columns of the source that a pipeline does not list: ignored, named by plan, or moved as if they were listed."""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Literal, Self

from pydantic import BaseModel, Field, ValidationError

from etl.errors import ConfigurationError, printable
from etl.model.column_types import parse_column_type
from etl.model.modes import Mode
from etl.model.names import Identifier
from etl.model.source_type import SourceType, SourceTypes

_OF_DECIMAL = re.compile(r"decimal\((\d+),(\d+)\)")
_OF_TEXT = re.compile(r"(n(?:var)?char)\((\d+|max)\)")


class NewColumnSettings(BaseModel):
    """The settings of a pipeline for columns of the source that it does not list."""

    on_new_source_column: Literal["ignore", "warn", "add"] = Field(
        default="ignore",
        description="what becomes of columns of the source that are not listed; warn: plan names them; add: they are"
        " moved as if they were",
    )
    omit: list[Identifier] = Field(
        default=[], description="columns of the source that `on_new_source_column` neither names nor adds"
    )

    def check_new_columns(self, mode: Mode, columns: Collection[str]) -> None:
        """Raise ValueError, with a sentence, for settings that contradict each other or say nothing."""
        if self.omit and self.on_new_source_column == "ignore":
            raise ValueError(
                "omit: on_new_source_column is ignore, so no other column is named or added; leave it away"
            )
        if len(set(self.omit)) != len(self.omit):
            raise ValueError("omit: a column is named twice")
        for name in self.omit:
            if name in columns:
                raise ValueError(f"omit: '{printable(name)}' is among the columns")
        if mode == "append" and self.on_new_source_column == "add":
            raise ValueError(
                "on_new_source_column: mode append changes no row that is there, so it fills no column; say warn"
            )

    def with_columns(self, added: Mapping[str, str]) -> Self:
        """The pipeline of a run for which plan has added columns: it lists them, and adds no more.

        Where any column is sensitive these are, too. Raises ConfigurationError if a pipeline cannot have them.
        """
        settings = self.model_dump()
        new = {name: declared for name, declared in added.items() if name not in settings["columns"]}
        if not new:
            return self
        settings["columns"] |= new
        settings["sensitive"] += new if settings["sensitive"] else []
        settings |= {"on_new_source_column": "ignore", "omit": []}
        try:
            return self.model_validate(settings)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
            raise ConfigurationError(
                f"{settings['name']}: on_new_source_column would add {', '.join(map(printable, new))}: {problem}. Name"
                " in omit what is not to be added."
            ) from None


def declare(source: str, found: SourceTypes, in_sink: Mapping[str, str]) -> dict[str, str]:
    """The declarations of columns `found` in a source table that is named `source`; rows may lack their values.

    `in_sink`: the type of each column that the sink table has, as our DDL writes it. Such a column keeps its type, so
    that each run declares what the first one added. Raises ConfigurationError for a column that cannot be carried.
    """
    return {
        name: f"{_declaration(f'column {printable(name)} of {source}', name, each, in_sink.get(name))} null"
        for name, each in found.items()
    }


def _declaration(about: str, name: str, source: SourceType, present: str | None) -> str:
    advice = f'on_new_source_column would add it: name it in the pipeline, omit=["{printable(name)}"]'
    if source.refusal:
        raise ConfigurationError(f"{about} is {source.refusal}. {advice}.")
    declared = source.declaration_or_text()
    if present is None:
        return declared
    for each in (declared, *_of_sink(present)):
        column = parse_column_type(each)
        if column.tsql == present and source.is_carried_by(column):
            return each
    raise ConfigurationError(
        f"{about} is {source.written or source.name}, and the sink has it as {present}. Have it altered there: ALTER"
        f" COLUMN to {parse_column_type(declared).tsql} NULL. Or {advice}."
    )


def _of_sink(present: str) -> Iterator[str]:
    """The declaration, if a rule does not give it, of a column that is a decimal or a text in the sink."""
    if decimal := _OF_DECIMAL.fullmatch(present):
        yield f"numeric({decimal[1]},{decimal[2]})"
    if text := _OF_TEXT.fullmatch(present):
        yield "text" if text[2] == "max" else f"{text[1].removeprefix('n')}({text[2]})"
