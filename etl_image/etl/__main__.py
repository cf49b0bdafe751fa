"""The command `etl`, also as `python -m etl`, started and ended without what takes time and brings a step nothing."""

import gc
import os
import sys
from contextlib import suppress
from typing import NoReturn

# Imports make a hundred thousand objects that stay: looking for garbage among them takes a sixth of their time.
gc.set_threshold(100_000)
# structlog and typer import it for colours, which only a terminal shows.
if not sys.stderr.isatty():
    sys.modules["rich"] = None  # type: ignore[assignment]  # None has an import raise ModuleNotFoundError
    os.environ["TYPER_USE_RICH"] = "false"

from etl.cli import main as run_command  # noqa: E402


def main() -> NoReturn:
    """Run the command, and end the process without taking its modules apart: the system does that at once."""
    try:
        run_command()
    except SystemExit as ended:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):  # nobody reads it any more
                stream.flush()
        os._exit(ended.code if isinstance(ended.code, int) else 1)


if __name__ == "__main__":
    main()
