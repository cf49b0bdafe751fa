"""The measurements at each size, and how long they will take."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.bench.speed.contenders import CONTENDERS, COPY, NAIVE, OURS, READ, Contender
from tests.bench.speed.figures import Series
from tests.bench.speed.tables import NARROW, WIDE, Shape

_SLOW_UP_TO = {"narrow": 1_000_000, "wide": 10_000}
"""Those who are too slow to get all the rows are measured once, at the largest size up to this one."""
_LARGE = {"narrow": 10_000_000, "wide": 50_000}
_AT_LARGE = (OURS, READ, COPY)
"""The contenders at the largest size, where a run takes minutes; and the naive script, on which there is a claim."""


@dataclass(frozen=True)
class Group:
    """One table of so many rows, and who moves it."""

    shape: Shape
    rows: int
    contenders: tuple[Contender, ...]


def groups(narrow: Iterable[int], wide: Iterable[int], only: Iterable[str] = (), *, full: bool = False) -> list[Group]:
    """The groups of a bench: those named in `only`, or who is worth the time at each size; everybody if `full`."""
    wanted = set(only) or ({each.name for each in CONTENDERS} if full else set())
    found = []
    for shape, sizes in ((NARROW, list(narrow)), (WIDE, list(wide))):
        slow_at = max((rows for rows in sizes if rows <= _SLOW_UP_TO[shape.name]), default=0)
        for rows in sizes:
            chosen = (
                each
                for each in CONTENDERS
                if (each.name in wanted if wanted else _is_worth(each, shape, rows, rows == slow_at))
            )
            found.append(Group(shape, rows, tuple(chosen)))
    return found


def _is_worth(contender: Contender, shape: Shape, rows: int, with_slow: bool) -> bool:
    large = rows >= _LARGE[shape.name]
    if contender.most:
        return with_slow or (large and contender.name == NAIVE and shape is NARROW)
    return not large or contender.name in _AT_LARGE


@dataclass
class Remaining:
    """The remaining runs and their duration: from runs so far, or an estimate before the first."""

    waiting: list[tuple[Group, Contender]]
    _known: dict[tuple[str, int, str], float] = field(default_factory=dict)

    def done(self, group: Group, contender: Contender, seconds: float) -> None:
        """Note a run."""
        self.waiting.remove((group, contender))
        self._known[group.shape.name, group.rows, contender.name] = seconds

    def give_up(self, group: Group, contender: Contender) -> None:
        """Forget all runs of a contender in a group."""
        self.waiting = [each for each in self.waiting if each != (group, contender)]

    def seconds(self) -> float:
        """How long all of it will take."""
        return sum(self._seconds(*each) for each in self.waiting)

    def _seconds(self, group: Group, contender: Contender) -> float:
        known = self._known.get((group.shape.name, group.rows, contender.name))
        moved = contender.rows(group.shape.name, group.rows)
        return known or moved / contender.guess[group.shape.name] + 2


def in_minutes(seconds: float) -> str:
    """A time to wait, as one says it."""
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def rows_told(series: Series) -> str:
    """The rows that a contender moved, if they are not all of the group's."""
    return "" if series.moved == series.rows else f"{series.moved:,}"
