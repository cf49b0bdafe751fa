"""A TCP proxy on loopback that can be made to accept connections and never answer."""

import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class SilentProxy:
    """Forwards connections; those accepted while it is `silent` get no answer."""

    def __init__(self, behind: int) -> None:
        self.silent = False
        self.taken = 0
        """Connections so far."""
        self._behind = behind
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, name="silent_proxy", daemon=True).start()

    def close(self) -> None:
        """End it, with all connections."""
        for one in (self._listening, *self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                self.taken += 1
                self._open.append(client)
                if not self.silent:
                    threading.Thread(target=self._pass_on, args=(client,), name="silent_proxy", daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        with suppress(OSError), client, socket.create_connection(("127.0.0.1", self._behind)) as server:
            other = {client: server, server: client}
            with selectors.DefaultSelector() as waiting:
                for one in other:
                    waiting.register(one, selectors.EVENT_READ)
                while True:
                    for key, _ in waiting.select():
                        source = key.fileobj
                        assert isinstance(source, socket.socket)
                        data = source.recv(1 << 16)
                        if not data:
                            return
                        other[source].sendall(data)


@contextmanager
def silent_proxy(behind: int) -> Iterator[SilentProxy]:
    """A proxy to a port of loopback until the block ends."""
    one = SilentProxy(behind)
    try:
        yield one
    finally:
        one.close()
