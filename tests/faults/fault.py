"""The interface of a fault: finds its targets, hits one, and later reverts what does not heal without help."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from tests.faults.system import SystemUnderTest


class Fault(ABC):
    """A kind of fault. A campaign has one instance of each, which keeps the state to heal."""

    longest: float = 0
    """Seconds after which it is healed at the latest; 0 for one that needs no healing."""

    def __init__(self, name: str, place: str = "") -> None:
        self.name = name
        self.place = place or name
        """At most one fault at a place is active at a time."""

    @abstractmethod
    def targets(self, system: SystemUnderTest) -> Sequence[Any]:
        """The targets that it could hit now; none if there is no suitable one."""

    @abstractmethod
    def inject(self, system: SystemUnderTest, target: Any) -> None:
        """Inject the fault. Raises OSError if that is not possible."""

    def heal(self, system: SystemUnderTest) -> None:  # noqa: B027 - most need no healing
        """Revert the fault. May be called twice."""
