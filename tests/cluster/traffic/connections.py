"""Connections in the cluster: a line of JSON for each pair of ends and port, and for each refused one."""

import ipaddress
import json
import math
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tests.cluster.node import network
from tests.cluster.traffic.packet_log import Packet

_PODS = ipaddress.IPv4Network(network.PODS)
_LEARNT_SECONDS = 3.0
"""Time within which kube-router applies its rules after a pod was created or deleted."""
_WAIT_SECONDS = 10.0
"""Time within which the API reports the pod of an address."""


class Pod(NamedTuple):
    """A pod with its own address, not the node's."""

    name: str
    """With its namespace."""
    app: str
    """The name of its application."""


@dataclass(frozen=True)
class Connection:
    """A connection that was opened. Its ends are applications of pods, or addresses."""

    source: str
    target: str
    port: str
    refused: bool
    settled: bool
    """Whether the rules were in force for both ends: not in a pod's first seconds, nor once it is gone."""
    pods: tuple[str, str]
    """Their names, with their namespaces; empty for other ends."""


class _End(NamedTuple):
    what: str
    pod: str = ""


@dataclass
class _Noted:
    packet: Packet
    time: float
    refused: bool
    ends: "list[_End | None]"
    """None for a pod that the API has not reported yet."""


class ConnectionLog:
    """Collects packets, and writes each once the pods of its addresses are known."""

    def __init__(self, file: Path) -> None:
        self._file = file.open("w")
        self._lock = threading.Lock()
        self._noted: list[_Noted] = []
        self._seen: set[Packet] = set()
        self._pods: Mapping[str, Pod] = {}
        self._since: dict[str, float] = {}

    def know(self, pods: Mapping[str, Pod]) -> None:
        """Set the pods by their addresses."""
        with self._lock:
            now = time.monotonic()
            # The address of a pod that is gone may be another's.
            same = {address for address, pod in pods.items() if pod == self._pods.get(address)}
            gone = self._pods.keys() - same
            self._since = {address: self._since[address] if address in same else now for address in pods}
            self._seen = {packet for packet in self._seen if not {packet.source, packet.target} & gone}
            self._pods = pods

    def note(self, packet: Packet, *, refused: bool) -> None:
        """Add a connection that is opened now."""
        with self._lock:
            if not refused:
                if packet in self._seen:
                    return
                self._seen.add(packet)
            ends = [self._end(packet.source), self._end(packet.target)]
            self._noted.append(_Noted(packet, time.monotonic(), refused, ends))

    def write(self) -> None:
        """Write those whose ends are known, or have been unknown for too long."""
        with self._lock:
            waiting = []
            for noted in self._noted:
                addresses = (noted.packet.source, noted.packet.target)
                noted.ends = [end or self._end(address) for end, address in zip(noted.ends, addresses, strict=True)]
                if time.monotonic() - noted.time > (_LEARNT_SECONDS if all(noted.ends) else _WAIT_SECONDS):
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
            refused=noted.refused,
            settled=all(self._since_when(address) + _LEARNT_SECONDS < noted.time for address in addresses),
            pods=(source.pod, target.pod),
        )
        self._file.write(json.dumps({"at": time.strftime("%H:%M:%S"), **asdict(found)}) + "\n")

    def _end(self, address: str) -> _End | None:
        """The pod or address at an end; None for a pod that is not known."""
        if pod := self._pods.get(address):
            return _End(pod.app, pod.name)
        return None if ipaddress.IPv4Address(address) in _PODS else _End(address)

    def _since_when(self, address: str) -> float:
        """The time since when an address belongs to its pod; -inf for other addresses."""
        return self._since.get(address, math.inf if self._end(address) is None else -math.inf)


def pods_by_address(objects: Iterable[Mapping[str, Any]]) -> dict[str, Pod]:
    """The pods that run. The address of one that has ended may be another's already; the node's is no pod's."""
    found = {}
    for item in objects:
        metadata, status = item["metadata"], item.get("status", {})
        address = status.get("podIP")
        if address and not item["spec"].get("hostNetwork") and status["phase"] not in ("Succeeded", "Failed"):
            labels = metadata.get("labels") or {}
            app = labels.get("app.kubernetes.io/name") or labels.get("k8s-app") or metadata["name"]
            found[address] = Pod(f"{metadata['namespace']}/{metadata['name']}", app)
    return found


def read_connections(file: Path) -> list[Connection]:
    """The connections so far."""
    lines = file.read_text().split("\n")[:-1]
    return [_connection(json.loads(line)) for line in lines]


def _connection(line: dict[str, Any]) -> Connection:
    del line["at"]
    return Connection(**{**line, "pods": tuple(line["pods"])})
