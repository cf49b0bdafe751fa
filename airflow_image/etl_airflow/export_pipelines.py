"""Export of the DAG files' pipelines to a folder as JSON: `python -m etl_airflow.export_pipelines FOLDER`.

For mssql-init-job, which creates their tables in the sink, so that the steps' login needs no permission to. A DAG file
that cannot be read is logged and skipped: Airflow shows it as an import error, too.
"""

import logging
import sys
from pathlib import Path

from airflow import settings
from airflow.dag_processing.dagbag import DagBag

VARIABLE = "ETL_PIPELINE"
"""Variable with a step's pipeline as JSON (etl_airflow.pods.operator)."""
log = logging.getLogger(__name__)


def pipelines(bag: DagBag) -> dict[str, str]:
    """The pipelines of all DAGs, as JSON by the names of their DAGs."""
    variables = [(dag_id, getattr(task, "env_vars", None)) for dag_id, dag in bag.dags.items() for task in dag.tasks]
    # In other operators it may be a list.
    found = {dag_id: each[VARIABLE] for dag_id, each in variables if isinstance(each, dict) and VARIABLE in each}
    # A pipeline that is verified is in two DAGs, NAME_etl and NAME_verify.
    return {dag_id: each for dag_id, each in found.items() if dag_id == _first_with(each, found)}


def _first_with(pipeline: str, found: dict[str, str]) -> str:
    """The first DAG, by its name, of a pipeline."""
    return min(dag_id for dag_id, each in found.items() if each == pipeline)


def main(folder: Path, dags: Path = Path(settings.DAGS_FOLDER)) -> None:
    """Write the files."""
    sys.path.insert(0, str(dags))  # as Airflow does
    bag = DagBag(str(dags))
    for file, error in bag.import_errors.items():
        log.warning(
            "The pipelines of %s are skipped, the file cannot be read: %s", file, error.strip().splitlines()[-1]
        )
    for name, pipeline in pipelines(bag).items():
        (folder / f"{name}.json").write_text(pipeline)
        log.info("Pipeline of %s.", name)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main(Path(sys.argv[1]))
