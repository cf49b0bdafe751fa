"""Checks that a port answers, with the same error message in the steps, in `etl check` and in plan.

Needs only Python.
"""

import socket
from collections.abc import Sequence

from etl.errors import TryAgainError

REACH_SECONDS = 4
"""Timeout of a connection to a port."""


class UnreachableError(TryAgainError):
    """A host and port that cannot be reached; `problem` is dns (no DNS server answers), name or port."""

    def __init__(self, problem: str, words: str) -> None:
        super().__init__(words)
        self.problem = problem


def reach(addresses: Sequence[tuple[str, int]]) -> None:
    """Resolve names and open ports until one answers. Raises UnreachableError where none of them does."""
    problems: list[UnreachableError] = []
    for host, port in addresses:
        try:
            _reach(host, port)
            return
        except UnreachableError as error:
            problems.append(error)
    if problems:
        raise UnreachableError(problems[-1].problem, " ".join(map(str, problems)))


def _reach(host: str, port: int) -> None:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        # DNS does not answer, or does not know the name.
        problem = "dns" if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN else "name"
        words = getattr(error, "strerror", None) or "it is no name"
        raise UnreachableError(problem, f"the name {host} does not resolve: {words}.") from None
    try:
        socket.create_connection((host, port), timeout=REACH_SECONDS).close()
    except OSError as error:
        seen = ", ".join(sorted({str(address[4][0]) for address in found}))
        words = error.strerror or str(error)
        raise UnreachableError("port", f"{host} ({seen}) does not answer on port {port}: {words}.") from None
