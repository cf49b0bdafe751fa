"""The way in to Airflow's UI and API: over TLS only, and no password can be found by trying many.

Traefik, which ends TLS, says in X-Forwarded-Proto how a browser came. What comes from within the cluster, from workers
and through `kubectl port-forward`, has no such header and is left as it is.
"""

import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from airflow.plugins_manager import AirflowPlugin

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Callable[[], Awaitable[Message]], Send], Awaitable[None]]

MOST_FAILURES = 10
WINDOW_SECONDS = 300.0
"""From one address so many logins may fail in so many seconds."""
_MOST_ADDRESSES = 10_000
_LOGINS = frozenset({"/auth/login", "/auth/token", "/auth/token/cli"})
_STRICT = (b"strict-transport-security", b"max-age=31536000")
log = logging.getLogger(__name__)


class FrontDoor:
    """An ASGI middleware around the whole of Airflow's API server. It counts in its own process."""

    def __init__(self, app: App, clock: Callable[[], float] = time.monotonic) -> None:
        self._app = app
        self._clock = clock
        self._tries: dict[str, deque[float]] = {}

    async def __call__(self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Send) -> None:
        """Pass a request on, send it to HTTPS, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        came_by = headers.get(b"x-forwarded-proto", b"").decode("latin-1")
        if came_by == "http":
            await _answer(send, 308, b"location", _https(scope, headers))
        elif scope["method"] == "POST" and scope["path"].rstrip("/") in _LOGINS:
            await self._log_in(scope, receive, _stricter(send, came_by))
        else:
            await self._app(scope, receive, _stricter(send, came_by))

    async def _log_in(self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Send) -> None:
        address = scope["client"][0] if scope.get("client") else ""
        tries = self._tries_of(address)
        if len(tries) >= MOST_FAILURES:
            seconds = int(tries[0] + WINDOW_SECONDS - self._clock()) + 1
            log.warning("Too many failed logins from %s: refused for %d s.", address, seconds)
            await _answer(send, 429, b"retry-after", str(seconds).encode())
            return
        # Counted before it is known how it ends: many at once are no more than many in turn.
        tries.append(self._clock())
        counted, refused = tries[-1], False

        async def watch(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start":
                refused = _is_refusal(message)
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            if not refused and counted in tries:
                tries.remove(counted)

    def _tries_of(self, address: str) -> deque[float]:
        """The logins from an address that failed, or are under way, within the window."""
        since = self._clock() - WINDOW_SECONDS
        if len(self._tries) > _MOST_ADDRESSES:
            self._tries = {known: tries for known, tries in self._tries.items() if tries and tries[-1] > since}
        tries = self._tries.setdefault(address, deque())
        while tries and tries[0] <= since:
            tries.popleft()
        return tries


def _is_refusal(start: Message) -> bool:
    """The API answers a login with 201; the form leads on either way, but gives a token only if it is right.

    A server that is in trouble, as while its database is away, has said nothing about the password.
    """
    cookies = [value for name, value in start["headers"] if name.lower() == b"set-cookie"]
    status = start["status"]
    return status != 201 and status < 500 and not any(cookie.startswith(b"_token=") for cookie in cookies)


def _https(scope: Message, headers: dict[bytes, bytes]) -> bytes:
    """The same address by HTTPS."""
    host = headers.get(b"host", b"")
    name = host[: host.index(b"]") + 1] if host.startswith(b"[") else host.partition(b":")[0]
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    query: bytes = scope["query_string"]
    return b"https://" + name + path + (b"?" + query if query else b"")


def _stricter(send: Send, came_by: str) -> Send:
    """Has browsers that came by HTTPS come by it from now on; they heed it where they trust the certificate."""
    if came_by != "https":
        return send

    async def stricter(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], _STRICT]}
        await send(message)

    return stricter


async def _answer(send: Send, status: int, name: bytes, value: bytes) -> None:
    headers = [(name, value), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


class FrontDoorPlugin(AirflowPlugin):
    """Puts it around the API server."""

    name = "etl_front_door"
    fastapi_root_middlewares = [{"middleware": FrontDoor, "name": "front door"}]  # noqa: RUF012 - as Airflow reads it
