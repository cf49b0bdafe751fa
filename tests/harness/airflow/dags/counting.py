"""A DAG for tests of logs: its tasks count, in as many lines and over as many seconds as the environment says."""

import logging
import os
import sys
import time

from airflow.sdk import DAG, task

with DAG("counting"):

    def write_lines() -> None:
        """Write numbered lines, evenly over the time."""
        lines, seconds = int(os.environ["LINES"]), float(os.environ.get("SECONDS", 0))
        log, started = logging.getLogger("counting"), time.monotonic()
        for number in range(lines):
            log.info("line %d", number)
            ahead = started + seconds * (number + 1) / lines - time.monotonic()
            if ahead > 0:
                time.sleep(ahead)

    @task
    def count() -> None:
        """Count, and print a line to stdout and one to stderr."""
        write_lines()
        print("on stdout")
        print("on stderr", file=sys.stderr)

    @task
    def part(_: int) -> None:
        """Count; mapped."""
        write_lines()

    count()
    part.expand(_=[10, 11])
