"""The scope of a verification: which columns are compared, and from which version on rows are not due yet."""

import sys
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from etl.model.pipeline import Pipeline
from etl.model.predicate import predicate_columns
from etl.model.version_kind import Version

Mode = Literal["quick", "deep"]


@dataclass(frozen=True)
class Scope:
    """A pipeline, the columns of it that are compared, and the state of the sink before anything was read.

    `low`: versions after it are read again by the next run; None where nothing is due. `has_mark`: whether the sink
    table has the column of marks. `is_settled`: of mode replace, whether the source is as the last run read it.
    """

    pipeline: Pipeline
    mode: Mode
    columns: tuple[str, ...]
    unfilled: tuple[str, ...] = ()
    low: Version | None = None
    has_mark: bool = True
    is_settled: bool = True

    @cached_property
    def reading(self) -> Pipeline:
        """A pipeline that reads all rows of the source, whatever their version is, with the columns that are needed."""
        return _reading(self.pipeline, {*self.columns, *predicate_columns(self.pipeline.predicate)})

    @cached_property
    def of_keys(self) -> Pipeline:
        """A pipeline that reads the keys of all rows of the source, without the filter."""
        return _reading(self.pipeline, set(self.pipeline.key), filter="true", pushdown=False)

    @cached_property
    def whole(self) -> Pipeline:
        """A pipeline that reads whole rows of the source."""
        return _reading(self.pipeline, set(self.pipeline.columns))

    @cached_property
    def without_filter(self) -> Pipeline:
        """A pipeline that reads whole rows of the source, also those that the filter does not keep."""
        return _reading(self.pipeline, set(self.pipeline.columns), filter="true", pushdown=False)


def choose_columns(pipeline: Pipeline, mode: Mode, unfilled: Collection[str]) -> tuple[str, ...]:
    """The columns that are compared: `quick` key and version, `deep` all; without those that no run has filled."""
    wanted = {*pipeline.key, pipeline.version} if mode == "quick" and pipeline.key else {*pipeline.columns}
    return tuple(name for name in pipeline.columns if name in wanted and name not in unfilled)


def _reading(pipeline: Pipeline, names: Collection[str], **changes: object) -> Pipeline:
    given = pipeline.model_dump(include={"name", "source", "sink", "key", "filter", "pushdown"})
    return Pipeline.model_validate(
        {
            **given,
            "columns": {name: declared for name, declared in pipeline.columns.items() if name in names},
            "beyond": {name: rule for name, rule in pipeline.beyond.items() if name in names},
            "mode": "replace",
            "deletes": "keep" if pipeline.key else "delete",
            # Rows that cannot be carried are counted, and are no fault of the sink.
            "tolerated_rejects": sys.maxsize,
            "sensitive": [name for name in pipeline.sensitive if name in names],
            **changes,
        }
    )
