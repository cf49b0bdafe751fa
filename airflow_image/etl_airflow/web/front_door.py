"""Middleware before Airflow's UI and API: enforces HTTPS, limits failed logins, closes paths that are not for people.

The API server listens at two ports (api_server.py), one for people and one for workers:

* ETL_UI_PORT is for people, through Traefik, whose headers on the client's address are trusted. Failed logins are
  limited, and with an identity provider only the accounts in OIDC_LOCAL_USERS may use a password. The Execution API and
  the descriptions of the APIs are closed.
* The other port is for workers and serves the Execution API only, so no password can be tried there. It serves
  everything to `kubectl port-forward`, whose requests come from the pod itself.

Without ETL_UI_PORT, as in the demo, one port serves all.
"""

import json
import logging
import os
import re
import time
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

from airflow.plugins_manager import AirflowPlugin
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from etl_airflow.web.failed_logins import LoginLimit, password_users, user_in
from etl_airflow.web.page_headers import add_headers, page_headers, without_cookies, without_session

MOST_LOGIN_BYTES = 1 << 16
_EXECUTION = "execution"
_LOGINS = frozenset({"login", "token"})
_DESCRIPTIONS = frozenset({"docs", "redoc", "openapi.json"})
_CLOSED_BELOW_AUTH = _DESCRIPTIONS | {"api"}
"""`/auth/api` is Flask-AppBuilder's API, a second login that Airflow does not use."""
_JSON = (b"content-type", b"application/json")
_REFUSED_LOGIN = (
    "People sign in at the identity provider. Passwords are for the accounts in OIDC_LOCAL_USERS, and for"
    " kubectl port-forward (docs/operations.md, Sign-in)."
)
log = logging.getLogger(__name__)


class FrontDoor:
    """ASGI middleware around Airflow's API server. Failed logins are counted per process."""

    def __init__(self, app: ASGIApp, clock: Callable[[], float] = time.monotonic) -> None:
        # Imported here: workers import plugins, too.
        from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

        self._app = app
        self._limit = LoginLimit(clock)
        port = os.environ.get("ETL_UI_PORT")
        self._ui_port = int(port) if port else None
        self._password_users = password_users()
        trusted = os.environ.get("FORWARDED_ALLOW_IPS", "127.0.0.1")
        self._from_traefik: Any = ProxyHeadersMiddleware(self._serve_people, trusted)  # type: ignore[arg-type]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, redirect it to HTTPS, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif self._ui_port is not None and _port(scope) == self._ui_port:
            await self._from_traefik(scope, receive, send)
        elif self._ui_port is None or _is_local(scope):
            await self._serve(scope, receive, send)
        elif scope["type"] == "http" and scope["path"].startswith(f"/{_EXECUTION}/"):
            await self._app(scope, receive, send)
        else:
            await _refuse(scope, send, 404)

    async def _serve_people(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        came_by = headers.get(b"x-forwarded-proto", b"").decode("latin-1")
        words = _words(scope["path"])
        send = add_headers(page_headers(words, came_by), send)
        if _is_closed(words):
            await _refuse(scope, send, 404)
        elif came_by == "http":
            await _refuse(scope, send, 308, (b"location", _https(scope, headers)))
        elif words[:2] == ["auth", "static"]:
            await self._app(without_cookies(scope), receive, without_session(send))
        else:
            await self._serve(scope, receive, send, self._password_users)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, allowed: frozenset[str] | None = None) -> None:
        if scope["type"] == "http" and scope["method"] == "POST" and _is_login(_words(scope["path"])):
            await self._log_in(scope, receive, send, allowed)
        else:
            await self._app(scope, receive, send)

    async def _log_in(self, scope: Scope, receive: Receive, send: Send, allowed: frozenset[str] | None) -> None:
        body = await _read(receive)
        if body is None:
            await _refuse(scope, send, 413)
            return
        kinds = [value for name, value in scope["headers"] if name == b"content-type"]
        try:
            user = user_in(kinds[0] if len(kinds) == 1 else b"", body)
        except ValueError:
            await _refuse(scope, send, 415)
            return
        if allowed is not None and user not in allowed:
            await _refuse(scope, send, 403, text=_REFUSED_LOGIN)
            return
        address = scope["client"][0] if scope.get("client") else ""
        if seconds := self._limit.refused_for(address, user):
            log.warning(
                "Too many failed logins from %s, or of the user named there: refused for %d s.", address, seconds
            )
            await _refuse(scope, send, 429, (b"retry-after", str(seconds).encode()))
            return
        begun, answer = self._limit.begin(address, user), None

        async def watch(message: Message) -> None:
            nonlocal answer
            if message["type"] == "http.response.start":
                answer = message
            await send(message)

        try:
            await self._app(scope, _again(body, receive), watch)
        finally:
            if answer is not None and _is_success(answer):
                self._limit.remember(address, user)
            # A server error, as without its database, says nothing about the password.
            if answer is None or answer["status"] >= 500 or _is_success(answer):
                self._limit.forget(address, user, begun)


