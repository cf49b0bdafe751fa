"""Runs a DAG of the dags folder once, as if triggered by hand, in this process: `python -m tests.support.run_dag ID`.

Prints the run's id and state and each task's state as one line of JSON, the last of its output.
"""

import argparse
import json
import os
from typing import Any

from airflow.dag_processing.dagbag import DagBag


def run_dag(dag_id: str, conf: dict[str, Any]) -> dict[str, Any]:
    """Run the DAG in the metadata database that the environment names."""
    bag = DagBag(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
    if bag.import_errors:
        raise RuntimeError(f"The DAGs cannot be imported: {bag.import_errors}")
    # A run triggered over the API has no logical date; what works without works with one.
    run = bag.dags[dag_id].test(logical_date=None, run_conf=conf)
    tasks = {f"{task.task_id}[{task.map_index}]": str(task.state) for task in run.get_task_instances()}
    return {"run_id": run.run_id, "state": str(run.state), "tasks": tasks}


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dag_id")
    parser.add_argument("--conf", type=json.loads, default={}, help="Params as JSON")
    arguments = parser.parse_args()
    print(json.dumps(run_dag(arguments.dag_id, arguments.conf)))


if __name__ == "__main__":
    main()
