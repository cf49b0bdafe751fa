"""Counts kept rows of which a value was changed because the sink's type does not reach it (`beyond`)."""

from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc
import structlog

from etl.steps.context import StepContext


class Adjusted:
    """The changed values of one partition: rows, values by column, and the first row of each column."""

    def __init__(self, work: StepContext) -> None:
        self.rows = 0
        self._work = work
        self._values: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def add(self, kept: pa.Table, listed: str) -> None:
        """Count the kept rows of a batch; the column `listed` has the names of changed columns."""
        changed = kept.filter(pc.is_valid(kept.column(listed)))
        self.rows += changed.num_rows
        places = [list(self._work.pipeline.columns).index(name) for name in self._work.pipeline.key]
        for row, names in enumerate(changed.column(listed).to_pylist()):
            for name in names.split("\t"):
                self._values[name] += 1
                if name not in self._first:
                    key = [changed.column(place)[row].as_py() for place in places]
                    self._first[name] = self._work.mask.row(key)

    def log(self) -> None:
        """Log a line for each column of which values were changed."""
        rules = {"null": "null", "edge": "the first or last value of the type"}
        for name, count in self._values.items():
            structlog.get_logger().warning(
                f"filter: {count} values of {name} were out of range and set to"
                f" {rules[self._work.pipeline.beyond[name]]}, as beyond says; the first in row {self._first[name]}"
            )
