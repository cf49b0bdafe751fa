"""Runs it, with the flags that Loki is given here: `python -m loki_double -config.file=loki.yaml`."""

import gzip
import json
import signal
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from . import RefusedError, not_implemented
from .limits import read
from .pushing import Intake
from .querying import query_range
from .store import ALONE, Store

_FLAGS = {"config.file", "config.expand-env", "server.http-listen-address", "server.http-listen-port"}
# Of Loki's, and without a meaning here.
_IGNORED = {"server.grpc-listen-port"}
_TEXT, _JSON = "text/plain; version=0.0.4; charset=utf-8", "application/json; charset=utf-8"
_METRICS = """# TYPE loki_distributor_lines_received_total counter
loki_distributor_lines_received_total{{tenant="fake"}} {}
# TYPE loki_discarded_samples_total counter
"""
Answer = tuple[int, str, str]


class Double(ThreadingHTTPServer):
    """The server, and its intake of lines."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], intake: Intake, has_tenants: bool) -> None:
        super().__init__(address, _Handler)
        self.intake, self.has_tenants = intake, has_tenants


class _Handler(BaseHTTPRequestHandler):
    server: Double
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        self._answer(self._post)

    def do_GET(self) -> None:
        self._answer(self._get)

    def _answer(self, work: Callable[[str], Answer]) -> None:
        try:
            status, kind, text = work(urlsplit(self.path).path)
        except (RefusedError, ValueError) as error:
            status, kind, text = getattr(error, "status", 400), _TEXT, f"{error}\n"
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _post(self, path: str) -> Answer:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        kind, encoding = self.headers.get_content_type(), self.headers.get("Content-Encoding", "")
        if path != "/loki/api/v1/push":
            raise not_implemented(f"POST {path}", 404)
        if kind != "application/json" or encoding not in ("", "gzip"):
            raise not_implemented(f"pushes of {kind} with the encoding {encoding or 'none'}; JSON and gzip it does")
        try:
            content = gzip.decompress(body) if encoding else body
        except (OSError, EOFError) as error:
            raise RefusedError(f"gzip: {error}") from None
        (tenant, *others) = self._tenants()
        if others:
            raise RefusedError("multiple org IDs present", 401)
        self.server.intake.push(content, tenant)
        return 204, _TEXT, ""

    def _get(self, path: str) -> Answer:
        intake = self.server.intake
        if path == "/ready":
            return 200, _TEXT, "ready\n"
        if path == "/metrics":
            reasons = sorted(intake.discarded.items())
            discarded = 'loki_discarded_samples_total{{reason="{}",tenant="fake"}} {}\n'
            return 200, _TEXT, _METRICS.format(intake.received) + "".join(discarded.format(*each) for each in reasons)
        if path == "/loki/api/v1/query_range":
            asked = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
            return 200, _JSON, json.dumps(query_range(intake.store, intake.limits, asked, self._tenants()))
        if path == "/loki/api/v1/status/buildinfo":
            return 200, _JSON, json.dumps({"version": "a double of Loki's API, not Loki"})
        raise not_implemented(f"GET {path}", 404)

    def _tenants(self) -> list[str]:
        """The tenant of a request: by the header, or the only one without tenants."""
        if not self.server.has_tenants:
            return [ALONE]
        if not (said := self.headers.get("X-Scope-OrgID", "")):
            raise RefusedError("no org id", 401)
        return sorted(set(said.split("|")))

    def log_message(self, *_: object) -> None:
        """Nothing of each request."""


def main() -> None:
    """Serve until SIGTERM."""
    flags = dict(argument.lstrip("-").partition("=")[::2] for argument in sys.argv[1:])
    if unknown := flags.keys() - _FLAGS - _IGNORED:
        sys.exit(f"The double of Loki's API does not know -{' -'.join(unknown)}, only -{' -'.join(sorted(_FLAGS))}.")
    limits, configuration = read(Path(flags["config.file"]), expand=flags.get("config.expand-env") == "true")
    folder = Path(configuration["common"]["path_prefix"])
    folder.mkdir(parents=True, exist_ok=True)
    address = flags.get("server.http-listen-address") or configuration["server"].get("http_listen_address", "")
    port = int(flags.get("server.http-listen-port") or configuration["server"]["http_listen_port"])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    print(f"A double of Loki's API, not Loki, on port {port}; its lines are in {folder}.", flush=True)
    Double((address, port), Intake(limits, Store(folder)), configuration["auth_enabled"]).serve_forever()


if __name__ == "__main__":
    main()
