"""Output of the commands, and their errors."""

import argparse
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
        self._said = ""

    def say(self, text: str) -> None:
        """Print a line of progress."""
        seconds = int(time.monotonic() - self._began)
        print(f"{seconds // 60:3}:{seconds % 60:02}  {text}", flush=True)

    def say_once(self, text: str) -> None:
        """Print a line of progress, unless it is the same as that of the call before."""
        if text != self._said:
            self._said = text
            self.say(text)

    def show(self, text: str = "") -> None:
        """Print text unchanged: a table, a log."""
        print(text, flush=True)

    def warn(self, text: str) -> None:
        """Print a warning."""
        print(f"Note: {text}", flush=True)

    def fail(self, text: str) -> None:
        """Print an error."""
        print(text, file=sys.stderr, flush=True)

    def confirm(self, word: str, otherwise: str) -> None:
        """Ask for a word at the terminal. Raises DeployError if another is given, or if there is no terminal."""
        if not sys.stdin.isatty():
            raise DeployError("This is no terminal, so it cannot be confirmed: give --yes.")
        if input(f"Type {word} to go on: ").strip() != word:
            raise DeployError(otherwise)

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


def new_parser(program: str, about: str) -> argparse.ArgumentParser:
    """A parser of a command line, whose help begins with `about` unchanged."""
    formatter = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(prog=program, description=about, formatter_class=formatter)


def table(rows: Sequence[Sequence[object]]) -> str:
    """Rows as aligned text; the first row is the header."""
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in texts) for column in range(len(texts[0]))]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in texts)
