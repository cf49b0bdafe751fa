"""The interface of a fault: finds its targets, hits one, and later reverts what does not heal without help."""

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
        """The targets that it could hit now; none if there is no suitable one."""

    @abstractmethod
    def inject(self, scene: Scene, target: Any) -> None:
        """Do it. Raises OSError where it turns out not to be possible."""

    def heal(self, scene: Scene) -> None:  # noqa: B027 - most heal by themselves
        """Put right what was done. May be called twice."""
