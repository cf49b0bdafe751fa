"""The outcome of a verification: counts that add up, the verdict, and as text."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from etl.errors import DataError
from etl.model.verification import CLASSES, EXPECTED, FAULTS

_AT_SOURCE = ("missing", "older", "newer", "different", "pending")
"""Classes of which each row is at the source."""


@dataclass(frozen=True)
class Example:
    """A row of a class: its key as text, and its values on each side, none where it is not there."""

    kind: str
    key: str
    source: Mapping[str, str | None] | None
    sink: Mapping[str, str | None] | None


@dataclass(frozen=True)
class Outcome:
    """Rows on each side, the equal ones, and the number of each class."""

    pipeline: str
    run_id: str
    mode: str
    started_at: datetime
    ended_at: datetime
    equal: int
    source_rows: int
    sink_rows: int
    rejected: int
    classes: Mapping[str, int]
    watermark: str = ""
    low: str = ""
    notes: tuple[str, ...] = ()
    examples: tuple[Example, ...] = field(default=(), compare=False)
    keys_file: str = ""
    further_keys: int = 0
    repaired: int = 0

    @property
    def faults(self) -> int:
        """How many rows no later run would put right."""
        return sum(self.classes.get(name, 0) for name in FAULTS)

    @property
    def verdict(self) -> str:
        """`equal`, `as expected` where rows differ as they should, or `differs`."""
        if self.faults:
            return "differs"
        return "as expected" if any(self.classes.get(name, 0) for name in EXPECTED) else "equal"

    def check(self) -> None:
        """Raise DataError unless each row of the source is in one class."""
        counted = self.equal + sum(self.classes.get(name, 0) for name in _AT_SOURCE)
        if counted != self.source_rows:
            raise DataError(
                f"{self.pipeline}: the source has {self.source_rows} rows, but {counted} are in a class"
                f" ({self.equal} equal, {self.listed()}): verify it again, and report it if that comes again."
            )

    def listed(self) -> str:
        """The classes that have rows, as text."""
        names = [name for name in CLASSES if self.classes.get(name, 0)]
        return ", ".join(f"{self.classes[name]:,} {name}" for name in names) or "no difference"

    def sentence(self) -> str:
        """The outcome in one sentence."""
        return (
            f"{self.pipeline}: {self.source_rows:,} rows at the source, {self.sink_rows:,} in the sink,"
            f" {self.equal:,} equal; {self.listed()}."
        )

    def counts(self) -> dict[str, Any]:
        """The numbers of the ledger, by column."""
        classes = {name: self.classes.get(name, 0) for name in CLASSES}
        rows = {"source_rows": self.source_rows, "sink_rows": self.sink_rows, "equal_rows": self.equal}
        return {**rows, **classes, "rejected": self.rejected, "repaired": self.repaired}
