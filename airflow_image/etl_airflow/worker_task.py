"""Entry point of a worker's task, given in the environment and not on the command line (airflow_local_settings.py).

python -m etl_airflow.worker_task
"""

import os
import sys

from airflow.sdk.execution_time import execute_workload
from airflow_local_settings import WORKLOAD


def main() -> None:
    """Run the task as `python -m airflow.sdk.execution_time.execute_workload` does."""
    task = os.environ.pop(WORKLOAD, None)
    if task is None:
        raise SystemExit(f"There is no task in {WORKLOAD}, where the scheduler puts it.")
    sys.argv = [sys.argv[0], "--json-string", task]
    execute_workload.main()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
