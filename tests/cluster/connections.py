"""Who talked to whom in the cluster: a line of JSON for each pair of ends and port, and for each refusal."""

import ipaddress
import json
import math
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tests.cluster import network
from tests.cluster.packet_log import Packet
from tests.cluster.policy_rules import REFUSED, Pod

_PODS = ipaddress.IPv4Network(network.PODS)
_SETTLED_SECONDS = 1.0
"""So long after the rules were made for it a pod counts as new."""
_WAIT_SECONDS = 10.0
"""So long an address may wait for the API to tell whose it is."""


@dataclass(frozen=True)
class Connection:
    """One that was begun. Its ends are what they are pods of, or addresses."""

    source: str
    target: str
    port: str
    refused: bool
    settled: bool
    """Whether the rules knew both ends. They do not know a pod in its first seconds, nor one that is gone."""
    pods: tuple[str, str]
    """Their names, with their namespaces; empty for what is no pod."""


@dataclass
class _Noted:
    packet: Packet
    settled: bool
    ends: "list[_End | None]"
    """None for a pod of which the API has not told yet."""
    time: float = field(default_factory=time.monotonic)


class _End(NamedTuple):
    what: str
    pod: str = ""


class ConnectionLog:
    """Takes packets as they are noted, and writes them when it is known whose they are."""

    def __init__(self, file: Path) -> None:
        self._file = file.open("w")
        self._lock = threading.Lock()
        self._noted: list[_Noted] = []
        self._seen: set[Packet] = set()
        self._pods: Mapping[str, Pod] = {}
        self._since: dict[str, float] = {}

    def know(self, pods: Mapping[str, Pod]) -> None:
        """From now on the rules are made for these."""
        with self._lock:
            now = time.monotonic()
            # The address of a pod that is gone may be another's.
            same = {address for address, pod in pods.items() if pod.name == _name_at(address, self._pods)}
            gone = self._pods.keys() - same
            self._since = {address: self._since[address] if address in same else now for address in pods}
            self._seen = {packet for packet in self._seen if not {packet.source, packet.target} & gone}
            self._pods = pods

    def expect(self, pods: Mapping[str, Pod]) -> None:
        """Rules for these are about to be made. From that moment on they know nobody who is gone."""
        self.know({address: pod for address, pod in self._pods.items() if pod.name == _name_at(address, pods)})

    def note(self, packet: Packet) -> None:
        """A connection was begun now."""
        with self._lock:
            if packet.word != REFUSED and packet in self._seen:
                return
            self._seen.add(packet)
            ends = (packet.source, packet.target)
            self._noted.append(_Noted(packet, all(map(self._is_settled, ends)), [*map(self._end, ends)]))

    def write(self) -> None:
        """Write those whose ends are known, or will not be known any more."""
        with self._lock:
            now, waiting = time.monotonic(), []
            for noted in self._noted:
                addresses = (noted.packet.source, noted.packet.target)
                noted.ends = [end or self._end(address) for end, address in zip(noted.ends, addresses, strict=True)]
                if all(noted.ends) or now - noted.time > _WAIT_SECONDS:
                    self._write(noted)
                else:
                    waiting.append(noted)
            self._noted = waiting
            self._file.flush()

    def _write(self, noted: _Noted) -> None:
        packet = noted.packet
        addresses = (packet.source, packet.target)
        source, target = (end or _End(address) for end, address in zip(noted.ends, addresses, strict=True))
        found = Connection(
            source=source.what,
            target=target.what,
            port=packet.port,
            refused=packet.word == REFUSED,
            settled=noted.settled,
            pods=(source.pod, target.pod),
        )
        self._file.write(json.dumps({"at": time.strftime("%H:%M:%S"), **asdict(found)}) + "\n")

    def _end(self, address: str) -> _End | None:
        """What is at an address; None for a pod that is not known."""
        if pod := self._pods.get(address):
            return _End(pod.app, pod.name)
        return None if ipaddress.IPv4Address(address) in _PODS else _End(address)

    def _is_settled(self, address: str) -> bool:
        since = self._since.get(address, math.inf if self._end(address) is None else -math.inf)
        return time.monotonic() - since > _SETTLED_SECONDS


def _name_at(address: str, pods: Mapping[str, Pod]) -> str | None:
    return pods[address].name if address in pods else None


def read_connections(file: Path) -> list[Connection]:
    """The connections so far."""
    lines = file.read_text().split("\n")[:-1]
    return [_connection(json.loads(line)) for line in lines]


def _connection(line: dict[str, Any]) -> Connection:
    del line["at"]
    return Connection(**{**line, "pods": tuple(line["pods"])})
