"""A front as Traefik is one, for tests: TLS at one port, plain HTTP at another, and Airflow's login page behind."""

import base64
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path

from ops.deploy.secrets import certificates
from ops.deploy.secrets.certificates import CertificateSpec
from tests.doubles.http_server import Handler, serving

LOGIN = {"/auth/login/": (200, '<div id="loginbox">'), "/grafana/login": (200, "<title>Grafana</title>")}


@dataclass
class Front:
    """The responses; a test may change them."""

    pages: dict[str, tuple[int, str]] = field(default_factory=lambda: dict(LOGIN))
    plain: int = 308
    port: int = 0
    plain_port: int = 0


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """No log: tests have clients that hang up."""


def certified(wanted: CertificateSpec) -> tuple[str, str]:
    """A certificate as apply-all.sh makes it, and with its key."""
    data = certificates._make(wanted)["data"]
    certificate, key = (base64.b64decode(data[name]).decode() for name in ("tls.crt", "tls.key"))
    return certificate, certificate + key


@contextmanager
def front(folder: Path, default: str, by_name: "dict[str, str] | None" = None) -> Iterator[Front]:
    """Serve on loopback until the block ends. Certificates are PEM with their keys: the default, and others by name."""
    answers = Front()

    class Secure(Handler):
        def do_GET(self) -> None:
            status, text = answers.pages.get(self.path, (404, "404 page not found"))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

    class Plain(Secure):
        def do_GET(self) -> None:
            self.send_response(answers.plain)
            self.send_header("Location", "https://elsewhere/")
            self.end_headers()

    contexts = {name: _context(folder, text) for name, text in (by_name or {}).items()}

    def choose(connection: ssl.SSLObject, name: "str | None", _: ssl.SSLContext) -> None:
        if name in contexts:
            connection.context = contexts[name]

    context = _context(folder, default)
    context.sni_callback = choose
    secure, plain = _Server(("127.0.0.1", 0), Secure), _Server(("127.0.0.1", 0), Plain)
    secure.socket = context.wrap_socket(secure.socket, server_side=True, do_handshake_on_connect=False)
    answers.port, answers.plain_port = secure.server_address[1], plain.server_address[1]
    with serving(secure), serving(plain):
        yield answers


def _context(folder: Path, certificate: str) -> ssl.SSLContext:
    file = folder / "shown.pem"
    file.write_text(certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context
