"""The start of a connection: PRELOGIN (MS-TDS 2.2.6.5) and LOGIN7 (2.2.6.4)."""

import struct
from dataclasses import dataclass

from dev.sandbox.sqlserver.wire.federated import FED_AUTH_REQUIRED, read_token
from dev.sandbox.sqlserver.wire.packets import DEFAULT_PACKET_SIZE

_VERSION, _ENCRYPTION, _INSTANCE, _THREAD, _MARS, _END = 0, 1, 2, 3, 4, 0xFF
_NOT_SUPPORTED, _REQUIRED = b"\x02", b"\x03"
_SMALLEST_PACKET, _LARGEST_PACKET = 512, 32767
_PASSWORD_MASK = 0xA5


@dataclass(frozen=True)
class Login:
    """A client's LOGIN7 message; `packet_size` in bytes. Either a password or a `token` of Entra ID."""

    user: str
    password: str
    database: str
    packet_size: int
    token: str = ""


def prelogin_answer(encrypted: bool, by_token: bool) -> bytes:
    """PRELOGIN reply: encryption of everything or of nothing, no MARS; a token if the client asked for that."""
    options = [
        (_VERSION, bytes([16, 0, 0, 0, 0, 0])),
        (_ENCRYPTION, _REQUIRED if encrypted else _NOT_SUPPORTED),
        (_INSTANCE, b"\x00"),
        (_THREAD, b""),
        (_MARS, b"\x00"),
    ]
    if by_token:
        options.append((FED_AUTH_REQUIRED, b"\x01"))
    offset = 5 * len(options) + 1
    head, body = b"", b""
    for token, data in options:
        head += struct.pack(">BHH", token, offset + len(body), len(data))
        body += data
    return head + bytes([_END]) + body


def read_login(data: bytes, asked_for_token: bool) -> Login:
    """Read a LOGIN7 message. Raises ConnectionCutError for a token that comes otherwise than PRELOGIN announced it."""
    (packet_size,) = struct.unpack_from("<I", data, 8)
    # Positions of the fixed part's (offset, length) pairs, lengths in characters.
    user, password, database = (_field(data, at) for at in (40, 44, 68))
    size = min(max(packet_size or DEFAULT_PACKET_SIZE, _SMALLEST_PACKET), _LARGEST_PACKET)
    name, secret, opened = (each.decode("utf-16-le") for each in (user, _unmask(password), database))
    return Login(name, secret, opened, size, read_token(data, asked_for_token))


def _field(data: bytes, at: int) -> bytes:
    offset, length = struct.unpack_from("<HH", data, at)
    return data[offset : offset + 2 * length]


def _unmask(password: bytes) -> bytes:
    plain = (byte ^ _PASSWORD_MASK for byte in password)
    return bytes((byte << 4 | byte >> 4) & 0xFF for byte in plain)
