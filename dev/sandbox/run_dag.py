"""Runs a DAG of the dags folder once, as if triggered by hand, in this process: `python -m dev.sandbox.run_dag ID`.

Prints the run's id and state, each task's state, and the last lines of tasks that failed as one line of JSON, the last
of its output.
"""

import argparse
import json
import logging
import os
import sys
from typing import Any

from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.definitions.mappedoperator import MappedOperator


def run_dag(dag_id: str, conf: dict[str, Any], *, retry: bool = True) -> dict[str, Any]:
    """Run the DAG in the metadata database that the environment names; with `retry` off, what fails has failed."""
    bag = DagBag(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
    if dag_id not in bag.dags:  # other files may be broken
        told = [f"{file}: {error.strip().splitlines()[-1]}" for file, error in bag.import_errors.items()]
        raise RuntimeError(" ".join([f"There is no DAG {dag_id}.", *told]))
    dag, why = bag.dags[dag_id], _Messages()
    for task in dag.tasks if not retry else ():
        (task.partial_kwargs if isinstance(task, MappedOperator) else vars(task))["retries"] = 0
    logging.getLogger("etl_airflow.pods.last_line").addHandler(why)
    # A run triggered over the API has no logical date; what works without works with one.
    run = dag.test(logical_date=None, run_conf=conf)
    tasks = {f"{task.task_id}[{task.map_index}]": str(task.state) for task in run.get_task_instances()}
    return {"run_id": run.run_id, "state": str(run.state), "tasks": tasks, "why": why.messages}


class _Messages(logging.Handler):
    """Keeps what is logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dag_id")
    parser.add_argument("--conf", type=json.loads, default={}, help="Params as JSON")
    parser.add_argument("--no-retry", dest="retry", action="store_false", help="what fails has failed")
    arguments = parser.parse_args()
    try:
        print(json.dumps(run_dag(arguments.dag_id, arguments.conf, retry=arguments.retry)))
    except RuntimeError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
