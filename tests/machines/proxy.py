"""A forward proxy for HTTPS that refuses and records requests for this machine."""

import http.client
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer

from tests.doubles.http_server import Handler, serving

_LOCAL = ("localhost", "127.", "::1", "0.0.0.0")
_BUFFER = 1 << 16


@dataclass
class Proxy:
    """Its URL, and the requests that should not have been sent to it."""

    url: str = ""
    local: list[str] = field(default_factory=list)
    """Hosts and ports of this machine."""
    tunnels: int = 0
    """How often it was asked for another machine."""


@contextmanager
def run_proxy() -> Iterator[Proxy]:
    """Run a proxy on loopback until the block ends."""
    proxy = Proxy()

    class Tunnel(Handler):
        def do_CONNECT(self) -> None:
            host, _, port = self.path.rpartition(":")
            if host.strip("[]").startswith(_LOCAL):
                proxy.local.append(self.path)
                self.send_error(http.client.FORBIDDEN, "Local connections take no proxy")
                return
            proxy.tunnels += 1
            try:
                far = socket.create_connection((host, int(port)), timeout=30)
            except OSError as error:
                self.send_error(http.client.BAD_GATEWAY, str(error))
                return
            with far:
                self.send_response(http.client.OK)
                self.end_headers()
                _join(self.connection, far)

        def do_GET(self) -> None:
            proxy.local.append(self.path)
            self.send_error(http.client.FORBIDDEN, "Only https takes this proxy")

        do_POST = do_PUT = do_HEAD = do_DELETE = do_PATCH = do_GET

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Tunnel)) as proxy.url:
        yield proxy


def _join(near: socket.socket, far: socket.socket) -> None:
    """Forward data in both directions until one side closes."""
    while True:
        ready, _, _ = select.select([near, far], [], [], 300)
        if not ready:
            return
        for one in ready:
            data = one.recv(_BUFFER)
            if not data:
                return
            (far if one is near else near).sendall(data)
