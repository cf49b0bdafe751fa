"""The modes of a pipeline, and what becomes of rows that the source deleted: which settings go together."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Literal

from pydantic import BaseModel, Field

from etl.model.names import Identifier, as_sql_server_sees

Mode = Literal["incremental", "append", "replace"]


class DeleteSettings(BaseModel):
    """The settings of a pipeline for rows of the sink that the source does not have any more."""

    deletes: Literal["keep", "mark", "delete"] = Field(
        default="keep", description="what becomes of rows of the sink that the source does not have any more"
    )
    deletes_every: timedelta = Field(
        default=timedelta(0),
        ge=timedelta(0),
        le=timedelta(days=36500),
        description="how often all keys are compared to find them; 0: in each run",
    )
    most_deleted: float = Field(
        default=0.5, ge=0, le=1, description="the share of the sink's rows by which one run may make them fewer"
    )
    mark_column: Identifier = Field(
        default="deleted_at", description="of `deletes` mark: the sink's column for the time of it"
    )

    def check_deletes(self, mode: Mode, key: Sequence[str], columns: Iterable[str]) -> None:
        """Raise ValueError, with a sentence, for settings that contradict each other or say nothing."""
        if self.deletes != "mark" and self._is_given("mark_column"):
            raise ValueError(f"mark_column: deletes is {self.deletes}, so no row is marked; leave it away")
        if self.deletes == "keep":
            for name in ("deletes_every", "most_deleted"):
                if self._is_given(name):
                    raise ValueError(f"{name}: deletes is keep, so no row is deleted or marked; leave it away")
        if self.deletes == "mark" and as_sql_server_sees(self.mark_column) in map(as_sql_server_sees, columns):
            raise ValueError(f"mark_column: '{self.mark_column}' is among the columns; give the mark another name")
        if mode == "replace" and self._is_given("deletes_every"):
            raise ValueError("deletes_every: mode replace compares all rows in each run; leave it away")
        if mode == "append" and self.deletes != "keep":
            raise ValueError(f"deletes: mode append only adds rows, and deletes is {self.deletes}; leave it away")
        if not key and self.deletes != "delete":
            raise ValueError(
                f'deletes: without a key the sink\'s rows are replaced as a whole, which is deletes="delete", not'
                f" {self.deletes}"
            )

    @property
    def comparing_runs(self) -> str:
        """The runs of an incremental pipeline that read the keys of all rows, as the begin of a sentence."""
        if not self.deletes_every:
            return "each run but the first"
        return "one run a day" if self.deletes_every == timedelta(days=1) else f"one run in {self.deletes_every}"

    def _is_given(self, name: str) -> bool:
        return bool(getattr(self, name) != DeleteSettings.model_fields[name].default)


def check_mode(mode: Mode, key: Sequence[str], version: str | None, *, needs_version: bool = True) -> None:
    """Raise ValueError, with a sentence, for a mode that its key or version contradicts."""
    if mode == "replace":
        if version is not None:
            raise ValueError("version: mode replace reads the whole table each time and needs none; leave it away")
    elif version is None and needs_version:
        raise ValueError('version: there is none; a table without one can be loaded with mode="replace"')
    elif not key:
        raise ValueError('key: it is empty; a table without one can be loaded with mode="replace"')
