"""The DAG `<name>_verify` of a pipeline: every night all its rows are compared on both sides."""

import hashlib
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pendulum
from airflow.sdk import DAG, Param
from etl.model.pipeline import Pipeline
from etl.model.verification import MODES

from etl_airflow.pods.operator import EtlPodOperator, runs_steps_as_processes

POOL = "verify"
"""One slot: verifications come one after the other and take no slot of a load. etl_airflow.grants creates it."""
_MODE = Param(
    None,
    type=["null", "string"],
    enum=[None, *MODES],
    title="Mode",
    description="Compare key and version (quick) or all columns (deep); without one quick, and deep once a week.",
)
_REPAIR = Param(
    False,
    type="boolean",
    title="Repair",
    description="Bring the rows that no later run would put right from the source again, unless they are too many.",
)
_FIRST_HOUR, _HOURS = 1, 5


def verify_dag(pipeline: Pipeline, *, start_date: pendulum.DateTime, default_args: Mapping[str, Any]) -> DAG:
    """The DAG. Its time of the night and its day of the deep comparison follow from the pipeline's name."""
    minute, hour, day = chosen_time(pipeline.name)
    with DAG(
        dag_id=f"{pipeline.name}_verify",
        description=f"{pipeline.source} = {pipeline.sink} where {pipeline.filter}",
        doc_md=_DOC.format(source=pipeline.source, sink=pipeline.sink, filter=pipeline.filter, name=pipeline.name),
        schedule=f"{minute} {hour} * * *",
        start_date=start_date,
        catchup=False,
        max_active_runs=1,
        dagrun_timeout=timedelta(hours=12),
        tags=["etl", "verify"],
        params={"mode": _MODE, "repair": _REPAIR},
        default_args=dict(default_args),
    ) as dag:
        by_day = f"'deep' if dag_run.run_after.weekday() == {day} else 'quick'"
        EtlPodOperator.for_verification(
            pipeline,
            mode=f"{{{{ params.mode or ({by_day}) }}}}",
            # Beside Airflow as a process, for the demo and for development, only the pool of Airflow itself is there.
            pool="default_pool" if runs_steps_as_processes() else POOL,
        )
    return dag


def chosen_time(name: str) -> tuple[int, int, int]:
    """Minute, hour and day of the week (0 is Monday) of a pipeline, so that not all are verified at once."""
    number = int(hashlib.sha256(name.encode()).hexdigest()[:12], 16)
    return number % 60, _FIRST_HOUR + number // 60 % _HOURS, number // 60 // _HOURS % 7


_DOC = """Compares the rows of `{source}` for which `{filter}` with `{sink}`.
It changes nothing without the Param *repair*.

* Rows that no later run of `{name}_etl` puts right make the run fail. The end of its log says how many there are of
  which kind, with examples; the keys of all of them are in staging.
* Rows that the next run reads anyway are *pending* and no failure.
* Once a week all columns are compared, otherwise key and version. The Param *mode* chooses.
"""
