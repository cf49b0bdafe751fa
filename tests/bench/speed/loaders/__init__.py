"""Programs that move one table, each in a separate process: `python -m tests.bench.speed.loaders.NAME JOB`.

JOB is JSON: the columns, the tables at both ends, the rows. SOURCE_URL and SINK_URL say where the ends are.
"""

import json
import os
import sys
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True)
class Job:
    """The job of a loader. `file`: the rows as an Arrow stream, for loaders that read no source."""

    source: str
    sink: str
    columns: list[str]
    rows: int
    file: str

    @property
    def select(self) -> str:
        """The query of all rows."""
        return f"SELECT {', '.join(self.columns)} FROM {self.source}"


def read_job() -> Job:
    """The job of the command line."""
    return Job(**json.loads(sys.argv[1]))


def sink_words() -> dict[str, Any]:
    """SINK_URL in parts: server, port, user, password, database."""
    parts = urlsplit(os.environ["SINK_URL"])
    return {
        "server": parts.hostname or "",
        "port": parts.port or 1433,
        "user": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "database": parts.path.strip("/"),
    }
