"""Reads the packets that iptables rules with the target NFLOG log."""

import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

_NETLINK_NETFILTER = 12
_PACKET, _CONFIG = 0x400, 0x401
_REQUEST = 1
_BIND, _COPY_PACKETS = 1, 2
_COMMAND, _MODE, _TIMEOUT, _THRESHOLD = 1, 2, 4, 5
_PAYLOAD = 9
_COPIED = 64
_BUFFER = 4 * 1024 * 1024
_PROTOCOLS = {socket.IPPROTO_TCP: "TCP", socket.IPPROTO_UDP: "UDP"}
_SYN, _ACK = 0x02, 0x10


class Packet(NamedTuple):
    """The first packet of a connection."""

    source: str
    target: str
    port: str
    """As in `TCP 5432`."""


def read_packets(group: int) -> Iterator[Packet]:
    """The packets logged to a group, as they come, without end. Of TCP only those that open a connection."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as log:
        log.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        log.bind((0, 0))
        log.send(_configured(group, _COMMAND, struct.pack("B", _BIND)))
        log.send(_configured(group, _MODE, struct.pack(">IBx", _COPIED, _COPY_PACKETS)))
        # Each at once, so that its time is when it is read.
        log.send(_configured(group, _TIMEOUT, struct.pack(">I", 1)))
        log.send(_configured(group, _THRESHOLD, struct.pack(">I", 1)))
        while True:
            # The kernel reports dropped messages as an error.
            with suppress(OSError):
                yield from _packets(log.recv(65536))


def _configured(group: int, attribute: int, value: bytes) -> bytes:
    content = struct.pack(">BBH", socket.AF_UNSPEC, 0, group) + struct.pack("=HH", 4 + len(value), attribute) + value
    content += bytes(-len(content) % 4)
    return struct.pack("=IHHII", 16 + len(content), _CONFIG, _REQUEST, 0, 0) + content


def _packets(data: bytes) -> Iterator[Packet]:
    while len(data) >= 16:
        length, kind = struct.unpack_from("=IH", data)
        if kind == _PACKET:
            found = dict(_attributes(data[20:length]))
            if packet := _packet(found.get(_PAYLOAD, b"")):
                yield packet
        data = data[length + -length % 4 :]


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        yield kind, data[4:length]
        data = data[length + -length % 4 :]


def _packet(payload: bytes) -> Packet | None:
    if len(payload) < 20 or payload[0] >> 4 != 4:
        return None
    header, protocol = (payload[0] & 0x0F) * 4, _PROTOCOLS.get(payload[9])
    if protocol is None or len(payload) < header + (14 if protocol == "TCP" else 4):
        return None
    if protocol == "TCP" and payload[header + 13] & (_SYN | _ACK) != _SYN:
        return None
    (port,) = struct.unpack_from(">H", payload, header + 2)
    return Packet(socket.inet_ntoa(payload[12:16]), socket.inet_ntoa(payload[16:20]), f"{protocol} {port}")
