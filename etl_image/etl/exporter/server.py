"""`etl export-metrics`: metrics of the sink, of Airflow's metadata database and of certificates, for Prometheus.

Each database is polled in its own thread, and /metrics shows the last answer: one that is down or hangs is `…_up 0` and
delays no scrape.
"""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from etl.config.settings import Settings
from etl.errors import ConfigurationError
from etl.exporter.certificates import Certificates
from etl.exporter.metadata import metadata_database
from etl.exporter.poller import Database, Poller
from etl.exporter.sink import sink_database


def export_metrics(settings: Settings, port: int, certificates: Path | None = None) -> None:
    """Serve /metrics, and /healthz for probes, until the process is ended. Raises ConfigurationError."""
    databases = [
        *([sink_database(settings)] if settings.sink_url else []),
        *([metadata_database(settings)] if settings.metadata_url else []),
    ]
    if not databases:
        raise ConfigurationError("Neither SINK_URL nor METADATA_URL is set; set what is to be measured.")
    server, pollers = make_server(databases, port, certificates)
    stopped = threading.Event()
    for poller in pollers:
        threading.Thread(target=poller.run, args=(stopped,), daemon=True).start()
    structlog.get_logger().info("export-metrics: serving", port=port, databases=[each.name for each in databases])
    server.serve_forever()


def make_server(
    databases: list[Database], port: int, certificates: Path | None = None
) -> tuple[ThreadingHTTPServer, list[Poller]]:
    """The server, and one poller a database, not yet running."""
    registry = CollectorRegistry()
    pollers = [Poller(database) for database in databases]
    for poller in pollers:
        registry.register(poller)
    if certificates:
        registry.register(Certificates(certificates))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/healthz":
                stuck = any(poller.is_stuck for poller in pollers)
                self._answer(503 if stuck else 200, "text/plain", b"a poller is stuck\n" if stuck else b"ok\n")
            elif self.path.split("?")[0] == "/metrics":
                encode, content_type = choose_encoder(self.headers.get("Accept", ""))
                self._answer(200, content_type, encode(registry))
            else:
                self._answer(404, "text/plain", b"see /metrics\n")

        def _answer(self, status: int, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the standard library calls it
            """Requests, every few seconds, are not logged."""

    return ThreadingHTTPServer(("", port), Handler), pollers
