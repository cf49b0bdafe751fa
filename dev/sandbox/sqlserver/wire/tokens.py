"""TDS token streams (MS-TDS 2.2.7), of which replies consist."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from dev.sandbox.sqlserver.errors import SqlError
from dev.sandbox.sqlserver.types import SqlType
from dev.sandbox.sqlserver.wire.packets import Wire
from dev.sandbox.sqlserver.wire.typeinfo import COLLATION, write_type

DONE, DONE_PROC, DONE_IN_PROC = 0xFD, 0xFE, 0xFF
SELECT, INSERT, DELETE, UPDATE, EXECUTED, BULK_INSERT = 0xC1, 0xC3, 0xC4, 0xC5, 0xE0, 0xF0
_MORE, _ERROR, _COUNT, _ATTENTION = 0x01, 0x02, 0x10, 0x20
_DONE = struct.Struct("<BHHQ")
_NULLABLE, _NOT_NULL = 0x0009, 0x0008
_ENV_DATABASE, _ENV_LANGUAGE, _ENV_PACKET_SIZE, _ENV_COLLATION, _ENV_BEGIN = 1, 2, 4, 7, 8
ENV_COMMIT, ENV_ROLLBACK = 9, 10
_LOGINACK, _FEATURE_ACK = 0xAD, 0xAE
_FED_AUTH, _LAST_FEATURE = 0x02, 0xFF
_TDS_7_4 = bytes.fromhex("74000004")
_LONGEST_MESSAGE = 2047
_SERVER = "sqlserver-double"


@dataclass(frozen=True)
class Column:
    """A column of a result."""

    name: str
    type: SqlType
    nullable: bool = True


class Reply:
    """Writes the reply to a request. A DONE is held back until it is known whether another follows."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._held: tuple[int, int, int, int] | None = None

    def write(self, data: bytes) -> None:
        """Write whole tokens."""
        self._release(more=True)
        self._wire.write(data)

    def done(self, kind: int = DONE, command: int = 0, count: int | None = None, *, error: bool = False) -> None:
        """End a statement; `count`: its rows, changed or returned."""
        self._release(more=True)
        status = (_ERROR if error else 0) | (_COUNT if count is not None else 0)
        self._held = (kind, status, command, count or 0)

    def attention(self) -> None:
        """Acknowledge an attention: the running statement was cancelled."""
        self._release(more=True)
        self._held = (DONE, _ATTENTION, 0, 0)

    def finish(self) -> None:
        """End the reply."""
        if self._held is None:
            self.done()
        self._release(more=False)
        self._wire.finish()

    def columns(self, columns: Sequence[Column]) -> None:
        """Begin a result set."""
        head = struct.pack("<BH", 0x81, len(columns))
        self.write(head + b"".join(_column(column) for column in columns))

    def error(self, error: SqlError) -> None:
        """Send an error."""
        self.write(_message(0xAA, error.number, error.severity, error.message))

    def info(self, number: int, text: str) -> None:
        """Send an informational message."""
        self.write(_message(0xAB, number, 10, text))

    def database(self, name: str) -> None:
        """Send the current database."""
        self.write(_environment(_ENV_DATABASE, _short(name) + _short("master")))
        self.info(5701, f"Changed database context to '{name}'.")

    def language(self, name: str) -> None:
        """Send the language of messages."""
        self.write(_environment(_ENV_LANGUAGE, _short(name) + _short("us_english")))
        self.info(5703, f"Changed language setting to {name}.")

    def collation(self) -> None:
        """Send the server's collation."""
        self.write(_environment(_ENV_COLLATION, bytes([len(COLLATION)]) + COLLATION + b"\x00"))

    def packet_size(self, size: int) -> None:
        """Send the packet size."""
        self.write(_environment(_ENV_PACKET_SIZE, _short(str(size)) + _short(str(size))))

    def transaction_begun(self, descriptor: bytes) -> None:
        """Send the descriptor of a transaction begun by a transaction manager request."""
        self.write(_environment(_ENV_BEGIN, b"\x08" + descriptor + b"\x00"))

    def transaction_ended(self, how: int, descriptor: bytes) -> None:
        """Send the end of such a transaction; `how`: ENV_COMMIT or ENV_ROLLBACK."""
        self.write(_environment(how, b"\x00\x08" + descriptor))

    def login_accepted(self) -> None:
        """Accept the login, at TDS 7.4."""
        body = b"\x01" + _TDS_7_4 + _short(_SERVER) + bytes([16, 0, 0, 0])
        self.write(struct.pack("<BH", _LOGINACK, len(body)) + body)

    def token_accepted(self) -> None:
        """Acknowledge the feature FEDAUTH, without a nonce: the client sent none."""
        self.write(struct.pack("<BBIB", _FEATURE_ACK, _FED_AUTH, 0, _LAST_FEATURE))

    def procedure_result(self, handle: int | None) -> None:
        """Return status 0, and the handle of a prepared statement as output parameter."""
        self.write(struct.pack("<Bi", 0x79, 0))
        if handle is not None:
            head = struct.pack("<BHBBIH", 0xAC, 0, 0, 1, 0, 0x0009)
            self.write(head + b"\x26\x04\x04" + struct.pack("<i", handle))

    def _release(self, more: bool) -> None:
        if self._held is not None:
            kind, status, command, count = self._held
            self._held = None
            self._wire.write(_DONE.pack(kind, status | (_MORE if more else 0), command, count))


def _column(column: Column) -> bytes:
    flags = _NULLABLE if column.nullable else _NOT_NULL
    return struct.pack("<IH", 0, flags) + write_type(column.type) + _short(column.name)


def _message(token: int, number: int, severity: int, text: str) -> bytes:
    words = text[:_LONGEST_MESSAGE].encode("utf-16-le")
    body = struct.pack("<IBBH", number, 1, severity, len(words) // 2) + words
    body += _short(_SERVER) + _short("") + struct.pack("<I", 1)
    return struct.pack("<BH", token, len(body)) + body


def _environment(kind: int, body: bytes) -> bytes:
    return struct.pack("<BHB", 0xE3, len(body) + 1, kind) + body


def _short(text: str) -> bytes:
    data = text.encode("utf-16-le")[:510]
    return bytes([len(data) // 2]) + data
