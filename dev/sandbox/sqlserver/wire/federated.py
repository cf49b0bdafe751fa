"""Login by an access token of Entra ID: FEDAUTHREQUIRED in PRELOGIN, and the feature FEDAUTH of LOGIN7.

MS-TDS 2.2.6.5, 2.2.6.4 and 2.2.7.11. Of the libraries, only the security token: the client brings the token.
"""

import struct
from collections.abc import Iterator

from dev.sandbox.sqlserver.errors import ConnectionCutError

FED_AUTH_REQUIRED = 0x06
"""The option of PRELOGIN."""
_END = 0xFF
_OPTION = struct.Struct(">BHH")
_FLAGS, _HAS_EXTENSION = 27, 0x10
_EXTENSION = 56
"""Positions of OptionFlags3 and of ibExtension in LOGIN7."""
_FED_AUTH = 0x02
_SECURITY_TOKEN = 0x01


def asks_for_tokens(prelogin: bytes) -> bool:
    """Whether the client wants to log in by a token."""
    at = 0
    while at < len(prelogin) and prelogin[at] != _END:
        option, offset, length = _OPTION.unpack_from(prelogin, at)
        if option == FED_AUTH_REQUIRED:
            return prelogin[offset : offset + length] == b"\x01"
        at += _OPTION.size
    return False


def read_token(login: bytes, was_asked: bool) -> str:
    """The token of a LOGIN7 message; empty without one. `was_asked`: the client asked for it in PRELOGIN.

    Raises ConnectionCutError where MS-TDS says so: another library, or not the answer to PRELOGIN as it was.
    """
    for feature, data in _features(login):
        if feature == _FED_AUTH:
            library, echo = data[0] >> 1, bool(data[0] & 1)
            if library != _SECURITY_TOKEN or echo != was_asked:
                raise ConnectionCutError(f"FEDAUTH by library {library}, echo {echo}")
            (length,) = struct.unpack_from("<I", data, 1)
            return data[5 : 5 + length].decode("utf-16-le")
    return ""


def _features(login: bytes) -> Iterator[tuple[int, bytes]]:
    if not login[_FLAGS] & _HAS_EXTENSION:
        return
    (at,) = struct.unpack_from("<H", login, _EXTENSION)
    (at,) = struct.unpack_from("<I", login, at)
    while login[at] != _END:
        feature, length = struct.unpack_from("<BI", login, at)
        yield feature, login[at + 5 : at + 5 + length]
        at += 5 + length
