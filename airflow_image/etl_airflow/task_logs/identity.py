"""What a log file's path says: which attempt of which task wrote it."""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

# [logging] log_filename_template as Airflow has it by default; the triggerer's files have its job's number at the end.
_PATH = re.compile(
    r"(?:^|/)(?P<path>dag_id=(?P<dag_id>[^/]+)/run_id=(?P<run_id>[^/]+)/task_id=(?P<task_id>[^/]+)/"
    r"(?:map_index=(?P<map_index>\d+)/)?attempt=(?P<try_number>\d+)\.log(?P<trigger>\.trigger\b.*)?)$"
)


@dataclass(frozen=True)
class Identity:
    """An attempt of a task. Every line has it, also those of the task's stdout, which do not carry it themselves."""

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
        """The identity in a path, absolute or relative; None where it is no task's log."""
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
        """The labels of the stream: few values each, as Loki needs it."""
        return {"job": "airflow-task", "dag_id": self.dag_id, "task_id": self.task_id}

    @property
    def metadata(self) -> dict[str, str]:
        """The structured metadata of a line: what would be too many streams as labels."""
        return {
            "run_id": self.run_id,
            "map_index": self.map_index,
            "try_number": self.try_number,
            "path": self.path,
        }
