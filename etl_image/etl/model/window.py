"""The rows of a run: a window of versions, cut into partitions by key."""

import hashlib
from datetime import UTC, datetime
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    model_validator,
)

from etl.model.pipeline import Pipeline


def _in_utc(value: datetime) -> datetime:
    return value.astimezone(UTC)


UtcDatetime = Annotated[AwareDatetime, AfterValidator(_in_utc)]


class Settled(BaseModel):
    """Up to which version the source's transactions have ended, as a run records it; times are versions.

    A row that is not in the sink yet is of a transaction with the id `xmax` or later, and then its version is after
    `pending`; or else its version is after `value`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: UtcDatetime
    pending: UtcDatetime
    xmax: int


class Window(BaseModel):
    """The versions a run covers: later than `low` (from the beginning where it is None), up to and with `high`.

    `refresh`: which rows of the sink are overwritten: those at an older version (`newer`), also those that differ at
    the same version (`differing`), or also those at a newer version (`all`). `settled` is recorded beside the watermark
    when the run adds up.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    low: UtcDatetime | None = None
    high: UtcDatetime
    refresh: Literal["newer", "differing", "all"] = "newer"
    settled: Settled | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low is not None and self.low >= self.high:
            raise ValueError(f"low ({self.low.isoformat()}) must be before high ({self.high.isoformat()})")
        return self


KEYS: Literal["keys"] = "keys"
"""Kind and id of the partition by which all keys are compared."""


class Partition(BaseModel):
    """A range of keys within a window: after the key `lower`, up to and with the key `upper`; None is open.

    Key values are as Postgres writes them as text, in the order of the pipeline's key. If keys are sensitive there are
    none: a hash of the key divides the rows into n shares, and `share` is (i, n), i from 0 on. `keys`: only these rows.

    `kind`: `rows` are loaded; of `keys` the sink's rows are found that the source does not have any more; by `fill`
    columns that were added get their values in rows that were loaded before. `accept_deletes`: however many rows of
    the sink are gone at the source, they are deleted or marked.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    window: Window
    kind: Literal["rows", "keys", "fill"] = "rows"
    id: str = Field(default="all", pattern=r"^[a-z0-9]{1,16}$")
    lower: list[str] | None = None
    upper: list[str] | None = None
    share: tuple[NonNegativeInt, PositiveInt] | None = None
    keys: list[list[str]] | None = None
    expected_rows: NonNegativeInt | None = None
    accept_deletes: bool = False


def fingerprint(pipeline: Pipeline, partition: Partition) -> str:
    """A hash of pipeline and partition, 16 hexadecimal digits: staged files of another definition or plan are refused.

    Defaults are excluded, so that a new setting does not invalidate runs in flight; so are settings that do not change
    which rows are moved.
    """
    return _hash(
        _definition(pipeline),
        partition.model_dump_json(exclude={"expected_rows": True, "window": {"settled"}}, exclude_defaults=True),
    )


def definition(pipeline: Pipeline) -> str:
    """A hash of a pipeline, 16 hexadecimal digits, without the settings that do not change which rows are moved."""
    return _hash(_definition(pipeline))


def _definition(pipeline: Pipeline) -> str:
    return pipeline.model_dump_json(exclude_defaults=True, exclude={"sensitive", "deletes_every", "most_deleted"})


def _hash(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
