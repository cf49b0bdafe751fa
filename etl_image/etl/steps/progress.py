"""Progress of a long step: rows, rows a second, and the time left, a line every few seconds."""

import time

import structlog

_EVERY = 5.0


class Progress:
    """Counts rows and tells about it from time to time; `expected` rows give the time left."""

    def __init__(self, step: str, expected: int | None = None) -> None:
        self.rows = 0
        self._step = step
        self._expected = expected
        self._log = structlog.get_logger()
        self._began = self._told = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the step began."""
        return time.monotonic() - self._began

    def add(self, rows: int) -> None:
        """Note that so many more rows are through."""
        self.rows += rows
        if time.monotonic() - self._told >= _EVERY:
            self._told = time.monotonic()
            self._tell()

    def _tell(self) -> None:
        rate = self.rows / max(self.seconds, 1e-9)
        left = None if not self._expected else round(max(0, self._expected - self.rows) / max(rate, 1e-9))
        self._log.info(f"{self._step}: under way", rows=self.rows, rows_per_second=round(rate), seconds_left=left)
