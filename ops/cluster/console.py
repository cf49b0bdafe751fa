"""Output of the commands, and their errors."""

import sys
import time
from collections.abc import Sequence


class DeployError(Exception):
    """The command cannot continue; the message says why and what to do."""


class Console:
    """Progress on standard output with the time since the start; errors on standard error."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        """Print a line of progress."""
        seconds = int(time.monotonic() - self._began)
        print(f"{seconds // 60:3}:{seconds % 60:02}  {text}", flush=True)

    def show(self, text: str = "") -> None:
        """Print text unchanged: a table, a log."""
        print(text, flush=True)

    def warn(self, text: str) -> None:
        """Print a warning."""
        print(f"Note: {text}", flush=True)

    def fail(self, text: str) -> None:
        """Print an error."""
        print(text, file=sys.stderr, flush=True)


def table(rows: Sequence[Sequence[object]]) -> str:
    """Rows as aligned text; the first row is the header."""
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in texts) for column in range(len(texts[0]))]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in texts)
