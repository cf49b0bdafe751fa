"""HTTP servers in a test's process."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from socketserver import BaseServer
from threading import Thread
from typing import Any


class Handler(BaseHTTPRequestHandler):
    """A handler that logs nothing."""

    def answer(self, status: int, content: Any) -> None:
        """Send JSON."""
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(server: BaseServer) -> Iterator[str]:
    """Serve until the block ends; yields the URL. The server is asked to end a hundred times a second, not twice."""
    address: Any = server.server_address
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
