"""Faults of the network between pods and servers: dropped, refused, or losing a part of the packets."""

from collections.abc import Callable, Iterator, Sequence

from tests.faults.fault import Fault
from tests.faults.system import CHAIN, SystemUnderTest

Way = Callable[[SystemUnderTest], list[str]]
"""Options of iptables that match packets to a server."""
_SILENTLY = ["--jump", "DROP"]
_RESET = ["--reject-with", "tcp-reset"]
_TCP = ["--protocol", "tcp", "--dport"]


def _to_source(system: SystemUnderTest) -> list[str]:
    assert system.node
    return [*_TCP, "5432", "--destination", system.node.cluster.host_address]


WAYS: dict[str, Way] = {
    "source": _to_source,
    "sink": lambda system: [*_TCP, "1433"],
    "DNS": lambda system: ["--protocol", "udp", "--dport", "53"],
}
HOWS = {
    "cut": _SILENTLY,
    "refuse": ["--jump", "REJECT"],
    "thin out": ["--match", "statistic", "--mode", "random", "--probability", "0.4", *_SILENTLY],
}
_OTHER_WAY = {"--destination": "--source", "--dport": "--sport"}


def network_faults() -> Iterator[Fault]:
    """Each kind of disturbance, for each server."""
    for place, way in WAYS.items():
        for how in HOWS:
            yield Disturb(how, place, way)


class Disturb(Fault):
    """Disturbs the connections to a server for some seconds, in both directions."""

    longest = 15.0

    def __init__(self, how: str, place: str, way: Way) -> None:
        super().__init__(f"{how} {place}", place=f"way to {place}")
        self._how, self._way = how, way
        self._rules: list[list[str]] = []

    def targets(self, system: SystemUnderTest) -> Sequence[str]:
        return [self.place] if system.node else []

    def inject(self, system: SystemUnderTest, target: str) -> None:
        there = self._way(system)
        if self._how == "refuse":
            # Only a reset ends an open connection. The other direction stays open for it.
            self._rules = [[*there, *HOWS[self._how], *(_RESET if "tcp" in there else [])]]
        else:
            back = [_OTHER_WAY.get(word, word) for word in there]
            self._rules = [[*way, *HOWS[self._how]] for way in (there, back)]
        assert system.node
        for rule in self._rules:
            system.node.firewall("--append", CHAIN, *rule)

    def heal(self, system: SystemUnderTest) -> None:
        assert system.node or not self._rules
        while system.node and self._rules:
            system.node.firewall("--delete", CHAIN, *self._rules.pop())
