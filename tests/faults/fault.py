"""What a fault is: it finds what it can hit, hits it, and after a while puts right what does not heal by itself."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from tests.faults.target import Scene


class Fault(ABC):
    """One kind. A campaign has one of each, so that it knows what it has to heal."""

    longest: float = 0
    """Seconds after which it is healed at the latest; nothing is to be healed where it is 0."""

    def __init__(self, name: str, place: str = "") -> None:
        self.name = name
        self.place = place or name
        """Of faults at one place that are to be healed, one is active at a time."""

    @abstractmethod
    def targets(self, scene: Scene) -> Sequence[Any]:
        """What it could hit now, none where its moment has not come."""

    @abstractmethod
    def inject(self, scene: Scene, target: Any) -> None:
        """Do it. Raises OSError where it turns out not to be possible."""

    def heal(self, scene: Scene) -> None:  # noqa: B027 - most heal by themselves
        """Put right what was done. May be called twice."""