def _is_success(start: Message) -> bool:
    """Whether a login succeeded: the API answers 201; the form always redirects, but with a token only then."""
    cookies = [value for name, value in start["headers"] if name.lower() == b"set-cookie"]
    return start["status"] == 201 or any(cookie.startswith(b"_token=") for cookie in cookies)


def _words(path: str) -> list[str]:
    """The parts of a path, normalized like servers behind this one may do."""
    words: list[str] = []
    for part in re.split(r"[/\\]+", path.casefold()):
        word = part.partition(";")[0].strip()
        if word == "..":
            words = words[:-1]
        elif word not in ("", "."):
            words.append(word)
    return words


def _is_login(words: list[str]) -> bool:
    return words[:1] == ["auth"] and words[1:2] != [] and words[1] in _LOGINS


def _is_closed(words: list[str]) -> bool:
    """Whether a path is closed to people: the Execution API, a second login, and descriptions of APIs."""
    first, second = [*words, "", ""][:2]
    return first == _EXECUTION or first in _DESCRIPTIONS or (first == "auth" and second in _CLOSED_BELOW_AUTH)


def _port(scope: Scope) -> int | None:
    return scope["server"][1] if scope.get("server") else None


def _is_local(scope: Scope) -> bool:
    """Whether a request comes from the pod itself, by the address of the connection: no header can change it."""
    try:
        return ip_address(scope["client"][0]).is_loopback if scope.get("client") else False
    except ValueError:
        return False


async def _read(receive: Receive) -> bytes | None:
    """The body of a request; None for one that is too long."""
    body: bytes = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return body
        body += message.get("body", b"")
        if len(body) > MOST_LOGIN_BYTES:
            return None
        if not message.get("more_body"):
            return body


def _again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that returns the body already read, then continues."""
    left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def given() -> Message:
        return left.pop() if left else await receive()

    return given


def _https(scope: Scope, headers: dict[bytes, bytes]) -> bytes:
    """The same URL by HTTPS."""
    host = headers.get(b"host", b"")
    name = host[: host.index(b"]") + 1] if host.startswith(b"[") else host.partition(b":")[0]
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    query: bytes = scope["query_string"]
    return b"https://" + name + path + (b"?" + query if query else b"")


async def _refuse(
    scope: Scope, send: Send, status: int, *headers: tuple[bytes, bytes], text: str | None = None
) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    body = json.dumps({"detail": text}).encode() if text else b""
    headers = (*headers, (b"content-length", str(len(body)).encode()), *([_JSON] if text else []))
    await send({"type": "http.response.start", "status": status, "headers": [*headers]})
    await send({"type": "http.response.body", "body": body})


class FrontDoorPlugin(AirflowPlugin):
    """Adds the middleware to the API server."""

    name = "etl_airflow.web.front_door"
    fastapi_root_middlewares = [{"middleware": FrontDoor, "name": "front door"}]  # noqa: RUF012 - as Airflow reads it
