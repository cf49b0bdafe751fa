"""TLS of a connection: its handshake in PRELOGIN packets (MS-TDS 3.2.5.2), or before everything else (TDS 8, "strict").

The session reads and writes plain packets; a thread between it and the client encrypts them.
"""

import select
import socket
import ssl
from contextlib import suppress
from pathlib import Path
from threading import Thread

from dev.sandbox.sqlserver.errors import ConnectionCutError
from dev.sandbox.sqlserver.wire.packets import PRELOGIN, Wire

_SIZE = 1 << 16
_HANDSHAKE = 22  # first byte of a TLS connection


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS context of the server; at most TLS 1.2, where the handshake in packets ends with a message of the server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["tds/8.0"])
    return context


def begins_with_tls(client: socket.socket) -> bool:
    """Whether the client begins with TLS and not with a packet."""
    return client.recv(1, socket.MSG_PEEK) == bytes([_HANDSHAKE])


class Tunnel:
    """A thread that decrypts what a wire receives, and encrypts what it sends."""

    def __init__(self, wire: Wire, context: ssl.SSLContext) -> None:
        self._wire = wire
        self._client = wire.socket
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._thread = Thread(target=self._run, name="tls", daemon=True)

    def shake_hands(self) -> None:
        """TLS handshake in PRELOGIN packets. Raises ConnectionCutError if the client rejects the certificate."""
        done = False
        while not done:
            try:
                self._tls.do_handshake()
                done = True
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError as error:
                raise ConnectionCutError(str(error)) from error
            if flight := self._outgoing.read():
                self._wire.write(flight)
                self._wire.finish(PRELOGIN)
            if not done:
                kind, data = self._wire.read_message()
                if kind != PRELOGIN:
                    raise ConnectionCutError(f"a message of type {kind} instead of a handshake")
                self._incoming.write(data)

    def open(self) -> None:
        """Encrypt everything from now on."""
        self._wire.socket, self._inner = socket.socketpair()
        self._thread.start()

    def close(self) -> None:
        """Send the last reply, and end."""
        if self._thread.is_alive():
            self._wire.socket.close()
            self._thread.join()

    def _run(self) -> None:
        with suppress(OSError, ssl.SSLError):  # either side may close first
            while self._pass_on():
                pass
        with suppress(OSError):
            self._client.shutdown(socket.SHUT_RDWR)
        self._inner.close()

    def _pass_on(self) -> bool:
        """Forward data in both directions; False if one side has closed."""
        ready, _, _ = select.select([self._client, self._inner], [], [])
        if self._client in ready:
            received = self._client.recv(_SIZE)
            self._incoming.write(received)
            with suppress(ssl.SSLWantReadError):
                while received := self._tls.read(_SIZE):  # empty after the client's close_notify
                    self._inner.sendall(received)
            if not received:
                return False
        if self._inner in ready:
            answered = self._inner.recv(_SIZE)
            if not answered:
                return False
            self._tls.write(answered)
        if encrypted := self._outgoing.read():
            self._client.sendall(encrypted)
        return True
