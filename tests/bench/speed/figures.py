"""The measurements, as kept in docs/benchmarks/figures.json, and the ratios computed from them."""

from statistics import median
from typing import NamedTuple, Self

from pydantic import BaseModel, Field, model_validator


class Run(BaseModel):
    """One run of a contender: seconds on the clock, megabytes of its largest process, seconds of CPU.

    `sink_cpu_s`: CPU time of the SQL Server double during the run; unknown for a given server.
    """

    seconds: float = Field(gt=0)
    peak_mb: float
    cpu_s: float
    sink_cpu_s: float | None = None


class Series(BaseModel):
    """The runs of one contender on one table: in a group of so many `rows`, of which it `moved` so many.

    `start`: a run with a single row, of a contender that is too slow to get all of them. With more rows its start would
    hardly count, so it is taken off.
    """

    contender: str
    table: str
    rows: int
    moved: int
    runs: list[Run] = Field(min_length=1)
    start: Run | None = None

    @model_validator(mode="after")
    def _no_more_than_there_are(self) -> Self:
        if not 0 < self.moved <= self.rows:
            raise ValueError(f"{self.contender}: {self.moved} of {self.rows} rows")
        return self

    @property
    def rates(self) -> list[float]:
        """Rows a second of each run."""
        start = self.start.seconds if self.start else 0
        return [self.moved / max(run.seconds - start, self._least(run)) for run in self.runs]

    @property
    def rates_of_client(self) -> list[float]:
        """Rates without the sink's CPU time.

        The double is slower at single statements than a server, which is no fault of the contenders that send them.
        """
        start = self.start or Run(seconds=1e-9, peak_mb=0, cpu_s=0)
        return [
            self.moved
            / max(run.seconds - start.seconds - (run.sink_cpu_s or 0) + (start.sink_cpu_s or 0), self._least(run))
            for run in self.runs
        ]

    def cpu_of_a_million(self) -> float:
        """Seconds of the contender's own CPU for a million rows: the median."""
        return median(self._cpu(run) for run in self.runs) / self.moved * 1e6

    def _cpu(self, run: Run) -> float:
        """Seconds of CPU, without those of the start."""
        return max(run.cpu_s - (self.start.cpu_s if self.start else 0), 1e-3)

    def _least(self, run: Run) -> float:
        """The least time of a run: its CPU time, which several cores may have shared."""
        return min(self._cpu(run), run.seconds)


class Figures(BaseModel):
    """Everything that one `make bench` has measured; `absent` says why a contender is not among it."""

    machine: str
    sink: str
    versions: dict[str, str]
    series: list[Series]
    absent: dict[str, str] = {}

    def find(self, contender: str, table: str, rows: int) -> Series | None:
        """The runs of one contender in a group."""
        asked = (contender, table, rows)
        return next((each for each in self.series if (each.contender, each.table, each.rows) == asked), None)

    def with_earlier(self, earlier: Self) -> Self:
        """These, and the groups of earlier figures that were not measured again.

        Raises ValueError where the earlier ones are of another machine, sink or version: they are not to be compared.
        """
        for what in ("machine", "sink", "versions"):
            if getattr(self, what) != getattr(earlier, what):
                raise ValueError(f"The figures there are of another {what.removesuffix('s')}: measure all anew.")
        kept = [each for each in earlier.series if (each.table, each.rows) not in self.groups()]
        order = sorted([*kept, *self.series], key=lambda each: (each.table, each.rows))
        return self.model_copy(update={"series": order, "absent": earlier.absent | self.absent})

    def groups(self) -> list[tuple[str, int]]:
        """The tables and sizes that were measured, in order."""
        return list(dict.fromkeys((each.table, each.rows) for each in self.series))


class Spread(NamedTuple):
    """The median of several values, the least and the greatest."""

    median: float
    low: float
    high: float


def spread(values: list[float]) -> Spread:
    """The spread of one or more values."""
    return Spread(median(values), min(values), max(values))


def speed_ratio(ours: Series, other: Series) -> Spread:
    """How many times as fast, each run compared with that of the same round: the machine's pace drifts."""
    return spread([a / b for a, b in zip(ours.rates, other.rates, strict=False)])


def least_ratio(ours: Series, other: Series) -> Spread:
    """The same, with all that the sink did for the other for nothing, and our own part of it counted."""
    return spread([a / b for a, b in zip(ours.rates, other.rates_of_client, strict=False)])


def growth(small: Series, large: Series) -> Spread:
    """The time for a row at the larger size, by that at the smaller: 1 is linear growth."""
    return spread([a / b for a, b in zip(small.rates, large.rates, strict=False)])


def slower_limit(figures: Figures, table: str, rows: int, limits: list[str]) -> Series | None:
    """The lower of the raw limits of both sides; None if one of them was not measured."""
    found = [series for name in limits if (series := figures.find(name, table, rows))]
    return min(found, key=lambda series: median(series.rates)) if len(found) == len(limits) else None


def number(value: float) -> str:
    """A number with the digits that say something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def told(ratio: Spread) -> str:
    """A ratio with its spread, as text for a table."""
    return f"{number(ratio.median)} ({number(ratio.low)} to {number(ratio.high)})"
