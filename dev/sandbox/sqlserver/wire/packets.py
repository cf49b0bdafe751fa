"""TDS packets on a socket (MS-TDS 2.2.3): an 8-byte header, then the payload; messages end with a flagged packet."""

import socket
import struct
import time
from collections.abc import Callable, Iterator

from dev.sandbox.sqlserver.errors import AttentionError, ConnectionCutError

SQL_BATCH, RPC, REPLY, ATTENTION, BULK_LOAD, TRANSACTION, LOGIN, PRELOGIN = 1, 3, 4, 6, 7, 14, 16, 18
DEFAULT_PACKET_SIZE = 4096
_HEADER = struct.Struct(">BBHHBB")
_END_OF_MESSAGE, _RESET_CONNECTION = 1, 8
_READ_SIZE = 1 << 18


class Wire:
    """One client's socket, as packets. `delay`: seconds to wait before each packet.

    `reset_requested`: the last message asked for a reset of the session (a pool hands it to another user).
    `prompt`: delays are suspended.
    """

    def __init__(self, sock: socket.socket, session_id: int, delay: Callable[[], float]) -> None:
        self.socket = sock
        self.packet_size = DEFAULT_PACKET_SIZE
        self.delay = delay
        self.reset_requested = False
        self.prompt = False
        self._session_id = session_id
        self._received = b""
        self._position = 0
        self._unsent = bytearray()
        self._packet_id = 0

    def read_message(self) -> tuple[int, bytes]:
        """Read a whole message: its type and payload. Raises ConnectionCutError at the end of the stream."""
        self._fill(_HEADER.size)
        self.reset_requested = bool(self._received[self._position + 1] & _RESET_CONNECTION)
        kind, first, last = self._read_packet()
        payload = [first]
        while not last:
            _, part, last = self._read_packet()
            payload.append(part)
        return kind, b"".join(payload)

    def peek_type(self) -> int:
        """Wait for the next message; returns its type without consuming it."""
        self._fill(1)
        return self._received[self._position]

    def stream_message(self) -> Iterator[bytes]:
        """Yield the payload of the next message packet by packet, as it arrives.

        Raises AttentionError if an attention comes instead, which is not consumed.
        """
        last = False
        while not last:
            if self.peek_type() == ATTENTION:
                raise AttentionError
            _, part, last = self._read_packet()
            yield part

    def attention_is_waiting(self) -> bool:
        """Whether the next received message is an attention."""
        return self._received[self._position : self._position + 1] == bytes([ATTENTION])

    def write(self, data: bytes) -> None:
        """Add to the reply; full packets are sent at once, the rest by `finish`."""
        self._unsent += data
        room = self.packet_size - _HEADER.size
        if len(self._unsent) > room:
            whole = (len(self._unsent) - 1) // room * room
            self._send(memoryview(bytes(self._unsent[:whole])), room, last=False)
            del self._unsent[:whole]

    def finish(self, kind: int = REPLY) -> None:
        """Send the rest of the reply, as the end of the message."""
        self._send(memoryview(bytes(self._unsent)), self.packet_size - _HEADER.size, last=True, kind=kind)
        self._unsent.clear()

    def _send(self, data: memoryview, room: int, last: bool, kind: int = REPLY) -> None:
        parts: list[bytes | memoryview] = []
        for start in range(0, len(data) or 1, room):
            part = data[start : start + room]
            status = _END_OF_MESSAGE if last and start + room >= len(data) else 0
            self._packet_id = self._packet_id % 255 + 1
            size = _HEADER.size + len(part)
            parts += [_HEADER.pack(kind, status, size, self._session_id, self._packet_id, 0), part]
            self._wait()
        try:
            self.socket.sendall(b"".join(parts))
        except OSError as error:
            raise ConnectionCutError(str(error)) from error

    def _read_packet(self) -> tuple[int, bytes, bool]:
        self._fill(_HEADER.size)
        kind, status, size, *_ = _HEADER.unpack_from(self._received, self._position)
        self._fill(size)
        payload = self._received[self._position + _HEADER.size : self._position + size]
        self._position += size
        self._wait()
        return kind, payload, bool(status & _END_OF_MESSAGE)

    def _fill(self, size: int) -> None:
        while len(self._received) - self._position < size:
            try:
                received = self.socket.recv(_READ_SIZE)
            except OSError as error:
                raise ConnectionCutError(str(error)) from error
            if not received:
                raise ConnectionCutError("the client has closed the connection")
            self._received = self._received[self._position :] + received
            self._position = 0

    def _wait(self) -> None:
        if not self.prompt and (seconds := self.delay()):
            time.sleep(seconds)
