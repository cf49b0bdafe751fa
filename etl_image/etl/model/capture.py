"""Capture: how a pipeline learns of changes, by versions or from the write-ahead log; which settings go together."""

import re
from collections.abc import Collection
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field

from etl.errors import printable
from etl.model.modes import Mode
from etl.model.names import as_sql_server_sees, check_identifier

IMAGE = "etl_image"
"""The column that staged rows have beside those of a pipeline: the place of an image in the order of commits."""
_GIB = 1 << 30


def _check_slot(name: str) -> str:
    if name and not re.fullmatch(r"[a-z0-9_]{1,63}", name):
        raise ValueError(f"'{printable(name)}' is no name of a replication slot (a to z, 0 to 9 and _; 63 at most)")
    return name


def _check_publication(name: str) -> str:
    return check_identifier(name) if name else name


class CaptureSettings(BaseModel):
    """The settings of a pipeline for reading changes from the source's write-ahead log."""

    capture: Literal["version", "log"] = Field(
        default="version",
        description="version: rows whose version is new; log: every change, from the source's write-ahead log",
    )
    slot: Annotated[str, AfterValidator(_check_slot)] = Field(
        default="", description="of `capture` log: the replication slot; none: `etl_` and the pipeline's name"
    )
    publication: Annotated[str, AfterValidator(_check_publication)] = Field(
        default="", description="of `capture` log: the publication; none: `etl_` and the pipeline's name"
    )
    max_wal_per_run: int = Field(
        default=_GIB, ge=1 << 20, le=1 << 50, description="of `capture` log: bytes of the log that a run reads at most"
    )

    @property
    def is_log(self) -> bool:
        """Whether changes are read from the write-ahead log."""
        return self.capture == "log"

    @property
    def slot_name(self) -> str:
        """The replication slot at the source, which only this pipeline uses."""
        return self.slot or f"etl_{getattr(self, 'name', '')}"

    @property
    def publication_name(self) -> str:
        """The publication at the source. It has the table without a row filter, and publishes inserts and updates."""
        return self.publication or f"etl_{getattr(self, 'name', '')}"

    def check_capture(self, mode: Mode, deletes: str, columns: Collection[str], expressions: Collection[str]) -> None:
        """Raise ValueError, with a sentence, for settings that contradict each other or are not supported together."""
        if not self.is_log:
            for name in ("slot", "publication", "max_wal_per_run"):
                if self._differs(name):
                    raise ValueError(f"{name}: capture is version, so the log is not read; leave it away")
            return
        if mode != "incremental":
            raise ValueError(f"capture: log reads changes, and mode is {mode}; leave the mode away")
        if deletes != "keep":
            raise ValueError(f'capture: log keeps rows that are gone, and deletes is {deletes}; say deletes="keep"')
        if expressions:
            raise ValueError(
                f"capture: '{printable(min(expressions))}' is an expression, which the log does not have; leave the"
                " column out"
            )
        if as_sql_server_sees(IMAGE) in map(as_sql_server_sees, columns):
            raise ValueError(f"capture: log has a column '{IMAGE}' of its own; give that of the pipeline another name")
        for name, default, why in (
            ("pushdown", False, "each image is judged in the step"),
            ("beyond", {}, "values arrive as they are"),
        ):
            if getattr(self, name, default) != default:
                raise ValueError(f"{name}: capture is log, and {why}; leave it away")
        if getattr(self, "on_new_source_column", "ignore") == "add":
            raise ValueError("on_new_source_column: capture is log, which adds no column on its own; say warn")

    def _differs(self, name: str) -> bool:
        return bool(getattr(self, name) != CaptureSettings.model_fields[name].default)
