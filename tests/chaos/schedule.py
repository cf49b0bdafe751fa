"""The faults, their order and durations: all determined by the seed."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

LONGEST_DELAY = 2.0
"""Maximal seconds between a fault's first target and its injection."""


@dataclass(frozen=True)
class Drawn:
    """A drawn fault."""

    number: int
    fault: str
    delay: float
    """Seconds after its first target."""
    lasts: float
    """From 0 to 1: the part of its longest duration."""
    target: float
    """From 0 to 1: the choice among its targets."""


def draw(seed: int, faults: Sequence[str]) -> Iterator[Drawn]:
    """An endless sequence of faults. Each kind comes equally often: the kinds are shuffled, again and again."""
    choice = random.Random(seed)
    number = 0
    while True:
        for fault in choice.sample(faults, len(faults)):
            number += 1
            yield Drawn(
                number=number,
                fault=fault,
                delay=round(choice.uniform(0, LONGEST_DELAY), 2),
                lasts=round(choice.random(), 2),
                target=round(choice.random(), 2),
            )
