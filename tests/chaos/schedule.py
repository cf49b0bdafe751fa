"""Which faults come, in which order and for how long: all of it follows from the seed."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

LONGEST_DELAY = 2.0
"""Seconds that pass at most between the moment that a fault waits for and the fault."""


@dataclass(frozen=True)
class Drawn:
    """A fault as the seed has it."""

    number: int
    fault: str
    delay: float
    """Seconds after its moment."""
    lasts: float
    """From 0 to 1: how much of the time that such a fault may last."""
    target: float
    """From 0 to 1: which of the targets that there are then."""


def draw(seed: int, faults: Sequence[str]) -> Iterator[Drawn]:
    """Faults without an end. Each kind comes as often as the others: they are dealt like cards, again and again."""
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
