"""The part of Entra ID that the server trusts: the applications, and the key that signs their tokens.

Real tokens are signed with RS256; these with HS256 and a key that the double and the tests' token endpoint share.
"""

import base64
import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

AUDIENCE = "https://database.windows.net/"
_NOT_ACCEPTED = "The server is not currently configured to accept this token."
_EXPIRED = "Token is expired."


@dataclass(frozen=True)
class Directory:
    """Applications and managed identities: client ids by name; one of them may administer the server."""

    key: str = field(default="", repr=False)
    administrator: str = ""
    applications: Mapping[str, str] = field(default_factory=dict)

    def find(self, name: str) -> bytes | None:
        """The security identifier of an application: its client id; None if there is none of that name."""
        found = {each.lower(): client for each, client in self.applications.items()}.get(name.lower())
        return None if found is None else uuid.UUID(found).bytes_le

    def identify(self, token: str) -> tuple[bytes, str]:
        """The security identifier that a token is for, or why it is refused."""
        claims = _verified(token, self.key) if self.key else None
        if claims is None or claims.get("aud") != AUDIENCE:
            return b"", _NOT_ACCEPTED
        if claims["exp"] <= time.time():
            return b"", _EXPIRED
        return uuid.UUID(claims["appid"]).bytes_le, ""


def sign(claims: Mapping[str, Any], key: str) -> str:
    """A token with these claims, as a JWT."""
    text = f"{_encode({'alg': 'HS256', 'typ': 'JWT'})}.{_encode(claims)}"
    return f"{text}.{_signature(text, key)}"


def _verified(token: str, key: str) -> dict[str, Any] | None:
    text, _, signature = token.rpartition(".")
    if not hmac.compare_digest(signature, _signature(text, key)):
        return None
    payload = text.partition(".")[2]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims


def _encode(content: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


def _signature(text: str, key: str) -> str:
    digest = hmac.digest(key.encode(), text.encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
