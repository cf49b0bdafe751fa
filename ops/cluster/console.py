"""Output of the commands, and their errors."""

import sys
import time
from collections.abc import Callable, Sequence

INTERRUPTED = 130
"""The exit code after Ctrl-C."""


class DeployError(Exception):
    """The command cannot continue; the message says why and what to do."""

    exit_code = 1
    """Of the command that it ends."""


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

    def run(self, command: Callable[[], None], *, stopped: str) -> int:
        """Run a whole command and return its exit code; print DeployError as its sentence, Ctrl-C as `stopped`."""
        try:
            command()
        except DeployError as error:
            self.fail(str(error))
            return error.exit_code
        except KeyboardInterrupt:
            self.fail(stopped)
            return INTERRUPTED
        return 0


def table(rows: Sequence[Sequence[object]]) -> str:
    """Rows as aligned text; the first row is the header."""
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in texts) for column in range(len(texts[0]))]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in texts)
