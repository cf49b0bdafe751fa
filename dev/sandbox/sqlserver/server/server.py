"""The listening socket: a thread for each connection."""

import logging
import socket
import ssl
from itertools import count
from threading import Lock, Thread

from dev.sandbox.sqlserver.engine.database import Engine
from dev.sandbox.sqlserver.engine.locks import AppLocks
from dev.sandbox.sqlserver.engine.principals import Administrator
from dev.sandbox.sqlserver.errors import ConnectionCutError
from dev.sandbox.sqlserver.faults import Faults
from dev.sandbox.sqlserver.server.session import Session, Shared
from dev.sandbox.sqlserver.wire.packets import Wire
from dev.sandbox.sqlserver.wire.watch import AttentionWatch

log = logging.getLogger(__name__)
_FIRST_SESSION = 51  # SQL Server reserves lower numbers
_BACKLOG = 128


class Server:
    """Listens, and serves clients until it is closed. Port 0: any free port.

    `discard`: the rows of bulk loads are discarded, to measure how fast a client can send them. `tls`: the certificate;
    all is then encrypted.
    """

    def __init__(
        self,
        host: str,
        port: int,
        engine: Engine,
        administrator: Administrator,
        discard: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._shared = Shared(engine, administrator, AppLocks(), Faults(), AttentionWatch(), discard, tls)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        self._clients: set[socket.socket] = set()
        self._threads: set[Thread] = set()
        self._lock = Lock()
        self._acceptor = Thread(target=self._accept, name="accept", daemon=True)
        self._acceptor.start()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, port = self._listener.getsockname()[:2]
        return str(host), int(port)

    def close(self) -> None:
        """Close all connections, rolling back their transactions, and close the database."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._listener.close()
        with self._lock:
            threads = list(self._threads)
            for client in self._clients:
                client.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
        self._shared.watch.close()
        self._shared.engine.close()

    def _accept(self) -> None:
        for session_id in count(_FIRST_SESSION):
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _keep_alive(client)
            thread = Thread(target=self._serve, args=(client, session_id), name=f"session {session_id}", daemon=True)
            with self._lock:
                self._clients.add(client)
                self._threads.add(thread)
            thread.start()

    def _serve(self, client: socket.socket, session_id: int) -> None:
        faults = self._shared.faults
        wire = Wire(client, session_id, lambda: (faults.take("slow_network") or 0) / 1000)
        try:
            Session(wire, self._shared, session_id).run()
        except ConnectionCutError as cut:
            log.debug("session %d ends: %s", session_id, cut)
        except Exception:
            log.exception("session %d ends", session_id)
        finally:
            with self._lock:
                self._clients.discard(client)
                for thread in [thread for thread in self._threads if not thread.is_alive()]:
                    self._threads.discard(thread)
            client.close()


def _keep_alive(client: socket.socket) -> None:
    """Detect a client that is gone by TCP keep-alive, as SQL Server does: after 30 s, then within seconds."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
