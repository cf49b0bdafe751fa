"""Watch for attentions: a client can cancel a statement while it runs."""

import os
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock, Thread

from dev.sandbox.sqlserver.wire.packets import ATTENTION


class AttentionWatch:
    """A thread that watches the sockets of all busy sessions for an attention, or for their closing.

    It only peeks: the session reads the attention once its statement has stopped.
    """

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._busy: dict[int, tuple[socket.socket, Callable[[], None]]] = {}
        self._lock = Lock()
        self._wake_reader, self._wake_writer = os.pipe()
        self._poll.register(self._wake_reader, select.EPOLLIN)
        self._thread = Thread(target=self._run, name="attention", daemon=True)
        self._thread.start()

    @contextmanager
    def watching(self, sock: socket.socket, interrupt: Callable[[], None]) -> Iterator[None]:
        """Call `interrupt` (from another thread, at most once) if an attention arrives before the block ends."""
        number = sock.fileno()
        with self._lock:
            self._busy[number] = (sock, interrupt)
            self._poll.register(number, select.EPOLLIN | select.EPOLLONESHOT)
        try:
            yield
        finally:
            with self._lock:
                del self._busy[number]
                self._poll.unregister(number)

    def close(self) -> None:
        """End the thread."""
        os.close(self._wake_writer)
        self._thread.join()
        os.close(self._wake_reader)
        self._poll.close()

    def _run(self) -> None:
        while True:
            for number, _ in self._poll.poll():
                if number == self._wake_reader:
                    return
                with self._lock:
                    if number in self._busy:
                        self._look(*self._busy[number])

    @staticmethod
    def _look(sock: socket.socket, interrupt: Callable[[], None]) -> None:
        try:
            first = sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except OSError:
            first = b""
        if not first or first[0] == ATTENTION:
            interrupt()
