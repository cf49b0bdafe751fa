"""Identity of a log file's task attempt, parsed from its path."""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

# The default of [logging] log_filename_template; the triggerer's files end with the number of its job.
_PATH = re.compile(
    r"(?:^|/)(?P<path>dag_id=(?P<dag_id>[^/]+)/run_id=(?P<run_id>[^/]+)/task_id=(?P<task_id>[^/]+)/"
    r"(?:map_index=(?P<map_index>\d+)/)?attempt=(?P<try_number>\d+)\.log(?P<trigger>\.trigger\b.*)?)$"
)


@dataclass(frozen=True)
class Identity:
    """An attempt of a task. It is sent with every line: those of the task's stdout do not contain it."""

    path: str
    """Relative to Airflow's log folder."""
    dag_id: str
    run_id: str
    task_id: str
    map_index: str
    try_number: str
    is_trigger: bool

    @classmethod
    @lru_cache(maxsize=1024)
    def of(cls, path: str) -> Self | None:
        """The identity in a path, absolute or relative; None if it is not a task's log."""
        found = _PATH.search(path)
        if found is None:
            return None
        part = found.groupdict()
        return cls(
            path=part["path"],
            dag_id=part["dag_id"],
            run_id=part["run_id"],
            task_id=part["task_id"],
            map_index=part["map_index"] or "-1",
            try_number=part["try_number"],
            is_trigger=part["trigger"] is not None,
        )

    @property
    def labels(self) -> dict[str, str]:
        """Labels of the stream: of low cardinality, as Loki requires."""
        return {"job": "airflow-task", "dag_id": self.dag_id, "task_id": self.task_id}

    @property
    def metadata(self) -> dict[str, str]:
        """Structured metadata of a line: of too high cardinality for labels."""
        return {
            "run_id": self.run_id,
            "map_index": self.map_index,
            "try_number": self.try_number,
            "path": self.path,
        }
