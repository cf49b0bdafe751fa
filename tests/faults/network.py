"""Faults of the network between pods and what they need: cut, refused, or losing a part of what is sent."""

from collections.abc import Callable, Iterator, Sequence

from tests.faults.fault import Fault
from tests.faults.target import CHAIN, Scene

Way = Callable[[Scene], list[str]]
"""What a packet towards a place is known by, as options of iptables."""
_SILENTLY = ["--jump", "DROP"]
_RESET = ["--reject-with", "tcp-reset"]
_TCP = ["--protocol", "tcp", "--dport"]


def _to_source(scene: Scene) -> list[str]:
    assert scene.node
    return [*_TCP, "5432", "--destination", scene.node.cluster.host_address]


WAYS: dict[str, Way] = {
    "source": _to_source,
    "sink": lambda scene: [*_TCP, "1433"],
    "DNS": lambda scene: ["--protocol", "udp", "--dport", "53"],
}
HOWS = {
    "cut": _SILENTLY,
    "refuse": ["--jump", "REJECT"],
    "thin out": ["--match", "statistic", "--mode", "random", "--probability", "0.4", *_SILENTLY],
}
_OTHER_WAY = {"--destination": "--source", "--dport": "--sport"}


def network_faults() -> Iterator[Fault]:
    """Each way in each manner."""
    for place, way in WAYS.items():
        for how in HOWS:
            yield Disturb(how, place, way)


class Disturb(Fault):
    """Disturbs one way for some seconds, in both directions."""

    longest = 15.0

    def __init__(self, how: str, place: str, way: Way) -> None:
        super().__init__(f"{how} {place}", place=f"way to {place}")
        self._how, self._way = how, way
        self._rules: list[list[str]] = []

    def targets(self, scene: Scene) -> Sequence[str]:
        return [self.place] if scene.node else []

    def inject(self, scene: Scene, target: str) -> None:
        there = self._way(scene)
        if self._how == "refuse":
            # A connection that is open ends by a reset only. The other way stays open: for the refusal.
            self._rules = [[*there, *HOWS[self._how], *(_RESET if "tcp" in there else [])]]
        else:
            back = [_OTHER_WAY.get(word, word) for word in there]
            self._rules = [[*way, *HOWS[self._how]] for way in (there, back)]
        assert scene.node
        for rule in self._rules:
            scene.node.firewall("--append", CHAIN, *rule)

    def heal(self, scene: Scene) -> None:
        assert scene.node or not self._rules
        while scene.node and self._rules:
            scene.node.firewall("--delete", CHAIN, *self._rules.pop())
