"""The rows of a run: a window of versions, cut into partitions by key."""

import hashlib
from datetime import datetime
from typing import Literal, Self, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    model_validator,
)

from etl.model.lsn import Lsn
from etl.model.pipeline import Pipeline
from etl.model.version_kind import UtcDatetime, Version, is_after


class Settled(BaseModel):
    """Up to which version the source's transactions have ended, as a run records it.

    A row that is not in the sink yet is of a transaction with the id `xmax` or later, and then its version is after
    `pending`; or else its version is after `value`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: Version
    pending: Version
    xmax: int


class Window(BaseModel):
    """The versions a run covers: later than `low` (from the beginning where it is None), up to and with `high`.

    `refresh`: which rows of the sink are overwritten: those at an older version (`newer`), also those that differ at
    the same version (`differing`), or also those at a newer version (`all`). `settled` is recorded beside the watermark
    when the run adds up. `at`: of versions that are numbers, the time up to which the source's snapshot is complete.
    `fills`: the run fills columns that were added to the sink table, which is recorded then.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    low: Version | None = None
    high: Version
    at: UtcDatetime | None = None
    refresh: Literal["newer", "differing", "all"] = "newer"
    settled: Settled | None = None
    fills: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low is not None and type(self.low) is not type(self.high):
            raise ValueError(f"low ({self.low}) and high ({self.high}) must be of one kind")
        if isinstance(self.high, int) and self.at is None:
            raise ValueError("at: a window of numbers has the time of its snapshot")
        if self.low is not None and not is_after(self.high, self.low):
            raise ValueError(f"low ({self.low}) must be before high ({self.high})")
        return self

    @property
    def time(self) -> datetime:
        """The time up to which the sink is complete after a run over this window; of a day its midnight."""
        return self.high if isinstance(self.high, datetime) else cast("datetime", self.at)


KEYS: Literal["keys"] = "keys"
"""Kind and id of the partition by which all keys are compared."""
LOG: Literal["log"] = "log"
"""Kind and id of the partition of changes from the write-ahead log."""


class Origin(BaseModel):
    """The log that a position is of: in another one the same position means something else.

    `system` and `timeline` are of the server; `publication` is the fingerprint of the publication and the table in it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    system: str
    timeline: int
    publication: str


class LogWindow(BaseModel):
    """The changes of a run: of the transactions whose commit is at `low` or later, and before `high`.

    `low` is the position in the ledger when the run was planned, None where there is none. Of a partition of rows,
    which is a part of a snapshot, `high` is the position from which changes are read after it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    low: Lsn | None
    high: Lsn
    origin: Origin


class Partition(BaseModel):
    """A range of keys within a window: after the key `lower`, up to and with the key `upper`; None is open.

    Key values are as Postgres writes them as text, in the order of the pipeline's key. If keys are sensitive there are
    none: a hash of the key divides the rows into n shares, and `share` is (i, n), i from 0 on. `keys`: only these rows.

    `kind`: `rows` are loaded; of `keys` the sink's rows are found that the source does not have any more; of `log` the
    images of changed rows are loaded. `log`: the positions of a run that reads the write-ahead log, or begins to.
    `accept_deletes`: however many rows of the sink are gone at the source, they are deleted or marked.
    `added`: columns of the source that this run moves and the pipeline does not list, with their types.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    window: Window
    kind: Literal["rows", "keys", "log"] = "rows"
    id: str = Field(default="all", pattern=r"^[a-z0-9]{1,16}$")
    lower: list[str] | None = None
    upper: list[str] | None = None
    share: tuple[NonNegativeInt, PositiveInt] | None = None
    keys: list[list[str]] | None = None
    expected_rows: NonNegativeInt | None = None
    accept_deletes: bool = False
    added: dict[str, str] = {}
    log: LogWindow | None = None

    def completed(self, pipeline: Pipeline) -> Pipeline:
        """The pipeline with the columns that plan has added. Raises ConfigurationError if it cannot have them."""
        return pipeline.with_columns(self.added)


_OF_NO_ROW = {"sensitive", "deletes_every", "most_deleted", "on_new_source_column", "omit"}
"""Settings that do not change which rows are moved; columns that plan adds are in each partition."""


def fingerprint(pipeline: Pipeline, partition: Partition) -> str:
    """A hash of pipeline and partition, 16 hexadecimal digits: staged files of another definition or plan are refused.

    Defaults are excluded, so that a new setting does not invalidate runs in flight; so are those that do not change
    which rows are moved.
    """
    return _hash(
        _definition(pipeline),
        partition.model_dump_json(exclude={"expected_rows": True, "window": {"settled", "at"}}, exclude_defaults=True),
    )


def definition(pipeline: Pipeline) -> str:
    """A hash of a pipeline, 16 hexadecimal digits, without the settings that do not change which rows are moved."""
    return _hash(_definition(pipeline))


def _definition(pipeline: Pipeline) -> str:
    return pipeline.model_dump_json(exclude_defaults=True, exclude=_OF_NO_ROW)


def _hash(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
