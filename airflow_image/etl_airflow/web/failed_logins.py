"""Bounds failed logins: of one user from one address, of one user from anywhere, and of anybody from one address.

The first limit is low and concerns one user at one address only, so that one person's wrong passwords do not lock out
other people. The other two are high: against attempts on one user from many addresses, and on many users from one.
"""

import ipaddress
import json
import os
import time
import unicodedata
from collections import deque
from collections.abc import Callable
from urllib.parse import parse_qsl

MOST_FAILURES = 10
"""Failed logins of one user from one address within the window."""
MOST_OVERALL = 50
"""… of one user from all addresses, and of all users from one address."""
WINDOW_SECONDS = 300.0
_MOST_KEYS = 30_000
_LONGEST_NAME = 256
ADMINISTRATOR = "admin"
"""The account that airflow-migrate makes, for scripts and emergencies."""
_IPV6_NETWORK = 64
"""Prefix length. A host can use every address of its /64, so these count as one address."""
Key = tuple[str, ...]


class LoginLimit:
    """Counts the failed logins of one process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tries: dict[Key, deque[float]] = {}
        self._known: set[Key] = set()
        """Users and addresses from which they have logged in: others' failures do not lock these out."""

    def refused_for(self, address: str, user: str) -> int:
        """For how many seconds a login is refused; 0 if it may be tried."""
        pair, *wide = _keys(address, user)
        bounds = [(pair, MOST_FAILURES)]
        if pair not in self._known:
            bounds += [(key, MOST_OVERALL) for key in wide]
        waits = [
            int(tries[0] + WINDOW_SECONDS - self._clock()) + 1
            for key, most in bounds
            if len(tries := self._recent(key)) >= most
        ]
        return max(waits, default=0)

    def begin(self, address: str, user: str) -> float:
        """Count a login before it is known how it ends: many at once are no more than many in turn."""
        now = self._clock()
        for key in _keys(address, user):
            self._recent(key).append(now)
        return now

    def forget(self, address: str, user: str, begun: float) -> None:
        """Take back the count of a login that did not fail."""
        for key in _keys(address, user):
            tries = self._recent(key)
            if begun in tries:
                tries.remove(begun)

    def remember(self, address: str, user: str) -> None:
        """Note that a user logged in from an address."""
        if len(self._known) >= _MOST_KEYS:
            self._known.clear()
        self._known.add(_keys(address, user)[0])

    def _recent(self, key: Key) -> deque[float]:
        since = self._clock() - WINDOW_SECONDS
        if len(self._tries) > _MOST_KEYS:
            self._tries = {known: tries for known, tries in self._tries.items() if tries and tries[-1] > since}
        tries = self._tries.setdefault(key, deque())
        while tries and tries[0] <= since:
            tries.popleft()
        return tries


def user_in(content_type: bytes, body: bytes) -> str:
    """The user that a login names, as Airflow reads it from JSON or a form. Raises ValueError for other bodies."""
    kind = content_type.partition(b";")[0].strip().lower()
    name: object = ""
    if kind == b"application/json":
        content = json.loads(body)
        name = content.get("username", "") if isinstance(content, dict) else ""
    elif kind == b"application/x-www-form-urlencoded":
        # Of a name that stands there twice the form takes the first.
        fields = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)
        name = next((value for field, value in fields if field == "username"), "")
    else:
        raise ValueError("a login is JSON or a form")
    if any(unicodedata.category(letter) == "Cn" for letter in str(name)):
        # The database may know a later Unicode, with another spelling of a letter that has its own here.
        raise ValueError("a name has a letter that is in no Unicode of this Python")
    return _folded(str(name))


def password_users() -> frozenset[str] | None:
    """Who may log in with a password from outside the cluster (OIDC_LOCAL_USERS). None, without OIDC: everybody."""
    if not os.environ.get("OIDC_ISSUER"):
        return None
    return frozenset(map(_folded, os.environ.get("OIDC_LOCAL_USERS", "").split(","))) - {""}


def is_password_account(name: str) -> bool:
    """Whether a name belongs to an account with a password, which the identity provider may not sign in."""
    return _folded(name) in (password_users() or frozenset()) | {ADMINISTRATOR}


def _folded(name: str) -> str:
    """A name without differences of spelling.

    Airflow ignores case, and leaves that to PostgreSQL, whose lower() also makes an i of the letter I with a dot above.
    Names that only look alike may share a count, but two spellings of one name must share it.
    """
    composed = unicodedata.normalize("NFKC", name).replace("\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}", "i")
    return composed.casefold().strip()[:_LONGEST_NAME]


def _keys(address: str, user: str) -> tuple[Key, Key, Key]:
    network = _network(address)
    return ("user at address", user, network), ("user", user), ("address", network)


def _network(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    return str(ipaddress.ip_network((int(parsed), _IPV6_NETWORK), strict=False))
