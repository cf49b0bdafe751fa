"""Security headers of pages; and no session cookie with static files."""

from collections.abc import Callable

from starlette.types import Message, Scope, Send

Header = tuple[bytes, bytes]
_STRICT = (b"strict-transport-security", b"max-age=31536000")
# Login and pages on users and roles are Flask-AppBuilder's, whose templates have inline scripts.
_SCRIPTS_OF_PAGES = "'self' 'unsafe-inline'"
_SCRIPTS_OF_UI = "'self' 'wasm-unsafe-eval'"
_POLICY = (
    "default-src 'self'; script-src {scripts}; style-src 'self' 'unsafe-inline'; img-src 'self' data:;"
    " font-src 'self' data:; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self';"
    " frame-ancestors 'self'"
)
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"SAMEORIGIN"),
    # Not stricter: the login form is refused without a referrer.
    (b"referrer-policy", b"same-origin"),
)


def page_headers(words: list[str], came_by: str) -> list[Header]:
    """Headers for the parts of a path. Browsers honour Strict-Transport-Security only with a trusted certificate."""
    scripts = _SCRIPTS_OF_PAGES if words[:1] == ["auth"] else _SCRIPTS_OF_UI
    policy = (b"content-security-policy", _POLICY.format(scripts=scripts).encode())
    return [*_HEADERS, policy, *([_STRICT] if came_by == "https" else [])]


def add_headers(added: list[Header], send: Send) -> Send:
    """A `send` that adds these headers to a response that lacks them."""

    def change(headers: list[Header]) -> list[Header]:
        there = {name.lower() for name, _ in headers}
        return [*headers, *(header for header in added if header[0] not in there)]

    return _changing(change, send)


def without_cookies(scope: Scope) -> Scope:
    """A request for a static file without its cookies.

    Flask-Session writes the whole session back after each request. A file still being sent would restore the session of
    before a click on "sign in", without the state that the identity provider sends back.
    """
    return {**scope, "headers": [(name, value) for name, value in scope["headers"] if name != b"cookie"]}


def without_session(send: Send) -> Send:
    """A `send` that drops Set-Cookie: a new session would replace the browser's."""
    return _changing(lambda headers: [header for header in headers if header[0].lower() != b"set-cookie"], send)


def _changing(change: Callable[[list[Header]], list[Header]], send: Send) -> Send:
    async def send_changed(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": change(message["headers"])}
        await send(message)

    return send_changed
