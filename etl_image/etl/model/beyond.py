"""The setting `beyond`: what becomes of values that the type of SQL Server does not reach, such as an infinite date."""

from collections.abc import Collection, Mapping
from typing import Literal

from pydantic import BaseModel, Field

from etl.model.column_types import ColumnType

_CHECKS = ("date", "time", "timestamp", "finite", "digits")


class BeyondSettings(BaseModel):
    """The setting of a pipeline for values out of range."""

    beyond: dict[str, Literal["refuse", "null", "edge"]] = Field(
        default={}, description="by column: refuse (as without), or carry as null or as the last value of the type"
    )

    @property
    def adjusted_columns(self) -> list[str]:
        """The columns of which values may be changed on the way."""
        return [name for name, rule in self.beyond.items() if rule != "refuse"]

    def check_beyond(
        self, types: Mapping[str, ColumnType], key: Collection[str | None], filtered: Collection[str]
    ) -> None:
        """Raise ValueError, with a sentence, for a column whose values may not be changed. `key`: with the version."""
        for name, rule in self.beyond.items():
            if name not in types:
                raise ValueError(f"beyond: '{name}' is not among the columns")
            if types[name].row.check not in _CHECKS:
                raise ValueError(f"beyond: '{name}' is {types[name]}, which has no value out of range; leave it away")
            if name in key:
                raise ValueError(f"beyond: '{name}' is of the key or the version, whose values stay as they are")
            if name in filtered and rule != "refuse":
                raise ValueError(f"beyond: the filter reads '{name}', and would decide about the changed value")
            if rule == "null" and not types[name].nullable:
                raise ValueError(
                    f"beyond: it says null for '{name}', but the column is NOT NULL; declare it '{types[name]} null'"
                )
